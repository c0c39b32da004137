//! Verifiers: what a server stores of a password, `SCRAM-SHA-256$…`.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    HmacSha256, KEY_LEN, Key, MECHANISM, ScramKeys, decode_key, decode_salt, encode, keyed, sign,
};
use crate::secret::Password;

/// What lets a server recognise a client without knowing the password. Copies share it.
#[derive(Clone)]
pub struct Verifier(Arc<Stored>);

struct Stored {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
    /// HMAC under either key, as far as it goes before there is a message.
    under_stored_key: HmacSha256,
    under_server_key: HmacSha256,
}

impl Verifier {
    pub(crate) fn new(
        iterations: u32,
        salt: &[u8],
        stored_key: [u8; KEY_LEN],
        server_key: [u8; KEY_LEN],
    ) -> Self {
        Self(Arc::new(Stored {
            iterations,
            salt: salt.to_vec(),
            under_stored_key: keyed(&stored_key),
            under_server_key: keyed(&server_key),
            stored_key: Zeroizing::new(stored_key),
            server_key: Zeroizing::new(server_key),
        }))
    }

    /// The verifier of nobody: no key hashes to zeros, so no proof is right.
    pub(crate) fn mock(iterations: u32, salt: &[u8]) -> Self {
        Self::new(iterations, salt, [0; KEY_LEN], [0; KEY_LEN])
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('$');
        let (scheme, cost, keys) = (parts.next()?, parts.next()?, parts.next()?);
        if scheme != MECHANISM || parts.next().is_some() {
            return None;
        }
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self::new(
            parse_iterations(iterations)?,
            &decode_salt(salt)?,
            decode_key(stored_key)?,
            decode_key(server_key)?,
        ))
    }

    /// Derives a verifier: slow, and so a [`Job`](crate::derive::Job) wherever a client waits.
    pub fn from_password(password: &Password, iterations: u32, salt: &[u8]) -> Self {
        ScramKeys::derive(password, salt, iterations).verifier(salt, iterations)
    }

    /// The text that PostgreSQL stores: as good as a login to whoever has it.
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{MECHANISM}${}:{}${}:{}",
            self.0.iterations,
            encode(&self.0.salt),
            encode(&*self.0.stored_key),
            encode(&*self.0.server_key),
        ))
    }

    /// How often the password was hashed.
    pub fn iterations(&self) -> u32 {
        self.0.iterations
    }

    /// What was hashed along with it.
    pub fn salt(&self) -> &[u8] {
        &self.0.salt
    }

    pub(super) fn stored_key(&self) -> &[u8; KEY_LEN] {
        &self.0.stored_key
    }

    pub(super) fn server_key(&self) -> &[u8; KEY_LEN] {
        &self.0.server_key
    }

    /// ClientSignature: what a client's proof hides its key with.
    pub(super) fn client_signature(&self, message: &str) -> [u8; KEY_LEN] {
        sign(self.0.under_stored_key.clone(), message.as_bytes())
    }

    /// ServerSignature: what proves a server.
    pub(super) fn server_signature(&self, message: &str) -> [u8; KEY_LEN] {
        sign(self.0.under_server_key.clone(), message.as_bytes())
    }
}

/// PostgreSQL takes any positive `int`: so do we, since a stored count costs us nothing.
fn parse_iterations(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let iterations: i32 = text.parse().ok().filter(|_| digits)?;
    u32::try_from(iterations).ok().filter(|&count| count > 0)
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let (one, other) = (&*self.0, &*other.0);
        let keys =
            one.stored_key.ct_eq(&*other.stored_key) & one.server_key.ct_eq(&*other.server_key);
        one.iterations == other.iterations && one.salt == other.salt && keys.into()
    }
}

impl Eq for Verifier {}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}
