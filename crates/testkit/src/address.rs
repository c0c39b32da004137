//! Where a server listens, and a socket to it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{Shutdown as Half, shutdown},
};
use tokio::net::{TcpStream, UnixStream};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A port on this machine.
    pub fn local(port: u16) -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The unix socket that PostgreSQL's clients look for in a directory.
    pub fn in_dir(dir: &Path, port: u16) -> Self {
        Self::Unix(dir.join(format!(".s.PGSQL.{port}")))
    }
}

/// A connected socket of either kind, shared between those who read and who write.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    /// Appends what has arrived to `buffer`; 0 is the peer's end. Loses nothing if cancelled.
    pub(crate) async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.reserve(64 * 1024);
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read_buf(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read_buf(buffer)
                }
            };
            match read {
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that we shall write no more, and goes on reading.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        let fd = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        Ok(shutdown(fd.as_raw_fd(), Half::Write)?)
    }

    /// Has the peer closed, or said that it will write no more? What it wrote may wait unread.
    pub(crate) fn peer_closed(&self) -> bool {
        let fd = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        let closed = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
        let mut asked = [PollFd::new(fd, closed)];
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|answers| answers > 0)
    }

    /// When dropped, TCP sends a reset instead of a farewell.
    pub(crate) fn reset_on_drop(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_zero_linger(),
            Self::Unix(_) => Ok(()),
        }
    }
}
