//! The client's side of the exchange: logs in, and makes the server prove itself.

use std::fmt;

use subtle::ConstantTimeEq;

use super::attributes::Attributes;
use super::{
    ChannelBinding, ITERATIONS_MAX, KEY_LEN, ScramError, ScramKeys, auth_message, check_nonce,
    decode_key, decode_salt, encode, hmac, message_text, sha256, xor,
};
use crate::random::Nonce;

/// An exchange that has sent client-first and waits for server-first.
pub struct ClientExchange {
    gs2_header: String,
    client_first_bare: String,
    nonce: Nonce,
    binding: ChannelBinding,
}

impl ClientExchange {
    /// Opens with client-first.
    pub fn begin(nonce: Nonce, binding: ChannelBinding) -> (Self, String) {
        let gs2_header = format!("{},,", binding.client_flag());
        // PostgreSQL takes the user from the startup packet and wants none here.
        let client_first_bare = format!("n=,r={}", nonce.as_str());
        let client_first = format!("{gs2_header}{client_first_bare}");
        let exchange = Self {
            gs2_header,
            client_first_bare,
            nonce,
            binding,
        };
        (exchange, client_first)
    }

    /// Reads server-first.
    pub fn challenged(self, server_first: &[u8]) -> Result<ServerChallenge, ScramError> {
        let server_first = message_text(server_first)?;
        let mut attributes = Attributes::new(server_first);
        let nonce = check_nonce(attributes.expect('r')?)?;
        let salt = decode_salt(attributes.expect('s')?)
            .ok_or(ScramError::Malformed("the salt is not usable"))?;
        let iterations = parse_iterations(attributes.expect('i')?)?;
        attributes.ignore_rest()?;

        // A server that adds nothing of its own could be replaying an old exchange.
        match nonce.strip_prefix(self.nonce.as_str()) {
            None | Some("") => return Err(ScramError::Nonce),
            Some(_) => {}
        }
        let without_proof = format!("c={},r={nonce}", self.binding.input(&self.gs2_header));
        let auth_message = auth_message(&self.client_first_bare, server_first, &without_proof);
        Ok(ServerChallenge {
            salt,
            iterations,
            without_proof,
            auth_message,
        })
    }
}

fn parse_iterations(text: &str) -> Result<u32, ScramError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ScramError::Malformed("the iteration count is no number"));
    }
    let wanted = text.parse().unwrap_or(u64::MAX);
    u32::try_from(wanted)
        .ok()
        .filter(|count| (1..=ITERATIONS_MAX).contains(count))
        .ok_or(ScramError::Iterations(wanted))
}

/// A server's challenge: how the password is to be hashed, and what is to be signed.
pub struct ServerChallenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) without_proof: String,
    pub(super) auth_message: String,
}

impl ServerChallenge {
    /// The salt of the keys to be used.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations of the keys to be used.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Answers with client-final.
    pub fn answer(&self, keys: &ScramKeys) -> (AwaitedSignature, String) {
        let stored_key = sha256(keys.client_key());
        let signature = hmac(&stored_key, self.auth_message.as_bytes());
        let proof = xor(*keys.client_key(), &signature);
        let awaited = AwaitedSignature(hmac(keys.server_key(), self.auth_message.as_bytes()));
        (
            awaited,
            format!("{},p={}", self.without_proof, encode(&proof)),
        )
    }
}

impl fmt::Debug for ServerChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerChallenge(…)")
    }
}

/// The signature that only the right server can send.
pub struct AwaitedSignature([u8; KEY_LEN]);

impl AwaitedSignature {
    /// Reads server-final and compares.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut attributes = Attributes::new(message_text(server_final)?);
        let signature = match attributes.next()? {
            Some(('v', signature)) => {
                decode_key(signature).ok_or(ScramError::Malformed("the signature is no key"))?
            }
            Some(('e', reason)) => return Err(ScramError::Rejected(reason.to_owned())),
            _ => return Err(ScramError::Malformed("the signature is missing")),
        };
        attributes.ignore_rest()?;
        if !bool::from(signature.ct_eq(&self.0)) {
            return Err(ScramError::Signature);
        }
        Ok(())
    }
}
