//! The server's side of the exchange: proves a client.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Range;

use subtle::ConstantTimeEq;

use super::attributes::Attributes;
use super::{
    ChannelBinding, KEY_LEN, NONCE_LEN_MAX, ScramError, ScramKeys, Verifier, check_nonce,
    decode_key, message_text, put_base64, said_first, sha256, xor,
};
use crate::random::Nonce;

/// An exchange that has sent server-first and waits for client-final.
pub struct ServerExchange {
    channel_binding: Cow<'static, str>,
    /// What both sides sign, as far as it has been said.
    said: String,
    /// Where both nonces stand in it.
    nonce: Range<usize>,
}

/// What server-first takes nearly always, in bytes.
const ROOM: usize = 120;

impl ServerExchange {
    /// Answers client-first with server-first.
    pub fn begin(
        client_first: &[u8],
        nonce: &Nonce,
        salt: &[u8],
        iterations: u32,
        binding: &ChannelBinding,
    ) -> Result<(Self, String), ScramError> {
        let first = ClientFirst::parse(message_text(client_first)?)?;
        binding.check_flag(first.flag)?;

        let mut server_first = String::with_capacity(ROOM);
        server_first.push_str("r=");
        let start = server_first.len();
        server_first.push_str(first.nonce);
        server_first.push_str(nonce.as_str());
        let nonce = start..server_first.len();
        if nonce.len() > NONCE_LEN_MAX {
            return Err(ScramError::Nonce);
        }
        server_first.push_str(",s=");
        put_base64(&mut server_first, salt);
        // Writing to memory never fails.
        let _ = write!(server_first, ",i={iterations}");
        let before = first.bare.len().saturating_add(1);
        let exchange = Self {
            channel_binding: binding.input(first.header),
            said: said_first(first.bare, &server_first),
            nonce: nonce.start.saturating_add(before)..nonce.end.saturating_add(before),
        };
        Ok((exchange, server_first))
    }

    /// Takes the proof out of client-final. Whose it is remains to be [checked](ClientProof::check).
    pub fn proof(mut self, client_final: &[u8]) -> Result<ClientProof, ScramError> {
        let text = message_text(client_final)?;
        let last = text.rsplit_once(',');
        let (without_proof, proof) = last
            .and_then(|(front, last)| Some((front, last.strip_prefix("p=")?)))
            .ok_or(ScramError::Malformed("the proof is missing"))?;
        let mut attributes = Attributes::new(without_proof);
        let channel_binding = attributes.expect('c')?;
        let nonce = attributes.expect('r')?;
        attributes.ignore_rest()?;

        if channel_binding != self.channel_binding {
            return Err(ScramError::ChannelBinding);
        }
        if Some(nonce) != self.said.get(self.nonce) {
            return Err(ScramError::Nonce);
        }
        self.said.push_str(without_proof);
        Ok(ClientProof {
            proof: decode_key(proof).ok_or(ScramError::Malformed("the proof is no key"))?,
            auth_message: self.said,
        })
    }
}

/// What a client's first message says.
struct ClientFirst<'a> {
    /// All before the bare message: the flag, and nobody to act as.
    header: &'a str,
    flag: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(text: &'a str) -> Result<Self, ScramError> {
        const HEADER: ScramError = ScramError::Malformed("the header is incomplete");
        let (flag, rest) = text.split_once(',').ok_or(HEADER)?;
        let (authorization_identity, bare) = rest.split_once(',').ok_or(HEADER)?;
        let header = text.strip_suffix(bare).ok_or(HEADER)?;
        if !authorization_identity.is_empty() {
            return Err(ScramError::AuthorizationIdentity);
        }
        let mut attributes = Attributes::new(bare);
        // The user was named in the startup packet; libpq leaves this one empty.
        let _user = attributes.expect('n')?;
        let nonce = check_nonce(attributes.expect('r')?)?;
        attributes.ignore_rest()?;
        Ok(Self {
            header,
            flag,
            bare,
            nonce,
        })
    }
}

/// Bytes of server-final: a signature in base64, and its name.
const SERVER_FINAL_LEN: usize = 46;

/// A client's proof, and what it signs.
pub struct ClientProof {
    proof: [u8; KEY_LEN],
    auth_message: String,
}

impl ClientProof {
    /// Checks the proof against what is stored of the password.
    pub fn check(&self, verifier: &Verifier) -> Result<Accepted, ScramError> {
        let signature = verifier.client_signature(&self.auth_message);
        let keys = ScramKeys::new(xor(self.proof, &signature), *verifier.server_key());
        let right = sha256(keys.client_key()).ct_eq(verifier.stored_key());
        if !bool::from(right) {
            return Err(ScramError::Proof);
        }
        let signature = verifier.server_signature(&self.auth_message);
        let mut server_final = String::with_capacity(SERVER_FINAL_LEN);
        server_final.push_str("v=");
        put_base64(&mut server_final, &signature);
        Ok(Accepted { keys, server_final })
    }
}

/// A client that has proven itself.
pub struct Accepted {
    /// The client's keys: they log in wherever the same verifier is stored.
    pub keys: ScramKeys,
    /// The message that proves us to the client.
    pub server_final: String,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accepted(…)")
    }
}
