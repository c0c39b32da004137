//! Cancel keys: what BackendKeyData gives and CancelRequest brings back.

use std::fmt;

use crate::frame::put_untagged;

/// Process id and secret, as protocol 3.0 has them: eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CancelKey(pub [u8; 8]);

/// The code that marks a CancelRequest packet.
pub const CANCEL_REQUEST: u32 = 80_877_102;

impl CancelKey {
    /// A key for a client from eight random bytes. The top bit stays clear: some drivers read the
    /// process id as a signed number and print it.
    pub fn from_random([first, rest @ ..]: [u8; 8]) -> Self {
        let [b, c, d, e, f, g, h] = rest;
        Self([first & 0x7f, b, c, d, e, f, g, h])
    }

    /// The same key behind another process id.
    pub fn with_process_id(self, id: u32) -> Self {
        let [_, _, _, _, e, f, g, h] = self.0;
        let [a, b, c, d] = id.to_be_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// The process id in front of the secret.
    pub fn process_id(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The CancelRequest packet that carries this key.
    pub fn request(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
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
