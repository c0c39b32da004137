//! The receiving end of a socket: bytes in, messages out.

use std::{io, sync::Arc};

use crate::{
    address::Socket,
    message::{Message, Side, Startup},
};

/// What has arrived and is not yet read. Every wait may be cancelled without loss.
pub(crate) struct Inbox {
    socket: Arc<Socket>,
    from: Side,
    pub(crate) buffer: Vec<u8>,
}

/// How far we read ahead only to see whether the peer is still there.
const AHEAD_MAX: usize = 1 << 20;

impl Inbox {
    pub(crate) fn new(socket: Arc<Socket>, from: Side) -> Self {
        Self {
            socket,
            from,
            buffer: Vec::new(),
        }
    }

    /// The next message; `None` when the peer has closed.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = Message::take(self.from, &mut self.buffer) {
                return Ok(Some(message));
            }
            if self.socket.read(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The packet that starts a connection; `None` when there will be none.
    pub(crate) async fn startup(&mut self) -> io::Result<Option<Startup>> {
        loop {
            if let Some(startup) = Startup::take(&mut self.buffer) {
                return Ok(startup);
            }
            if self.socket.read(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A single byte, as TLS requests are answered; `None` when the peer has closed.
    pub(crate) async fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.buffer.is_empty() && self.socket.read(&mut self.buffer).await? == 0 {
            return Ok(None);
        }
        Ok(Some(self.buffer.remove(0)))
    }

    /// Returns when the peer closes; what it sends until then is kept.
    pub(crate) async fn peer_gone(&mut self) {
        while self.buffer.len() < AHEAD_MAX {
            if !matches!(self.socket.read(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Is a whole message waiting?
    pub(crate) fn has_more(&self) -> bool {
        let Some((&[_, a, b, c, d], rest)) = self.buffer.split_first_chunk() else {
            return false;
        };
        rest.len() + 4 >= u32::from_be_bytes([a, b, c, d]) as usize
    }
}
