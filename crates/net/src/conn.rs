//! A socket with what was read and not yet understood, and what was said and not yet sent.
//!
//! Reading goes through a buffer that the worker lends; a connection keeps only the rest of a
//! message cut in two (`held`) and what its peer does not take yet (`unsent`). Both are empty
//! nearly always. Whoever forwards stops reading one side while the other has `unsent`, so
//! neither grows past one read.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use events::Socket;
use rustls::pki_types::ServerName;
use wire::frame::{FrameHeader, body_here};
use zeroize::Zeroize;

use crate::stream::{Parked, Stream};
use crate::tls::{ClientTls, HandshakeError, ServerTls, TlsStream};

/// An emptied buffer larger than this is given back.
const KEEP_CAPACITY: usize = 256;

/// Bytes that are read at once while fewer are waited for.
const SHORT: usize = 512;

/// Longest time, and most bytes, that a peer may go on sending after it has been told goodbye.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    held: Vec<u8>,
    /// Whether what is held may be a whole message, and not only the front of one.
    news: bool,
    unsent: Vec<u8>,
}

/// A connection on its way to another event loop.
#[derive(Debug)]
pub struct ParkedConn {
    stream: Parked,
}

impl ParkedConn {
    /// A connection that another process has sent.
    pub fn arrived(stream: Parked) -> Self {
        Self { stream }
    }

    /// The socket.
    pub fn into_stream(self) -> Parked {
        self.stream
    }
}

