//! Randomness, always given: fresh from the system in the process, fixed in a test.

use std::cell::RefCell;

use zeroize::{Zeroize, Zeroizing};

use crate::scram;

/// One side's part of a SCRAM nonce: as long as PostgreSQL's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Random bytes in one nonce.
    pub const LEN: usize = 18;

    /// A nonce of the given bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let mut text = String::new();
        scram::put_base64(&mut text, &bytes);
        Self(text)
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

/// Random bytes that the system gave a thread in advance: to ask it costs more than to be given some
/// hundreds. Each is used once, and wiped. (The child of a process that forks has them, too: ours forks
/// before the first is fetched.)
struct Store {
    bytes: Zeroizing<[u8; STORE_LEN]>,
    left: usize,
}

const STORE_LEN: usize = 512;

thread_local! {
    static STORE: RefCell<Store> = RefCell::new(Store {
        bytes: Zeroizing::new([0; STORE_LEN]),
        left: 0,
    });
}

impl Store {
    fn fill(&mut self, wanted: &mut [u8]) -> Result<(), getrandom::Error> {
        if self.left < wanted.len() {
            getrandom::fill(&mut *self.bytes)?;
            self.left = STORE_LEN;
        }
        let start = self.left.saturating_sub(wanted.len());
        match self.bytes.get_mut(start..self.left) {
            Some(bytes) if bytes.len() == wanted.len() => {
                wanted.copy_from_slice(bytes);
                bytes.zeroize();
                self.left = start;
                Ok(())
            }
            // More than there ever is.
            _ => getrandom::fill(wanted),
        }
    }
}

/// Random bytes, fresh from the system or given to this thread in advance.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    // A thread at its end has no store any more.
    STORE
        .try_with(|store| store.borrow_mut().fill(&mut bytes))
        .unwrap_or_else(|_| getrandom::fill(&mut bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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

    #[test]
    fn what_is_fetched_in_advance_is_given_once_on_any_thread() {
        let draw = || {
            (0..200)
                .map(|_| random::<18>().unwrap())
                .collect::<Vec<_>>()
        };
        let threads = [std::thread::spawn(draw), std::thread::spawn(draw)];
        let mut seen = HashSet::new();
        for bytes in threads.into_iter().flat_map(|it| it.join().unwrap()) {
            assert!(seen.insert(bytes));
        }
        STORE.with_borrow_mut(|store| {
            store.left = 20;
            store.bytes.fill(7);
        });
        assert_eq!(random::<18>().unwrap(), [7; 18]);
        assert_ne!(
            random::<18>().unwrap(),
            [7; 18],
            "two of them are left, and zeros"
        );
        assert_ne!(random::<{ STORE_LEN + 1 }>().unwrap(), [0; STORE_LEN + 1]);
    }
}
