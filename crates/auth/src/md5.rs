//! PostgreSQL's MD5 method: a stored hash, and the salted answer to a challenge.

use std::fmt;

use ::md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::Password;

/// The word in front of every hash, stored or sent.
const PREFIX: &[u8] = b"md5";

/// `md5(password ‖ user)` as PostgreSQL stores it: as good as the password to whoever has it.
#[derive(Clone)]
pub struct Md5Secret(Zeroizing<[u8; 32]>);

impl Md5Secret {
    /// Reads `md5` and 32 lower-case hex digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 32] = text.strip_prefix(PREFIX)?.try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then(|| Self(Zeroizing::new(digits)))
    }

    /// The text that PostgreSQL stores.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([PREFIX, &*self.0].concat())
    }

    /// Hashes a password for a user.
    pub fn from_password(password: &Password, user: &str) -> Self {
        Self(hex_md5(password.as_bytes(), user.as_bytes()))
    }

    /// The answer to an MD5 challenge.
    pub fn response(&self, salt: [u8; 4]) -> Md5Response {
        Md5Response(hex_md5(&*self.0, &salt))
    }
}

impl PartialEq for Md5Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Md5Secret {}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(…)")
    }
}

/// The right answer to one MD5 challenge.
pub struct Md5Response(Zeroizing<[u8; 32]>);

impl Md5Response {
    /// Compares with what a client answered.
    pub fn matches(&self, answer: &[u8]) -> bool {
        answer
            .strip_prefix(PREFIX)
            .is_some_and(|digits| digits.ct_eq(&*self.0).into())
    }

    /// The answer as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        [PREFIX, &*self.0].concat()
    }
}

fn hex_md5(text: &[u8], salt: &[u8]) -> Zeroizing<[u8; 32]> {
    let digest = Md5::new().chain_update(text).chain_update(salt).finalize();
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut hex = Zeroizing::new([0; 32]);
    for (digit, nibble) in hex.iter_mut().zip(nibbles) {
        *digit = match nibble {
            0..=9 => b'0'.saturating_add(nibble),
            _ => b'a'.saturating_add(nibble.saturating_sub(10)),
        };
    }
    hex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(secret: &Md5Secret) -> String {
        format!("md5{}", std::str::from_utf8(&*secret.0).unwrap())
    }

    #[test]
    fn a_hash_is_the_one_postgresql_stores() {
        // printf %s secretalice | md5sum
        let secret = Md5Secret::from_password(&Password::new("secret"), "alice");
        assert_eq!(stored(&secret), "md54a0a68b43b6cd5cf266fa02f196e2371");
    }

    #[test]
    fn an_answer_fits_only_its_own_salt() {
        let secret = Md5Secret::from_password(&Password::new("secret"), "alice");
        let right = secret.response([1, 2, 3, 4]);
        // printf '4a0a68b43b6cd5cf266fa02f196e2371\1\2\3\4' | md5sum
        let answer = b"md598a0412b9c31436fc53776e863350083";
        assert_eq!(right.encode(), answer);
        assert!(right.matches(answer));
        assert!(!secret.response([4, 3, 2, 1]).matches(answer));
        for wrong in [&b""[..], b"md5", &answer[3..], &answer[..34]] {
            assert!(!right.matches(wrong));
        }
    }

    proptest! {
        #[test]
        fn another_implementation_agrees(
            password in any::<Vec<u8>>(),
            user in "\\PC{0,20}",
            salt in any::<[u8; 4]>(),
        ) {
            let secret = Md5Secret::from_password(&Password::new(password.clone()), &user);
            prop_assert_eq!(
                stored(&secret),
                postgres_protocol::password::md5(&password, &user)
            );
            let theirs =
                postgres_protocol::authentication::md5_hash(user.as_bytes(), &password, salt);
            prop_assert!(secret.response(salt).matches(theirs.as_bytes()));
            prop_assert_eq!(secret.response(salt).encode(), theirs.as_bytes());
        }
    }
}
