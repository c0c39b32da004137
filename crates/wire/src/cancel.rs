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
/// The bytes that tell whose client it is, the low one first.
const PEER_ID: std::ops::Range<usize> = 1..3;
/// The byte whose lowest bits tell how often a request may still be passed on.
const HOPS: usize = 7;
/// Those bits.
const HOPS_MASK: u8 = 0b11;

/// Process id and secret, as one piece.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey(Arc<[u8]>);

impl CancelKey {
    /// Random bytes that a key for a client is made of.
    pub const RANDOM_LEN: usize = 36;

    /// A key for a client of this minor version of protocol 3. The top bit stays clear: some
    /// drivers read the process id as a signed number and print it.
    ///
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

    /// The same key for a client of the process that its peers know by this id.
    ///
    /// PgBouncer's peers tell by bytes 1 and 2 whose client it is, and by the lowest two bits of
    /// byte 7 how often the request may be passed on. All of them are in the front, which keys of
    /// either length have, and random as long as there are no peers.
    pub fn of_peer(&self, id: u16) -> Self {
        self.edited(|bytes| {
            if let Some(place) = bytes.get_mut(PEER_ID) {
                place.copy_from_slice(&id.to_le_bytes());
            }
            set_hops(bytes, HOPS_MASK);
        })
    }

    /// The id of the peer whose client it is, if it is of a process that has peers.
    pub fn peer_id(&self) -> u16 {
        let place = self.0.get(PEER_ID).and_then(|place| place.try_into().ok());
        u16::from_le_bytes(place.unwrap_or_default())
    }

    /// What is passed on to a peer; `None` if that was done too often, so that no request circles
    /// for ever.
    pub fn passed_on(&self) -> Option<Self> {
        let hops = self.0.get(HOPS)? & HOPS_MASK;
        let left = hops.checked_sub(1)?;
        Some(self.edited(|bytes| set_hops(bytes, left)))
    }

    /// The key as the client was given it, however often the request was passed on.
    pub fn as_given(&self) -> Self {
        self.edited(|bytes| set_hops(bytes, HOPS_MASK))
    }

    fn edited(&self, edit: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = self.0.to_vec();
        edit(&mut bytes);
        Self(bytes.into())
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

fn set_hops(key: &mut [u8], hops: u8) {
    if let Some(byte) = key.get_mut(HOPS) {
        *byte = *byte & !HOPS_MASK | hops;
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
    fn a_key_tells_whose_client_it_is_and_is_passed_on_three_times() {
        for minor in [0, 2] {
            let given = CancelKey::from_random([0x5a; 36], minor).of_peer(0x3f12);
            assert_eq!(
                given.as_bytes()[..8],
                [0x5a, 0x12, 0x3f, 0x5a, 0x5a, 0x5a, 0x5a, 0x5b]
            );
            assert_eq!(given.as_given(), given);
            let mut key = given.clone();
            for _ in 0..3 {
                key = key.passed_on().unwrap();
                assert_eq!((key.peer_id(), key.as_given()), (0x3f12, given.clone()));
            }
            assert_eq!(key.passed_on(), None);
        }
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
