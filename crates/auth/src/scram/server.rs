//! The server's side of the exchange: proves a client.

use std::fmt;

use subtle::ConstantTimeEq;

use super::attributes::Attributes;
use super::{
    ChannelBinding, KEY_LEN, NONCE_LEN_MAX, ScramError, ScramKeys, Verifier, auth_message,
    check_nonce, decode_key, encode, hmac, message_text, sha256, xor,
};
use crate::random::Nonce;

/// An exchange that has sent server-first and waits for client-final.
pub struct ServerExchange {
    channel_binding: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

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

        let nonce = format!("{}{}", first.nonce, nonce.as_str());
        if nonce.len() > NONCE_LEN_MAX {
            return Err(ScramError::Nonce);
        }
        let server_first = format!("r={nonce},s={},i={iterations}", encode(salt));
        let exchange = Self {
            channel_binding: binding.input(&format!("{},,", first.flag)),
            client_first_bare: first.bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        };
        Ok((exchange, server_first))
    }

    /// Takes the proof out of client-final. Whose it is remains to be [checked](ClientProof::check).
    pub fn proof(self, client_final: &[u8]) -> Result<ClientProof, ScramError> {
        let text = message_text(client_final)?;
        let (without_proof, proof) = text
            .rsplit_once(",p=")
            .ok_or(ScramError::Malformed("the proof is missing"))?;
        let mut attributes = Attributes::new(without_proof);
        let channel_binding = attributes.expect('c')?;
        let nonce = attributes.expect('r')?;
        attributes.ignore_rest()?;

        if channel_binding != self.channel_binding {
            return Err(ScramError::ChannelBinding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        Ok(ClientProof {
            proof: decode_key(proof).ok_or(ScramError::Malformed("the proof is no key"))?,
            auth_message: auth_message(&self.client_first_bare, &self.server_first, without_proof),
        })
    }
}

/// What a client's first message says.
struct ClientFirst<'a> {
    flag: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(text: &'a str) -> Result<Self, ScramError> {
        const HEADER: ScramError = ScramError::Malformed("the header is incomplete");
        let (flag, rest) = text.split_once(',').ok_or(HEADER)?;
        let (authorization_identity, bare) = rest.split_once(',').ok_or(HEADER)?;
        if !authorization_identity.is_empty() {
            return Err(ScramError::AuthorizationIdentity);
        }
        let mut attributes = Attributes::new(bare);
        // The user was named in the startup packet; libpq leaves this one empty.
        let _user = attributes.expect('n')?;
        let nonce = check_nonce(attributes.expect('r')?)?;
        attributes.ignore_rest()?;
        Ok(Self { flag, bare, nonce })
    }
}

/// A client's proof, and what it signs.
pub struct ClientProof {
    proof: [u8; KEY_LEN],
    auth_message: String,
}

impl ClientProof {
    /// Checks the proof against what is stored of the password.
    pub fn check(&self, verifier: &Verifier) -> Result<Accepted, ScramError> {
        let signature = hmac(verifier.stored_key(), self.auth_message.as_bytes());
        let keys = ScramKeys::new(xor(self.proof, &signature), *verifier.server_key());
        let right = sha256(keys.client_key()).ct_eq(verifier.stored_key());
        if !bool::from(right) {
            return Err(ScramError::Proof);
        }
        let signature = hmac(verifier.server_key(), self.auth_message.as_bytes());
        Ok(Accepted {
            keys,
            server_final: format!("v={}", encode(&signature)),
        })
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
