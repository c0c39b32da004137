//! Randomness, always given: fresh from the system in the process, fixed in a test.

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use crate::scram;

/// One side's part of a SCRAM nonce: as long as PostgreSQL's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Random bytes in one nonce.
    pub const LEN: usize = 18;

    /// A nonce of the given bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(BASE64_STANDARD.encode(bytes))
    }

    /// A nonce of the given text, for the examples of an RFC.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A nonce never seen before.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        random().map(Self::from_bytes)
    }

    /// The nonce as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The randomness of one login of a client.
#[derive(Debug, Clone)]
pub struct Entropy {
    /// The salt of an MD5 challenge.
    pub md5_salt: [u8; 4],
    /// Our part of a SCRAM nonce.
    pub nonce: Nonce,
}

impl Entropy {
    /// Randomness for one more login.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        // Asking the system once costs half as much as asking twice.
        let [a, b, c, d, nonce @ ..] = random::<{ 4 + Nonce::LEN }>()?;
        Ok(Self {
            md5_salt: [a, b, c, d],
            nonce: Nonce::from_bytes(nonce),
        })
    }
}

/// The key from which a process draws the SCRAM salts that no verifier gives it.
///
/// A user's salt stays the same for the life of the process, whether there is such a user, only a
/// password in clear, or nobody: so salts do not tell which names exist.
#[derive(Clone)]
pub struct SaltKey(Zeroizing<[u8; 32]>);

impl SaltKey {
    /// Bytes in a salt: as many as in PostgreSQL's own.
    pub const SALT_LEN: usize = 16;

    /// A key of the given bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key of a new process.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        random().map(Self::from_bytes)
    }

    /// The salt of a user.
    pub fn salt_for(&self, user: &str) -> [u8; Self::SALT_LEN] {
        let [salt @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            scram::hmac(&*self.0, user.as_bytes());
        salt
    }
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_the_salt_while_the_process_lives() {
        let key = SaltKey::from_bytes([7; 32]);
        assert_eq!(key.salt_for("alice"), key.clone().salt_for("alice"));
        assert_ne!(key.salt_for("alice"), key.salt_for("bob"));
        assert_ne!(
            key.salt_for("alice"),
            SaltKey::from_bytes([8; 32]).salt_for("alice")
        );
    }

    #[test]
    fn fresh_randomness_does_not_repeat() {
        let (one, other) = (Entropy::fresh().unwrap(), Entropy::fresh().unwrap());
        assert_ne!(one.nonce, other.nonce);
        let (one, other) = (SaltKey::fresh().unwrap(), SaltKey::fresh().unwrap());
        assert_ne!(one.salt_for("alice"), other.salt_for("alice"));
    }
}
