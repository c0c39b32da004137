//! A connection's socket: TCP, unix or TLS, alike to those above.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use events::Socket;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::cpu;
use crate::tls::{ParkedTls, Secured, TlsStream};

/// A connected socket, registered with the event loop of the thread that made it.
#[derive(Debug)]
pub enum Stream {
    /// TCP, v4 or v6.
    Tcp(Socket),
    /// A unix socket.
    Unix(Socket),
    /// TCP, encrypted: in a box, so that the others stay small.
    Tls(Box<TlsStream>),
    /// Closed here, or gone to another event loop: reads as its end.
    Closed,
}

/// A connected socket on its way from one event loop to another.
#[derive(Debug)]
pub enum Parked {
    /// TCP, v4 or v6.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// TCP, encrypted.
    Tls(Box<ParkedTls>),
}

impl Parked {
    /// A connected socket that another process has sent, in the clear.
    pub fn arrived(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        if socket.r#type()? != Type::STREAM || socket.is_listener()? {
            return Err(io::Error::other("not a connection's socket"));
        }
        socket.set_nonblocking(true)?;
        match socket.domain()? {
            Domain::UNIX => Ok(Self::Unix(socket.into())),
            Domain::IPV4 | Domain::IPV6 => Ok(Self::Tcp(socket.into())),
            _ => Err(io::Error::other("neither a TCP nor a unix socket")),
        }
    }

    /// The socket, for another process; `None` if what it carries is encrypted.
    pub fn into_fd(self) -> Option<OwnedFd> {
        match self {
            Self::Tcp(stream) => Some(stream.into()),
            Self::Unix(stream) => Some(stream.into()),
            Self::Tls(_) => None,
        }
    }
}

/// Where a socket can be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Address and port, and the name that they were found by, if they were.
    Tcp(SocketAddr, Option<Arc<str>>),
    /// The socket's path; one that begins with `@` is abstract.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr, _) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddr {
    /// Address and port.
    Tcp(SocketAddr),
    /// A process of this machine, if the kernel tells which.
    Unix {
        /// Its process id.
        pid: i32,
        /// Its effective user id.
        uid: u32,
        /// The port that the socket's name carries.
        port: u16,
    },
}

impl PeerAddr {
    /// The address as tables show it: `unix` for unix sockets.
    pub fn addr(&self) -> String {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().to_string(),
            Self::Unix { .. } => "unix".to_owned(),
        }
    }

    /// The port; for a unix socket the one that its name carries.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(addr) => addr.port(),
            Self::Unix { port, .. } => *port,
        }
    }
}

/// As log lines show it: `10.0.0.1:5000`, `[::1]:5000`, `unix(4711):6432`.
impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => match addr.ip().to_canonical() {
                IpAddr::V4(ip) => write!(f, "{ip}:{}", addr.port()),
                IpAddr::V6(ip) => write!(f, "[{ip}]:{}", addr.port()),
            },
            Self::Unix { pid, port, .. } => write!(f, "unix({pid}):{port}"),
        }
    }
}

/// The `tcp_*` settings, for client and server sockets alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// Whether keepalive probes are sent.
    pub keepalive: bool,
    /// Probes before the peer counts as gone; 0 leaves the system's default.
    pub keepalive_count: u32,
    /// Idle time before the first probe; zero leaves the system's default.
    pub keepalive_idle: Duration,
    /// Time between probes; zero leaves the system's default.
    pub keepalive_interval: Duration,
    /// Size of the kernel's send and receive buffers in bytes; 0 leaves the system's default.
    pub socket_buffer: usize,
    /// Longest time that sent data may stay unacknowledged; zero leaves the system's default.
    pub user_timeout: Duration,
}

impl TcpOptions {
    /// Sets the options, and TCP_NODELAY always, on a connected socket.
    pub fn apply(&self, stream: &impl AsFd) -> io::Result<()> {
        SockRef::from(stream).set_tcp_nodelay(true)?;
        if self.keepalive {
            SockRef::from(stream).set_keepalive(true)?;
        }
        self.apply_rest(stream)
    }

