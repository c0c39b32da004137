//! A TCP socket and its records: reads and writes text.
//!
//! This is the one file that stands between sockets and the TLS library's records.

use std::io;
use std::task::{Context, Poll, ready};

use events::Socket;

use super::records::{Records, Session, TEXT_MAX};
use super::{HandshakeError, Secured};

/// Bytes read at once where the reader lends too little room to decrypt in.
const READ_ASIDE: usize = TEXT_MAX + 2048;

/// Most text that is encrypted before the socket must take some of it.
const WRITE_MAX: usize = 4 * TEXT_MAX;

/// An encrypted connection, or one whose handshake is under way.
#[derive(Debug)]
pub struct TlsStream {
    tcp: Socket,
    records: Records,
    secured: Option<Box<Secured>>,
}

/// An encrypted connection on its way to another event loop.
#[derive(Debug)]
pub struct ParkedTls {
    tcp: std::net::TcpStream,
    records: Records,
    secured: Option<Box<Secured>>,
}

impl TlsStream {
    /// Begins a handshake with what has arrived already.
    pub(super) fn new(tcp: Socket, session: Session, arrived: Vec<u8>) -> Self {
        Self {
            tcp,
            records: Records::new(session, arrived),
            secured: None,
        }
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &Socket {
        &self.tcp
    }

    /// What was agreed on; `None` while the handshake is under way.
    pub(crate) fn secured(&self) -> Option<&Secured> {
        self.secured.as_deref()
    }

    pub(crate) fn park(self) -> io::Result<ParkedTls> {
        let (records, secured) = (self.records, self.secured);
        let tcp = self.tcp.into_fd()?.into();
        Ok(ParkedTls {
            tcp,
            records,
            secured,
        })
    }

    pub(crate) fn unpark(parked: ParkedTls) -> io::Result<Self> {
        let ParkedTls {
            tcp,
            records,
            secured,
        } = parked;
        let tcp = Socket::new(tcp.into())?;
        Ok(Self {
            tcp,
            records,
            secured,
        })
    }

    /// Takes the handshake to its end, which `conclude` looks at.
    pub(super) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        conclude: impl FnOnce(&rustls::CommonState) -> Result<Secured, HandshakeError>,
    ) -> Poll<Result<(), HandshakeError>> {
        let result = self.poll_agreement(cx, conclude);
        if let Poll::Ready(Err(HandshakeError::Tls(_))) = result {
            // The alert that says why; whether it arrives changes nothing here.
            let _ = self.try_flush();
        }
        result
    }

