//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it.
//!
//! ```text
//! client                                            server
//!   gs2 header, n=, r=nonce            ──────▶                      client-first
//!                                      ◀──────  r=nonces, s=, i=    server-first
//!   c=gs2 header, r=nonces, p=proof    ──────▶                      client-final
//!                                      ◀──────  v=signature         server-final
//! ```
//!
//! The proof shows that the client has the ClientKey, of which the server keeps only a hash, the
//! StoredKey; the signature shows that the server has the ServerKey. A server that has seen one
//! proof can compute the ClientKey: this is what lets a pooler log in with its client's keys.

mod attributes;
mod client;
mod saslprep;
mod server;
#[cfg(test)]
mod tests;
mod verifier;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

pub use client::{AwaitedSignature, ClientExchange, ServerChallenge};
pub use server::{Accepted, ClientProof, ServerExchange};
pub use verifier::Verifier;

use crate::secret::Password;

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Its name where the exchange is bound to the connection below.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The longest message of the exchange; PostgreSQL's own limit.
pub const MESSAGE_LEN_MAX: usize = 1024;

/// The longest nonce, both parts together; PostgreSQL's has 48 bytes.
pub const NONCE_LEN_MAX: usize = 512;

/// The longest salt, decoded; PostgreSQL's has 16 bytes.
pub const SALT_LEN_MAX: usize = 256;

/// The most iterations we derive keys for at a stranger's wish: about a second's work.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Bytes of a key, a proof, a signature.
const KEY_LEN: usize = 32;

/// A key that is wiped when dropped.
type Key = Zeroizing<[u8; KEY_LEN]>;

type HmacSha256 = Hmac<Sha256>;

/// The two keys that let one side prove itself to the other, as a client or as a server.
#[derive(Clone)]
pub struct ScramKeys {
    client_key: Key,
    server_key: Key,
}

impl ScramKeys {
    /// Keys that are known already, as those of a take-over.
    pub fn new(client_key: [u8; KEY_LEN], server_key: [u8; KEY_LEN]) -> Self {
        Self {
            client_key: Zeroizing::new(client_key),
            server_key: Zeroizing::new(server_key),
        }
    }

    /// ClientKey: proves a client.
    pub fn client_key(&self) -> &[u8; KEY_LEN] {
        &self.client_key
    }

    /// ServerKey: proves a server.
    pub fn server_key(&self) -> &[u8; KEY_LEN] {
        &self.server_key
    }

    /// Derives the keys of a password: slow, that is what the iterations are for.
    pub(crate) fn derive(password: &Password, salt: &[u8], iterations: u32) -> Self {
        let prepared = saslprep::saslprep(password.as_bytes());
        let mut salted: Key = Zeroizing::new([0; KEY_LEN]);
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations, &mut *salted);
        Self::new(hmac(&*salted, b"Client Key"), hmac(&*salted, b"Server Key"))
    }

    /// What a server stores of these keys.
    pub(crate) fn verifier(&self, salt: &[u8], iterations: u32) -> Verifier {
        let stored_key = sha256(&*self.client_key);
        Verifier::new(iterations, salt, stored_key, *self.server_key)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

/// The only kind of binding that PostgreSQL speaks: to the hash of the server's certificate.
const BINDING_FLAG: &str = "p=tls-server-end-point";

/// What ties an exchange to the TLS connection below it, so that nobody can sit between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// There is nothing to bind to: no TLS, or a certificate for which no hash is defined.
    None,
    /// We could bind, and the exchange does not: the server did not offer it, or the client did not
    /// choose it. Who says so on the client's side is believed only if it is true on ours: someone
    /// between could have taken the offer away.
    Unused,
    /// Bound to this hash of the server's certificate.
    EndPoint(Arc<[u8]>),
}

impl ChannelBinding {
    /// How an exchange with this mechanism is bound, where `end_point` is what could be bound to;
    /// `None` for mechanisms that can't be had.
    pub(crate) fn of(mechanism: &str, end_point: Option<&Arc<[u8]>>) -> Option<Self> {
        match (mechanism, end_point) {
            (MECHANISM, None) => Some(Self::None),
            (MECHANISM, Some(_)) => Some(Self::Unused),
            (MECHANISM_PLUS, Some(hash)) => Some(Self::EndPoint(hash.clone())),
            _ => None,
        }
    }