    /// The same where TCP_NODELAY is set, and whether it is probed.
    pub fn apply_rest(&self, stream: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(stream);
        let says_how = self.keepalive_count > 0
            || !self.keepalive_idle.is_zero()
            || !self.keepalive_interval.is_zero();
        if self.keepalive && says_how {
            let mut keepalive = TcpKeepalive::new();
            if self.keepalive_count > 0 {
                keepalive = keepalive.with_retries(self.keepalive_count);
            }
            if !self.keepalive_idle.is_zero() {
                keepalive = keepalive.with_time(self.keepalive_idle);
            }
            if !self.keepalive_interval.is_zero() {
                keepalive = keepalive.with_interval(self.keepalive_interval);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        if self.socket_buffer > 0 {
            socket.set_send_buffer_size(self.socket_buffer)?;
            socket.set_recv_buffer_size(self.socket_buffer)?;
        }
        if !self.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        Ok(())
    }
}

impl Stream {
    /// Connects and sets the options.
    pub async fn connect(target: &Target, options: &TcpOptions) -> io::Result<Self> {
        match target {
            Target::Tcp(addr, _) => {
                let stream = Socket::connect(&SockAddr::from(*addr)).await?;
                options.apply(&stream)?;
                Ok(Self::Tcp(stream))
            }
            Target::Unix(path) => {
                let stream = Socket::connect(&SockAddr::unix(unix_path(path))?).await?;
                Ok(Self::Unix(stream))
            }
        }
    }

    /// Takes the socket out of this thread's event loop.
    pub fn park(self) -> io::Result<Parked> {
        match self {
            Self::Tcp(stream) => Ok(Parked::Tcp(stream.into_fd()?.into())),
            Self::Unix(stream) => Ok(Parked::Unix(stream.into_fd()?.into())),
            Self::Tls(stream) => stream.park().map(|it| Parked::Tls(Box::new(it))),
            Self::Closed => Err(closed()),
        }
    }

    /// Registers a socket with this thread's event loop.
    pub fn unpark(parked: Parked) -> io::Result<Self> {
        match parked {
            Parked::Tcp(stream) => Socket::new(stream.into()).map(Self::Tcp),
            Parked::Unix(stream) => Socket::new(stream.into()).map(Self::Unix),
            Parked::Tls(parked) => TlsStream::unpark(*parked).map(|it| Self::Tls(Box::new(it))),
        }
    }

    /// Registers a socket that was just accepted: a client's. Mostly its first bytes are there already; and
    /// what it is told goes behind what servers are.
    pub fn accepted(parked: Parked) -> io::Result<Self> {
        let stream = Self::unpark(parked)?;
        if let Self::Tcp(socket) | Self::Unix(socket) = &stream {
            socket.expect_bytes();
            socket.let_others_go_first();
        }
        Ok(stream)
    }

    /// Who is at the other end; `unix_port` is what the name of a unix socket carries.
    pub fn peer_addr(&self, unix_port: u16) -> io::Result<PeerAddr> {
        match self {
            Self::Tcp(stream) => peer_of(stream),
            Self::Tls(stream) => peer_of(stream.tcp()),
            Self::Unix(stream) => {
                let peer = getsockopt(stream, sockopt::PeerCredentials)?;
                Ok(PeerAddr::Unix {
                    pid: peer.pid(),
                    uid: peer.uid(),
                    port: unix_port,
                })
            }
            Self::Closed => Err(closed()),
        }
    }

    /// Its number in the process.
    pub fn fd(&self) -> Option<RawFd> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd().as_raw_fd()),
            Self::Tls(stream) => Some(stream.tcp().as_fd().as_raw_fd()),
            Self::Unix(stream) => Some(stream.as_fd().as_raw_fd()),
            Self::Closed => None,
        }
    }

    /// The socket once more, for another process; `None` if what it carries is encrypted.
    pub fn copy(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.copy().map(Some),
            Self::Tls(_) | Self::Closed => Ok(None),
        }
    }

    /// The processor on which the other end, which has this address, last said something; `None` for
    /// those on other machines and for unix sockets.
    pub fn peer_cpu(&self, peer: IpAddr, local: Option<SocketAddr>) -> Option<u32> {
        match self {
            Self::Tcp(stream) => cpu::of_peer(stream, peer, local),
            Self::Tls(stream) => cpu::of_peer(stream.tcp(), peer, local),
            Self::Unix(_) | Self::Closed => None,
        }
    }

    /// Our end's address; `None` for unix sockets.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).local_addr().ok()?.as_socket(),
            Self::Tls(stream) => SockRef::from(stream.tcp()).local_addr().ok()?.as_socket(),
            Self::Unix(_) | Self::Closed => None,
        }
    }

    /// What was agreed on for its encryption; `None` if it is in the clear.
    pub fn secured(&self) -> Option<&Secured> {
        match self {
            Self::Tls(stream) => stream.secured(),
            Self::Tcp(_) | Self::Unix(_) | Self::Closed => None,
        }
    }

    /// Reads what is there into `buffer`; 0 bytes mean the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(0)),
        }
    }

    /// Reads what is there, or a piece of it, behind what `held` has; 0 bytes mean the end.
    pub fn poll_read_more<const PIECE: usize>(
        &mut self,
        cx: &mut Context<'_>,
        held: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => {
                held.reserve(PIECE);
                stream.poll_read_more(cx, held)
            }
            Self::Tls(stream) => {
                let mut piece = [0; PIECE];
                let count = ready!(stream.poll_read(cx, &mut piece))?;
                held.extend_from_slice(&piece[..count]);
                Poll::Ready(Ok(count))
            }
            Self::Closed => Poll::Ready(Ok(0)),
        }
    }

    /// Reads what is there into `buffer`, cheaper: whoever calls this sees to it that others have
    /// their turn.
    #[inline]
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.poll_recv(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(0)),
        }
    }

    /// Writes as much as the socket takes. What is encrypted has to be flushed, too.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// True if the kernel has all that was written.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.is_flushed(),
            Self::Tls(stream) => stream.is_flushed(),
            Self::Closed => true,
        }
    }

    /// Hands to the kernel what is written and encrypted.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.poll_flush(cx),
            Self::Tls(stream) => stream.poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    /// Ready when there may be something to read, the end of the stream included; nothing is read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.poll_readable(cx),
            Self::Tls(stream) => stream.poll_readable(cx),
            Self::Closed => Poll::Ready(()),
        }
    }

    /// False if there is surely nothing to read; asks nobody, and wakes nobody later.
    pub fn may_be_readable(&self) -> bool {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.may_be_readable(),
            Self::Tls(stream) => stream.may_be_readable(),
            Self::Closed => true,
        }
    }

    /// True when the other side has closed and nothing is left to read.
    pub fn is_at_end(&mut self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) | Self::Unix(stream) => SockRef::from(&*stream).peek(&mut byte),
            Self::Tls(stream) => return stream.is_at_end(),
            Self::Closed => return true,
        };
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Writes as much as the socket takes now, without waiting for more room. What is encrypted has
    /// to be flushed, too.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
            Self::Closed => Err(closed()),
        }
    }

    /// Says that nothing more will be said, where the stream has words for it.
    pub fn farewell(&mut self) {
        if let Self::Tls(stream) = self {
            stream.farewell();
        }
    }

    /// Ends our side of the stream and waits until the kernel took it.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) | Self::Unix(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Closed => Ok(()),
        }
    }
}

