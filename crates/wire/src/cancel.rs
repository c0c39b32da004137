//! Cancel keys: what BackendKeyData gives and CancelRequest brings back.

use std::fmt;
use std::sync::Arc;

use crate::frame::put_untagged;

/// The code that marks a CancelRequest packet.
pub const CANCEL_REQUEST: u32 = 80_877_102;

/// Bytes of the process id.
const PROCESS_ID_LEN: usize = 4;
/// Shortest and longest secret behind it, in bytes.
const SECRET_LEN: std::ops::RangeInclusive<usize> = 4..=256;
/// A whole key, as protocol 3.0 has it.
const SHORT_LEN: usize = 8;

/// Process id and secret, as one piece.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey(Arc<[u8]>);

impl CancelKey {
    /// Random bytes that a key for a client is made of.
    pub const RANDOM_LEN: usize = 36;

    /// A key for a client of this minor version of protocol 3. The top bit stays clear: some
    /// drivers read the process id as a signed number and print it.
    ///
    /// PgBouncer's peers tell by bytes 1 and 2 whose client it is, and by the lowest two bits of
    /// byte 7 how often the request may be passed on. All of them are in the front, which keys of
    /// either length have, and random as long as there are no peers.
    pub fn from_random(mut random: [u8; Self::RANDOM_LEN], minor: u16) -> Self {
        let [first, ..] = &mut random;
        *first &= 0x7f;
        let len = if minor >= 2 {
            Self::RANDOM_LEN
        } else {
            SHORT_LEN
        };
        Self(random.get(..len).unwrap_or_default().into())
    }

    /// Reads a key that somebody sent; `None` if its length can't be.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let secret_len = bytes.len().checked_sub(PROCESS_ID_LEN)?;
        SECRET_LEN.contains(&secret_len).then(|| Self(bytes.into()))
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same key behind another process id.
    pub fn with_process_id(&self, id: u32) -> Self {
        let secret = self.0.get(PROCESS_ID_LEN..).unwrap_or_default();
        Self([&id.to_be_bytes(), secret].concat().into())
    }

    /// The process id in front of the secret.
    pub fn process_id(&self) -> u32 {
        let front = self.0.first_chunk();
        u32::from_be_bytes(front.copied().unwrap_or_default())
    }

    /// The CancelRequest packet that carries this key.
    pub fn request(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_untagged(&mut out, |body| {
            body.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
            body.extend_from_slice(&self.0);
        });
        out
    }
}

/// Shows the process id only: the rest is a secret.
impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey(pid {})", self.process_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_as_long_a_key_as_their_protocol_has() {
        let lens = [0, 1, 2].map(|minor| {
            let key = CancelKey::from_random([255; 36], minor);
            assert_eq!(key.process_id() >> 31, 0);
            assert_eq!(CancelKey::parse(key.as_bytes()), Some(key.clone()));
            key.as_bytes().len()
        });
        assert_eq!(lens, [8, 8, 36]);
    }

    #[test]
    fn keys_of_other_lengths_than_can_be_are_none() {
        let is_key = |len: usize| CancelKey::parse(&vec![1; len]).is_some();
        assert_eq!([7, 8, 260, 261].map(is_key), [false, true, true, false]);
        assert!(!is_key(0));
    }

    #[test]
    fn a_key_does_not_tell_its_secret_by_accident() {
        let key = CancelKey::parse(b"\0\0\0\x07secret").unwrap();
        assert_eq!(format!("{key:?}"), "CancelKey(pid 7)");
    }
}