    /// What a client says about it at the front of its first message.
    fn client_flag(&self) -> &'static str {
        match self {
            Self::None => "n",
            Self::Unused => "y",
            Self::EndPoint(_) => BINDING_FLAG,
        }
    }

    /// Judges what a client said about it: that it can't (`n`), that it could but "you do not offer
    /// it" (`y`), or that it uses it (`p=…`).
    fn check_flag(&self, flag: &str) -> Result<(), ScramError> {
        match (self, flag) {
            (Self::None, "n" | "y") | (Self::Unused, "n") | (Self::EndPoint(_), BINDING_FLAG) => {
                Ok(())
            }
            (Self::Unused, "y") => Err(ScramError::Downgrade),
            _ => Err(ScramError::ChannelBinding),
        }
    }

    /// The `c=` value of a client-final message: the header again, then what is bound to.
    fn input(&self, gs2_header: &str) -> Cow<'static, str> {
        let hash: &[u8] = match (self, gs2_header) {
            // Nearly always.
            (Self::None | Self::Unused, "n,,") => return "biws".into(),
            (Self::None | Self::Unused, _) => &[],
            (Self::EndPoint(hash), _) => hash,
        };
        BASE64_STANDARD
            .encode([gs2_header.as_bytes(), hash].concat())
            .into()
    }
}

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScramError {
    /// A message that is not what the RFC describes.
    #[error("malformed SCRAM message ({0})")]
    Malformed(&'static str),
    /// A mandatory extension: there is none that we know.
    #[error("the peer requires an unsupported SCRAM extension")]
    Extension,
    /// A client that wants to act as someone else.
    #[error("an authorization identity is not supported")]
    AuthorizationIdentity,
    /// A client that asks for a binding we do not offer, is bound to something else, or contradicts
    /// itself about it.
    #[error("channel binding check failed")]
    ChannelBinding,
    /// A client that has not seen our offer to bind.
    #[error("the client thinks that channel binding is not offered, though it is")]
    Downgrade,
    /// A nonce that is empty, too long, or not the one agreed on.
    #[error("SCRAM nonce mismatch")]
    Nonce,
    /// A server that wants no iterations, or more than [`ITERATIONS_MAX`].
    #[error("SCRAM iteration count {0} is out of range")]
    Iterations(u64),
    /// A client that does not have the key.
    #[error("wrong SCRAM proof")]
    Proof,
    /// A server that does not have the key.
    #[error("wrong SCRAM server signature")]
    Signature,
    /// A server that ended the exchange, with its reason.
    #[error("the server ended the SCRAM exchange: {0:?}")]
    Rejected(String),
}

/// A message as text, within its bound.
fn message_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(ScramError::Malformed("too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// A nonce within its bounds: printable, no comma.
fn check_nonce(nonce: &str) -> Result<&str, ScramError> {
    let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if nonce.is_empty() || nonce.len() > NONCE_LEN_MAX || !printable {
        return Err(ScramError::Nonce);
    }
    Ok(nonce)
}

/// A salt in base64, within its bounds.
fn decode_salt(text: &str) -> Option<Vec<u8>> {
    let salt = BASE64_STANDARD.decode(text).ok()?;
    (1..=SALT_LEN_MAX).contains(&salt.len()).then_some(salt)
}

/// A key, a proof or a signature in base64.
fn decode_key(text: &str) -> Option<[u8; KEY_LEN]> {
    // Four letters are three bytes.
    let mut bytes = Zeroizing::new([0; KEY_LEN.next_multiple_of(3)]);
    let len = BASE64_STANDARD.decode_slice(text, &mut *bytes).ok()?;
    bytes.get(..len)?.try_into().ok()
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    put_base64(&mut text, bytes);
    text
}

/// Appends bytes in base64.
pub(crate) fn put_base64(out: &mut String, bytes: &[u8]) {
    // Keys and what is shorter: nearly all.
    let mut short = [0; KEY_LEN.div_ceil(3) * 4];
    let len = BASE64_STANDARD.encode_slice(bytes, &mut short);
    let text = len.ok().and_then(|len| short.get(..len));
    match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => out.push_str(text),
        None => BASE64_STANDARD.encode_string(bytes, out),
    }
}

/// The text that both sides sign: three messages without the proof.
fn auth_message(client_first_bare: &str, server_first: &str, without_proof: &str) -> String {
    let mut said = said_first(client_first_bare, server_first);
    said.push_str(without_proof);
    said
}

/// The front of it, with room for the rest, which repeats the nonce and says little more.
fn said_first(client_first_bare: &str, server_first: &str) -> String {
    let first = [client_first_bare, ",", server_first, ","];
    let len: usize = first.iter().map(|part| part.len()).sum();
    let mut said = String::with_capacity(len.saturating_add(server_first.len()));
    said.extend(first);
    said
}

/// HMAC-SHA-256 under a key, before any message.
fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// The HMAC of a message.
fn sign(keyed: HmacSha256, message: &[u8]) -> [u8; KEY_LEN] {
    keyed.chain_update(message).finalize().into_bytes().into()
}

/// The HMAC of a message under a key.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; KEY_LEN] {
    sign(keyed(key), message)
}

fn sha256(message: &[u8]) -> [u8; KEY_LEN] {
    Sha256::digest(message).into()
}

fn xor(mut one: [u8; KEY_LEN], other: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    for (byte, mask) in one.iter_mut().zip(other) {
        *byte ^= mask;
    }
    one
}
