//! Frames: a tag, a length, a body; and walking a stream of them that arrives in pieces.

use thiserror::Error;

/// Why a peer's bytes are not the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A length that is shorter than itself, or longer than allowed.
    #[error("bad packet header: '{0}'")]
    Header(String),
    /// A body that ends too early or holds what it must not.
    #[error("malformed {0} message")]
    Body(&'static str),
    /// A message type that has no business here.
    #[error("unexpected message type {:?}", char::from(*.0))]
    Unexpected(u8),
}

/// The five bytes in front of every message after the startup packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The message type.
    pub tag: u8,
    /// Bytes of body behind the header.
    pub body_len: usize,
}

impl FrameHeader {
    /// Tag and length.
    pub const LEN: usize = 5;

    /// Reads the header at the front of `bytes`; `None` asks for more bytes.
    pub fn peek(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        match bytes.first_chunk() {
            Some(front) => Self::read(*front).map(Some).ok_or_else(|| Self::bad(bytes)),
            None => Ok(None),
        }
    }

    /// Reads a header; `None` is one that can't be.
    pub(crate) fn read([tag, a, b, c, d]: [u8; Self::LEN]) -> Option<Self> {
        let len = u32::from_be_bytes([a, b, c, d]);
        // The length counts itself, but not the tag. Lengths are signed on the wire.
        let body_len = len.checked_sub(4).filter(|_| len <= i32::MAX as u32)?;
        Some(Self {
            tag,
            body_len: body_len as usize,
        })
    }

    /// Header and body together, in bytes.
    pub fn frame_len(self) -> usize {
        Self::LEN.saturating_add(self.body_len)
    }

    /// The error that shows the header's bytes in hex, as PgBouncer's log does.
    pub fn bad(bytes: &[u8]) -> ProtocolError {
        let hex = bytes
            .iter()
            .take(Self::LEN)
            .fold(String::new(), |mut hex, byte| {
                hex.push(digit(byte >> 4));
                hex.push(digit(byte & 15));
                hex
            });
        ProtocolError::Header(hex)
    }
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('?')
}

/// Where in its current frame a stream stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scanner {
    owed: usize,
}

impl Scanner {
    /// Passes over what `bytes` holds of a frame entered earlier; returns how many bytes that is.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let passed = self.owed.min(bytes.len());
        self.owed = self.owed.saturating_sub(passed);
        passed
    }

    /// Enters the frame at the front of `bytes`; returns how many bytes of it are here.
    pub fn enter(&mut self, header: FrameHeader, bytes: &[u8]) -> usize {
        debug_assert!(self.at_boundary());
        let here = header.frame_len().min(bytes.len());
        self.owed = header.frame_len().saturating_sub(here);
        here
    }

    /// Enters a frame whose front is dealt with, behind which that many bytes are still owed.
    pub fn owe(&mut self, owed: usize) {
        debug_assert!(self.at_boundary());
        self.owed = owed;
    }

    /// True between two frames.
    pub fn at_boundary(&self) -> bool {
        self.owed == 0
    }
}

/// The part of the body of the frame at the front of `bytes` that is here already.
pub fn body_here(header: FrameHeader, bytes: &[u8]) -> &[u8] {
    let body = bytes.get(FrameHeader::LEN..).unwrap_or_default();
    body.get(..header.body_len).unwrap_or(body)
}

/// A frame: header, body, and what follows it.
pub type Whole<'a> = (FrameHeader, &'a [u8], &'a [u8]);

/// Reads a whole frame at the front of `bytes`; `None` asks for more bytes.
pub fn whole(bytes: &[u8]) -> Result<Option<Whole<'_>>, ProtocolError> {
    let Some(header) = FrameHeader::peek(bytes)? else {
        return Ok(None);
    };
    Ok(bytes
        .split_at_checked(header.frame_len())
        .map(|(frame, rest)| (header, body_here(header, frame), rest)))
}

/// Appends a message: `fill` writes the body, the length is set afterwards.
pub fn put(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    put_untagged(out, fill);
}

/// Appends a message without a tag, as the startup packets are.
pub fn put_untagged(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *slot = len.to_be_bytes();
    }
}

/// Appends a string and its terminator; a NUL inside ends the string early.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.extend_from_slice(text.get(..end).unwrap_or(text));
    out.push(0);
}

/// Splits a NUL-terminated string off the front; `None` if the terminator is missing.
pub fn take_str(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names in messages are empty, mostly.
    let end = match bytes.first()? {
        0 => 0,
        _ => memchr::memchr(0, bytes)?,
    };
    Some((bytes.get(..end)?, bytes.get(end.saturating_add(1)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_shorter_than_itself_is_refused_and_shown() {
        let error = FrameHeader::peek(b"Q\0\0\0\x03").unwrap_err();
        assert_eq!(error.to_string(), "bad packet header: '5100000003'");
        assert!(FrameHeader::peek(b"Q\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn a_split_header_asks_for_more() {
        assert_eq!(FrameHeader::peek(b"Q\0\0\0"), Ok(None));
    }

    #[test]
    fn the_scanner_knows_what_is_still_owed() {
        let mut scanner = Scanner::default();
        let frame = b"D\0\0\0\x08abcd";
        let header = FrameHeader::peek(frame).unwrap().unwrap();
        assert_eq!(scanner.enter(header, &frame[..7]), 7);
        assert!(!scanner.at_boundary());
        assert_eq!(scanner.pass(b"cdZ"), 2);
        assert!(scanner.at_boundary());
    }

    #[test]
    fn put_sets_the_length_and_strings_end_at_nul() {
        let mut out = Vec::new();
        put(&mut out, b'Q', |body| put_str(body, "ab\0c"));
        assert_eq!(out, b"Q\0\0\0\x07ab\0");
        assert_eq!(whole(&out).unwrap().unwrap().1, b"ab\0");
    }
}
