//! Messages of PostgreSQL's protocol, made and read independently of pgusher's own code.

mod client;
mod print;
mod server;
mod startup;
#[cfg(test)]
mod tests;

pub use print::transcript;
pub use server::{ErrorFields, Tx};
pub use startup::{CancelKey, Startup, startup_packet, startup_packet_of};

/// Who says it: several tags mean different things in the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client.
    Client,
    /// A server.
    Server,
}

/// A message with a tag; `{}` prints it for people.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub side: Side,
    /// Its type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl Message {
    /// Any message that a client may send.
    pub fn client(tag: u8, body: impl Into<Vec<u8>>) -> Self {
        Self {
            side: Side::Client,
            tag,
            body: body.into(),
        }
    }

    /// Any message that a server may send.
    pub fn server(tag: u8, body: impl Into<Vec<u8>>) -> Self {
        Self {
            side: Side::Server,
            tag,
            body: body.into(),
        }
    }

    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + self.body.len());
        self.encode_into(&mut bytes);
        bytes
    }

    /// As it travels, after what is there already.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.tag);
        put_len(bytes, self.body.len() + 4);
        bytes.extend_from_slice(&self.body);
    }

    /// Takes the first message off `bytes`, if it is all there.
    pub fn take(side: Side, bytes: &mut Vec<u8>) -> Option<Self> {
        let (&[tag, a, b, c, d], rest) = bytes.split_first_chunk()?;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!(
            len >= 4,
            "{side:?} sent {:?} with the length {len}",
            char::from(tag)
        );
        let body = rest.get(..len - 4)?.to_vec();
        bytes.drain(..=len);
        Some(Self { side, tag, body })
    }
}

/// Puts messages into one piece, to be sent in one write.
pub(crate) fn encode_all<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages
        .into_iter()
        .for_each(|message| message.encode_into(&mut bytes));
    bytes
}

pub(crate) fn put_len(bytes: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("test messages are shorter than 4 GB");
    bytes.extend_from_slice(&len.to_be_bytes());
}

pub(crate) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("test messages have fewer than 65536 parts");
    bytes.extend_from_slice(&count.to_be_bytes());
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

/// Values as DataRow and Bind write them: a length and the bytes, -1 for NULL.
pub(crate) fn put_values(bytes: &mut Vec<u8>, values: &[Option<&str>]) {
    put_count(bytes, values.len());
    for value in values {
        match value {
            Some(text) => {
                put_len(bytes, text.len());
                bytes.extend_from_slice(text.as_bytes());
            }
            None => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
}

/// Reads a body from its front; what is not there reads as `None`.
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(bytes))
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(bytes))
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn values(&mut self) -> Option<Vec<Option<String>>> {
        let count = self.u16()?;
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Option<Option<String>> {
        match usize::try_from(self.i32()?) {
            Ok(len) => Some(Some(String::from_utf8_lossy(self.bytes(len)?).into_owned())),
            Err(_null) => Some(None),
        }
    }
}