    fn poll_agreement(
        &mut self,
        cx: &mut Context<'_>,
        conclude: impl FnOnce(&rustls::CommonState) -> Result<Secured, HandshakeError>,
    ) -> Poll<Result<(), HandshakeError>> {
        self.records.advance().map_err(HandshakeError::Tls)?;
        loop {
            ready!(self.poll_flush(cx)).map_err(HandshakeError::Io)?;
            if !self.records.agreed().is_handshaking() {
                let secured = conclude(self.records.agreed())?;
                self.secured = Some(Box::new(secured));
                return Poll::Ready(Ok(()));
            }
            if self.records.is_ended() {
                let gone = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Err(HandshakeError::Io(gone)));
            }
            ready!(self.poll_receive(cx, &mut []))?;
        }
    }

    /// Reads text into `buffer`; 0 bytes mean the end. A peer that closes without a farewell is at
    /// its end, too: the protocol above knows whether anything is missing.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(count) = self.records.read(buffer) {
                return Poll::Ready(Ok(count));
            }
            let received = ready!(self.poll_receive(cx, buffer));
            // Answers of the TLS protocol itself, which nobody else would send.
            let _ = self.poll_flush(cx)?;
            match received {
                Ok(0) => {}
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Reads from the socket once. Returns how much text stands in `buffer`; what has no room
    /// there is kept.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, HandshakeError>> {
        let tcp = &self.tcp;
        if buffer.len() < self.records.partial().len() + TEXT_MAX + READ_ASIDE {
            ready!(tcp.poll_readable(cx));
        }
        let mut read = |room: &mut [u8]| tcp.poll_read(cx, room);
        receive(&mut self.records, buffer, &mut read)
    }

    /// Writes as much as the socket takes, or `WRITE_MAX`, and a rest that it did not take
    /// remains to be flushed.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        text: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let count = self.seal(text)?;
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(count))
    }

    /// The same without waiting for room.
    pub(crate) fn try_write(&mut self, text: &[u8]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.seal(text)?;
        self.try_flush()?;
        Ok(count)
    }

    fn seal(&mut self, text: &[u8]) -> io::Result<usize> {
        let count = text.len().min(WRITE_MAX);
        self.records.seal(&text[..count]).map_err(broken)?;
        Ok(count)
    }

    /// True if the socket took all that was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.records.sealed().is_empty() && self.tcp.is_flushed()
    }

    /// Sends what the socket has not taken yet.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.records.sealed().is_empty() {
            let count = ready!(self.tcp.poll_write(cx, self.records.sealed()))?;
            self.records.sent(count);
        }
        self.tcp.poll_flush(cx)
    }

    /// The same without waiting for room; true if nothing is left.
    fn try_flush(&mut self) -> io::Result<bool> {
        while !self.records.sealed().is_empty() {
            match self.tcp.try_write(self.records.sealed()) {
                Ok(count) => self.records.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(self.tcp.is_flushed())
    }

    /// Ready when something may be there to read.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.records.has_text() || self.records.is_ended() {
            return Poll::Ready(());
        }
        self.tcp.poll_readable(cx)
    }

    pub(crate) fn may_be_readable(&self) -> bool {
        self.records.has_text() || self.records.is_ended() || self.tcp.may_be_readable()
    }

    /// True when the other side has closed and nothing is left to read. Looks into what has
    /// arrived, since a farewell is encrypted like everything else.
    pub(crate) fn is_at_end(&mut self) -> bool {
        while !self.records.has_text() && !self.records.is_ended() {
            let tcp = &self.tcp;
            let mut read = |room: &mut [u8]| match tcp.try_read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            };
            match receive(&mut self.records, &mut [], &mut read) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => return false,
            }
        }
        !self.records.has_text()
    }

    /// Says farewell as far as the socket takes it now.
    pub(crate) fn farewell(&mut self) {
        // Nobody is owed more than an attempt.
        if self.records.seal_farewell().is_ok() {
            let _ = self.try_flush();
        }
    }

    /// Says farewell, and ends our side of the socket.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        if self.records.seal_farewell().is_ok() {
            std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        }
        self.tcp.shutdown().await
    }
}

/// Reads once into the room that `buffer` has behind a gap for text, or aside if it is too small.
/// Returns how much text stands in `buffer`.
fn receive(
    records: &mut Records,
    buffer: &mut [u8],
    read: &mut impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<Result<usize, HandshakeError>> {
    let held = records.partial().len();
    let mut aside = Vec::new();
    let (space, gap) = if buffer.len() >= TEXT_MAX + held + READ_ASIDE {
        (buffer, TEXT_MAX)
    } else {
        aside.resize(held + READ_ASIDE, 0);
        (aside.as_mut_slice(), 0)
    };
    let start = gap + held;
    space[gap..start].copy_from_slice(records.partial());
    let count = match ready!(read(&mut space[start..])) {
        Ok(0) => {
            records.end();
            return Poll::Ready(Ok(0));
        }
        Ok(count) => count,
        Err(error) => {
            records.end();
            return Poll::Ready(Err(HandshakeError::Io(error)));
        }
    };
    let taken = records.take_in(&mut space[..start + count], gap);
    Poll::Ready(taken.map_err(HandshakeError::Tls))
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