impl Conn {
    /// Wraps a connected socket.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            held: Vec::new(),
            news: false,
            unsent: Vec::new(),
        }
    }

    /// Takes the connection out of this thread's event loop and leaves a closed one behind;
    /// nothing may be held or unsent.
    pub fn park(&mut self) -> io::Result<ParkedConn> {
        debug_assert!(self.held.is_empty() && self.is_flushed());
        let stream = std::mem::replace(&mut self.stream, Stream::Closed);
        Ok(ParkedConn {
            stream: stream.park()?,
        })
    }

    /// Registers a connection with this thread's event loop.
    pub fn unpark(parked: ParkedConn) -> io::Result<Self> {
        Stream::unpark(parked.stream).map(Self::new)
    }

    /// Encrypts from here on, as a client asked for it. What is held is taken for the front of its
    /// handshake.
    pub async fn accept_tls(&mut self, tls: &ClientTls) -> Result<(), HandshakeError> {
        let arrived = std::mem::take(&mut self.held);
        let stream = tls.begin(self.take_tcp()?, arrived)?;
        tls.conclude(self.put_tls(stream)?).await
    }

    /// Encrypts from here on, as the server `name` agreed to.
    pub async fn connect_tls(
        &mut self,
        tls: &ServerTls,
        name: ServerName<'static>,
    ) -> Result<(), HandshakeError> {
        let stream = tls.begin(self.take_tcp()?, name)?;
        tls.conclude(self.put_tls(stream)?).await
    }

    fn take_tcp(&mut self) -> Result<Socket, HandshakeError> {
        match std::mem::replace(&mut self.stream, Stream::Closed) {
            Stream::Tcp(tcp) => Ok(tcp),
            other => {
                self.stream = other;
                Err(HandshakeError::Io(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// Whoever gives up during the handshake finds the connection in it.
    fn put_tls(&mut self, stream: TlsStream) -> Result<&mut TlsStream, HandshakeError> {
        self.stream = Stream::Tls(Box::new(stream));
        match &mut self.stream {
            Stream::Tls(stream) => Ok(stream),
            _ => Err(HandshakeError::Io(io::ErrorKind::Unsupported.into())),
        }
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The socket, to be closed in good order.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Reads into `buffer`, behind what was held, and returns how much of it is filled then; 0
    /// means that the other side has closed. Whoever calls this again and again sees to it that
    /// others have their turn.
    #[inline]
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let start = self.held.len();
        let Some(room) = buffer.get_mut(start..).filter(|room| !room.is_empty()) else {
            return Poll::Ready(Err(io::Error::other("message too long for its buffer")));
        };
        let count = ready!(self.stream.poll_receive(cx, room))?;
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        self.unhold(buffer);
        Poll::Ready(Ok(start + count))
    }

    /// Moves what is held to the front of `buffer` and returns how much that is.
    pub fn unhold(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.held.len();
        self.news = false;
        if len > 0 {
            buffer[..len].copy_from_slice(&self.held);
            empty(&mut self.held);
        }
        len
    }

    /// Keeps bytes until more arrive.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Keeps bytes to be looked at later, whether or not more arrive.
    pub fn hold_news(&mut self, bytes: &[u8]) {
        self.hold(bytes);
        self.news = true;
    }

    /// What a login left unread is to be looked at.
    pub fn look_at_held(&mut self) {
        self.news = !self.held.is_empty();
        if !self.news {
            empty(&mut self.held);
        }
    }

    /// True if what is held is to be looked at before anything is read.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// True if a read left something unused.
    #[inline]
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends `bytes`; what the socket does not take now is kept for [`Self::poll_flush`].
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        if sent < bytes.len() {
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    /// True if everything said is sent.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.stream.is_flushed()
    }

    /// Sends what is unsent.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush_rest(cx)
    }

    fn poll_flush_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                break self.stream.poll_flush(cx);
            }
            match self.stream.poll_write(cx, &self.unsent[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent == self.unsent.len() {
            empty(&mut self.unsent);
        } else {
            self.unsent.drain(..sent);
        }
        result
    }

    /// Closes the connection now, whoever else still holds it.
    pub fn close(&mut self) {
        self.stream.farewell();
        self.stream = Stream::Closed;
        self.held = Vec::new();
        self.unsent = Vec::new();
    }

    /// Ends the connection so that the last words arrive: a peer that still sends would otherwise
    /// have them thrown away by its own system.
    pub async fn finish(&mut self) {
        let stream = &mut self.stream;
        let last = async {
            stream.shutdown().await?;
            let mut drained = 0;
            // On the heap: who awaits this is as large as all that it may ever hold.
            let mut piece = vec![0; 2048];
            while drained < LINGER_BYTES {
                match poll_fn(|cx| stream.poll_read(cx, &mut piece)).await? {
                    0 => break,
                    count => drained += count,
                }
            }
            io::Result::Ok(())
        };
        // Whatever goes wrong now, the connection is over.
        let _ = events::time::timeout(LINGER, last).await;
    }

    /// Sends what is unsent, waiting for room.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends `bytes` and waits until the socket took them.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes)?;
        self.flush().await
    }

    /// Reads until at least `len` bytes are held; an early end is an error.
    pub fn poll_hold(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<()>> {
        while self.held.len() < len {
            // Most of what is waited for is short.
            let read = if len - self.held.len() <= SHORT {
                Stream::poll_read_more::<SHORT>
            } else {
                Stream::poll_read_more::<8192>
            };
            if ready!(read(&mut self.stream, cx, &mut self.held))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until at least `len` bytes are held, and shows them.
    pub async fn hold_at_least(&mut self, len: usize) -> io::Result<&[u8]> {
        poll_fn(|cx| self.poll_hold(cx, len)).await?;
        Ok(&self.held)
    }

    /// Takes `len` bytes off the front of what is held.
    pub fn take_held(&mut self, len: usize) -> Vec<u8> {
        let rest = self.held.split_off(len.min(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// Ends once the other side has closed, with the reason. What it sends meanwhile waits in the
    /// socket, and hides its end.
    pub async fn gone(&mut self) -> io::Error {
        poll_fn(|cx| {
            ready!(self.stream.poll_readable(cx));
            if self.stream.is_at_end() {
                return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
            }
            // Records of TLS's own are taken out by that look, and more may come. If something is
            // left, nobody wakes us any more.
            let _ = self.stream.poll_readable(cx);
            Poll::Pending
        })
        .await
    }

    /// What is held.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// How much is held.
    #[inline]
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// How much is unsent.
    #[inline]
    pub fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// Takes all that is held.
    pub fn take_all_held(&mut self) -> Vec<u8> {
        self.news = false;
        std::mem::take(&mut self.held)
    }

    /// Reads one whole message of at most `len_max` bytes: for logins, not for traffic.
    pub async fn read_message(&mut self, len_max: usize) -> io::Result<(u8, Vec<u8>)> {
        poll_fn(|cx| self.poll_message(cx, len_max)).await
    }

    /// Reads one whole message of at most `len_max` bytes.
    pub fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        len_max: usize,
    ) -> Poll<io::Result<(u8, Vec<u8>)>> {
        let header = ready!(self.poll_hold_frame(cx, len_max))?;
        let mut frame = self.take_held(header.frame_len());
        frame.drain(..FrameHeader::LEN);
        Poll::Ready(Ok((header.tag, frame)))
    }

    /// Reads until a whole message of at most `len_max` bytes is held: for logins, not for traffic.
    pub async fn hold_frame(&mut self, len_max: usize) -> io::Result<FrameHeader> {
        poll_fn(|cx| self.poll_hold_frame(cx, len_max)).await
    }

    fn poll_hold_frame(
        &mut self,
        cx: &mut Context<'_>,
        len_max: usize,
    ) -> Poll<io::Result<FrameHeader>> {
        ready!(self.poll_hold(cx, FrameHeader::LEN))?;
        let header = FrameHeader::peek(&self.held)
            .map_err(invalid)?
            .filter(|header| header.frame_len() <= len_max);
        let Some(header) = header else {
            return Poll::Ready(Err(invalid(FrameHeader::bad(&self.held))));
        };
        ready!(self.poll_hold(cx, header.frame_len()))?;
        Poll::Ready(Ok(header))
    }

    /// The body of a frame that is held whole.
    pub fn held_body(&self, header: FrameHeader) -> &[u8] {
        body_here(header, &self.held)
    }

    /// Drops `len` bytes off the front of what is held, which may be secret.
    pub fn wipe_held(&mut self, len: usize) {
        let len = len.min(self.held.len());
        self.held[..len].zeroize();
        self.held.drain(..len);
    }
}

fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_CAPACITY {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

fn invalid(error: wire::ProtocolError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