fn peer_of(stream: &Socket) -> io::Result<PeerAddr> {
    let peer = SockRef::from(stream).peer_addr()?;
    peer.as_socket().map(PeerAddr::Tcp).ok_or_else(closed)
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// The path as the system call wants it: `@name` becomes an abstract name.
pub fn unix_path(path: &Path) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_the_options_that_were_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let target = listener.local_addr().expect("its address");
        let options = TcpOptions {
            keepalive: true,
            keepalive_count: 7,
            keepalive_idle: Duration::from_secs(70),
            keepalive_interval: Duration::from_secs(17),
            socket_buffer: 0,
            user_timeout: Duration::from_millis(7700),
        };
        let asked = options.clone();
        let stream = events::run(events::Sending::Gathered, async move {
            let target = Target::Tcp(target, None);
            Stream::connect(&target, &asked)
                .await
                .and_then(Stream::park)
        });
        let Ok(Ok(Parked::Tcp(stream))) = stream else {
            panic!("no connection");
        };
        let socket = SockRef::from(&stream);
        let seconds = |told: io::Result<Duration>| told.ok().map(|told| told.as_secs());
        assert_eq!(socket.tcp_keepalive_retries().ok(), Some(7));
        assert_eq!(seconds(socket.tcp_keepalive_time()), Some(70));
        assert_eq!(seconds(socket.tcp_keepalive_interval()), Some(17));
        let timeout = socket.tcp_user_timeout().ok().flatten();
        assert_eq!(timeout, Some(options.user_timeout));
        assert_eq!(socket.tcp_nodelay().ok(), Some(true));
    }

    #[test]
    fn addresses_show_as_pgbouncer_shows_them() {
        let tcp = |text: &str| PeerAddr::Tcp(text.parse().expect("an address"));
        assert_eq!(tcp("10.0.0.1:5000").to_string(), "10.0.0.1:5000");
        assert_eq!(tcp("[::1]:5000").to_string(), "[::1]:5000");
        assert_eq!(tcp("[::ffff:10.0.0.1]:5000").addr(), "10.0.0.1");
        let unix = PeerAddr::Unix {
            pid: 7,
            uid: 0,
            port: 6432,
        };
        assert_eq!(
            (unix.to_string(), unix.addr()),
            ("unix(7):6432".into(), "unix".into())
        );
    }
}
