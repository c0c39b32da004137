//! A connected socket, TCP or unix.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, SockAddr, SockRef, Type};

use crate::source::{ENDED, FAILED, LATE, POSTED, READABLE, WRITABLE, Watch, YIELDING};

/// A connected socket that the thread's event loop watches.
#[derive(Debug)]
pub struct Socket(Watch<Rc<OwnedFd>>);

impl Socket {
    /// Takes a connected socket that does not block.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let watch = Watch::new(Rc::new(socket))?;
        watch.may_send();
        watch.is_ours_alone.set(true);
        Ok(Self(watch))
    }

    /// Connects.
    pub async fn connect(address: &SockAddr) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(address.domain(), kind, None)?;
        let connecting = match socket.connect(address) {
            Ok(()) => return Self::new(socket.into()),
            Err(error) => error,
        };
        // A unix socket whose listener has no room says that it would block, and never tells of room.
        let waits = connecting.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error());
        if !waits || address.domain() == Domain::UNIX {
            return Err(connecting);
        }
        let watch = Watch::connecting(Rc::new(OwnedFd::from(socket)))?;
        watch.may_send();
        watch.is_ours_alone.set(true);
        poll_fn(|cx| watch.poll_writable(cx)).await?;
        let this = Self(watch);
        match SockRef::from(&this).take_error()? {
            None => Ok(this),
            Some(error) => Err(error),
        }
    }

    /// Takes it that there is something to read, until a call finds out.
    pub fn expect_bytes(&self) {
        self.0.source.set(READABLE);
    }

    /// What is sent to it at the end of a turn goes behind what is sent to others: those have the sooner
    /// begun their work, and who has several such sockets is woken for them once.
    pub fn let_others_go_first(&self) {
        self.0.source.set(YIELDING);
    }

    /// Takes the socket out of the event loop, if all is sent that was written here.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        self.send_all()?;
        let socket = self.0.into_inner()?;
        Rc::try_unwrap(socket).map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// The same socket once more, for somebody else, if all is sent that was written here.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.send_all()?;
        // As long as that is open, closing this one does not end the kernel's watch.
        self.0.is_ours_alone.set(false);
        self.as_fd().try_clone_to_owned()
    }

    /// Nobody else would know of a rest.
    fn send_all(&self) -> io::Result<()> {
        self.0.send_posted();
        match self.is_flushed() {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Reads what is there; 0 bytes mean the end. Whoever calls this again and again sees to it that
    /// others have their turn.
    #[inline]
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_until_read(cx, || self.recv(buffer))
    }

    /// Ready once `read` does not say any more that it would block.
    #[inline]
    fn poll_until_read(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_readable(cx));
            match read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Reads what is there, behind what `buffer` holds and as far as it has room; 0 bytes mean the
    /// end. It lets others have their turn by itself.
    pub fn poll_read_more(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.home.poll_read_allowed(cx));
        let room = buffer.capacity() - buffer.len();
        self.poll_until_read(cx, || {
            self.recv_some(room, || {
                recv(self, spare_capacity(buffer), RecvFlags::empty())
            })
        })
    }

    /// Reads what is there; 0 bytes mean the end. It lets others have their turn by itself.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.0.home.poll_read_allowed(cx));
        self.poll_recv(cx, buffer)
    }

    /// Reads what is there, without waiting for it.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.may_be_readable() {
            true => self.recv(buffer),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline]
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.recv_some(room, || recv(self, &mut *buffer, RecvFlags::empty()))
    }

    /// Calls the kernel to read as much as there is room for.
    #[inline]
    fn recv_some(
        &self,
        room: usize,
        mut recv: impl FnMut() -> rustix::io::Result<(usize, usize)>,
    ) -> io::Result<usize> {
        if self.0.source.is(FAILED) {
            return Err(self.0.source.failure());
        }
        loop {
            match recv() {
                Ok((count, _)) => {
                    // Less than there was room for: the socket is empty, unless its end is near.
                    if count < room && count > 0 && !self.0.source.is(ENDED) {
                        self.0.source.clear(READABLE);
                    }
                    return Ok(count);
                }
                Err(Errno::AGAIN) => {
                    self.0.nothing_to_read();
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ready when there may be something to read, the end included; nothing is read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_readable(cx)
    }

    /// False if there is surely nothing to read; asks nobody, and wakes nobody later.
    #[inline]
    pub fn may_be_readable(&self) -> bool {
        self.0.source.is(READABLE)
    }

    /// Writes as much as there is room for, and waits for some.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_writable(cx))?;
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes as much as there is room for now. It may be gathered, to be sent at the end of the turn:
    /// if that fails, the next call that reads or writes says so.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let source = &self.0.source;
        // What was said before goes first, or goes along.
        if source.is(POSTED) {
            if self.0.home.post_more(source, bytes) {
                return Ok(bytes.len());
            }
            self.0.home.send_gathered();
        }
        if !source.is(WRITABLE) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if source.is(FAILED) {
            return Err(source.failure());
        }
        if self.0.home.post(source, bytes) {
            return Ok(bytes.len());
        }
        // What is small does not wait for what is large.
        self.0.home.send_gathered();
        loop {
            match send(self, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    if count < bytes.len() {
                        source.clear(WRITABLE);
                    }
                    return Ok(count);
                }
                Err(Errno::AGAIN) => {
                    source.clear(WRITABLE);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// True unless something was gathered and had no room.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        !self.0.source.is(LATE | FAILED)
    }

    /// Ready once what was gathered, and had no room, is sent.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.0.source.is(LATE) {
            ready!(self.0.poll_writable(cx))?;
        }
        Poll::Ready(match self.0.source.is(FAILED) {
            false => Ok(()),
            true => Err(self.0.source.failure()),
        })
    }

    /// Ends our side, once all is sent.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.0.send_posted();
        poll_fn(|cx| self.poll_flush(cx)).await?;
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

impl AsFd for Socket {
    #[expect(
        clippy::expect_used,
        reason = "only `into_fd` takes it out, and the socket with it"
    )]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get().expect("a socket").as_fd()
    }
}
