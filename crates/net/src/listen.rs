//! Listening sockets, and the connections they take.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::Watch;
use events::time::sleep;
use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::cpu;
use crate::resolve::resolve;
use crate::stream::{Parked, unix_path};

/// A socket that takes clients. It belongs to no event loop: see [`Watched`].
#[derive(Debug)]
pub enum Listener {
    /// TCP, v4 or v6.
    Tcp(TcpListener, Heritage),
    /// A unix socket.
    Unix(UnixListener, UnixFile),
}

/// What is known of each connection that a listener takes, without asking the kernel.
#[derive(Debug, Default)]
pub struct Heritage {
    /// Our end's address, unless the listener has several.
    local: Option<SocketAddr>,
    /// Whether it has the listener's options.
    options: bool,
}

/// A connection that was just taken.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: Parked,
    /// The other end's address, if it has one.
    pub peer: Option<SocketAddr>,
    /// Our end's address, if it is known.
    pub local: Option<SocketAddr>,
    /// Whether `TCP_NODELAY` and `SO_KEEPALIVE` are as they should be.
    pub has_options: bool,
}

impl Accepted {
    /// A connection of which nothing is known.
    pub fn unknown(socket: Parked) -> Self {
        Self {
            socket,
            peer: None,
            local: None,
            has_options: false,
        }
    }

    /// The processor on which the other end last said something, if it is on this machine and came by
    /// TCP.
    pub fn cpu(&self) -> Option<u32> {
        match &self.socket {
            Parked::Tcp(socket) => cpu::of_peer(socket, self.peer?.ip(), self.local),
            Parked::Unix(_) | Parked::Tls(_) => None,
        }
    }

    /// True if it came by a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.socket, Parked::Unix(_))
    }
}

/// The file of a unix socket, removed when its listener goes.
#[derive(Debug, Default)]
pub struct UnixFile(Mutex<Option<PathBuf>>);

impl UnixFile {
    /// Removes another file in the end, or none; returns which it was.
    fn replace(&self, path: Option<PathBuf>) -> Option<PathBuf> {
        let mut ours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *ours, path)
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if let Some(path) = self.replace(None) {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }
}

/// What the listeners of a process share.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Connections the kernel keeps waiting for us.
    pub backlog: i32,
    /// Whether other processes may listen on the same TCP port.
    pub reuse_port: bool,
    /// Whether connections are probed while they are silent; if this is said, they need not be told
    /// so, nor of `TCP_NODELAY`: on Linux they have it from their listener.
    pub keepalive: Option<bool>,
}

/// Owner and permissions of a unix socket.
#[derive(Debug, Clone, Default)]
pub struct UnixMode {
    /// Permission bits.
    pub mode: u32,
    /// Group, by name.
    pub group: Option<String>,
}

/// The addresses that one entry of `listen_addr` means: `*` is every v4 and every v6 address.
pub async fn addresses(entry: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if entry == "*" {
        return Ok(vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        ]);
    }
    resolve(entry, port).await
}

impl Listener {
    /// Listens on a TCP address; v6 sockets take v6 only.
    pub fn tcp(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if let Some(keepalive) = options.keepalive {
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(keepalive)?;
        }
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(options.backlog)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket.into());
        let local = listener.local_addr()?;
        let heritage = Heritage {
            local: (!local.ip().is_unspecified()).then_some(local),
            options: options.keepalive.is_some(),
        };
        Ok(Self::Tcp(listener, heritage))
    }

    /// Listens on a unix socket. A socket file that nobody serves any more is replaced; one that
    /// somebody serves is an error.
    pub fn unix(path: &Path, options: &ListenOptions, mode: &UnixMode) -> io::Result<Self> {
        let is_file = !path.to_string_lossy().starts_with('@');
        if is_file && path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "unix socket is in use",
                ));
            }
            fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(unix_path(path))?)?;
        if is_file {
            mode.apply(path)?;
        }
        socket.listen(options.backlog)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket.into());
        Ok(Self::Unix(
            listener,
            UnixFile(Mutex::new(is_file.then(|| path.to_owned()))),
        ))
    }

    /// Listens on a socket that somebody else has made, and whose file, if it has one, is theirs.
    pub fn given(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::other(
                "not a socket that listens for connections",
            ));
        }
        socket.set_nonblocking(true)?;
        match socket.domain()? {
            Domain::UNIX => {
                let listener = UnixListener::from_std(socket.into());
                Ok(Self::Unix(listener, UnixFile::default()))
            }
            Domain::IPV4 | Domain::IPV6 => {
                let listener = TcpListener::from_std(socket.into());
                Ok(Self::Tcp(listener, Heritage::default()))
            }
            _ => Err(io::Error::other("neither a TCP nor a unix socket")),
        }
    }

    /// The same socket once more, for another process.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    /// Looks after the socket's file from now on.
    pub fn claim_file(&self) {
        if let Self::Unix(listener, file) = self {
            let addr = listener.local_addr().ok();
            let path = addr.as_ref().and_then(|addr| addr.as_pathname());
            file.replace(path.map(Path::to_owned));
        }
    }

    /// Leaves the socket's file to the process that has the socket now.
    pub fn leave_file(&self) {
        if let Self::Unix(_, file) = self {
            file.replace(None);
        }
    }

    /// Whether the kernel keeps a TCP connection back until its first bytes are there, or a second
    /// has passed (`TCP_DEFER_ACCEPT`, tcp(7)).
    pub fn set_deferred(&self, deferred: bool) -> io::Result<()> {
        let Self::Tcp(listener, _) = self else {
            return Ok(());
        };
        let seconds = libc::c_int::from(deferred);
        let len = size_of_val(&seconds) as libc::socklen_t;
        #[expect(unsafe_code, reason = "no library of ours has a name for the option")]
        // SAFETY: the kernel reads `len` bytes of an integer that outlives the call.
        let outcome = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                len,
            )
        };
        match outcome {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether connections that come from now on are probed, if they have that from the listener.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener, heritage) if heritage.options => {
                SockRef::from(listener).set_keepalive(keepalive)
            }
            Self::Tcp(..) | Self::Unix(..) => Ok(()),
        }
    }

    /// Takes the connection that is first in the kernel's queue; `WouldBlock` if there is none.
    pub fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, heritage) => {
                let (stream, peer) = listener.accept()?;
                Ok(Accepted {
                    socket: Parked::Tcp(OwnedFd::from(stream).into()),
                    peer: Some(peer),
                    local: heritage.local,
                    has_options: heritage.options,
                })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                let socket = Parked::Unix(OwnedFd::from(stream).into());
                Ok(Accepted::unknown(socket))
            }
        }
    }

    /// Where it listens, as log lines show it.
    pub fn place(&self) -> String {
        let unknown = || "a socket without a name".to_owned();
        match self {
            Self::Tcp(listener, _) => listener
                .local_addr()
                .map_or_else(|_| unknown(), |addr| addr.to_string()),
            Self::Unix(listener, _) => {
                let addr = listener.local_addr().ok();
                let path = addr.as_ref().and_then(|addr| addr.as_pathname());
                path.map_or_else(unknown, |path| format!("unix:{}", path.display()))
            }
        }
    }

    /// True for a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(..))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// A listener that the event loop of the thread that made this watches: it is told at each turn of
/// whoever waits there, so this is for those who are about to [accept](Self::accept) all the time.
#[derive(Debug)]
pub struct Watched(Watch<Arc<Listener>>);

impl Watched {
    /// Registers a listener.
    pub fn new(listener: Arc<Listener>) -> io::Result<Self> {
        Watch::for_many(listener).map(Self)
    }

    /// Waits for the next connection. It belongs to no event loop yet: mostly another one takes it.
    pub async fn accept(&self) -> io::Result<Accepted> {
        self.0.take_one(|listener| listener.accept()).await
    }

    /// Leaves connections where they are for so long: the event loop would be told of them at each
    /// turn.
    pub async fn rest(&self, time: Duration) {
        // It can't be refused for anything that is watched; if it is, turns are wasted, and no more.
        let _ = self.0.pause(true);
        sleep(time).await;
        while self.0.pause(false).is_err() {
            sleep(time).await;
        }
    }
}

impl UnixMode {
    fn apply(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?;
        let Some(name) = self.group.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let group = nix::unistd::Group::from_name(name)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no group {name}")))?;
        nix::unistd::chown(path, None, Some(group.gid)).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_socket_listens_and_its_file_stays_when_we_go() {
        let path = std::env::temp_dir().join(format!("pgusher-given-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let held = std::os::unix::net::UnixListener::bind(&path).unwrap();

        let given = Listener::given(held.try_clone().unwrap().into()).unwrap();
        assert!(given.is_unix());
        assert_eq!(given.place(), format!("unix:{}", path.display()));
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let accepted = events::run(events::Sending::Gathered, async {
            let watched = Watched::new(given.into())?;
            watched.accept().await
        });
        accepted.unwrap().unwrap();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();

        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!Listener::given(tcp.into()).unwrap().is_unix());
    }

    #[test]
    fn connections_have_their_options_and_addresses_from_their_listener() {
        let options = ListenOptions {
            backlog: 16,
            reuse_port: false,
            keepalive: Some(true),
        };
        for anywhere in [false, true] {
            let ip = if anywhere { "0.0.0.0:0" } else { "127.0.0.1:0" };
            let listener = Arc::new(Listener::tcp(ip.parse().unwrap(), &options).unwrap());
            let Listener::Tcp(tcp, _) = &*listener else {
                panic!("not TCP");
            };
            let port = tcp.local_addr().unwrap().port();
            for keepalive in [true, false, true] {
                listener.set_keepalive(keepalive).unwrap();
                let ours = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
                let watched = listener.clone();
                let accepted = events::run(events::Sending::AtOnce, async move {
                    Watched::new(watched)?.accept().await
                });
                let accepted = accepted.unwrap().unwrap();
                assert_eq!(accepted.peer, Some(ours.local_addr().unwrap()));
                let local = (!anywhere).then(|| ours.peer_addr().unwrap());
                assert_eq!(accepted.local, local);
                assert!(accepted.has_options);
                let Parked::Tcp(socket) = accepted.socket else {
                    panic!("not TCP");
                };
                assert!(socket.nodelay().unwrap());
                assert_eq!(SockRef::from(&socket).keepalive().unwrap(), keepalive);
            }
        }
    }

    #[test]
    fn of_clients_on_this_machine_the_processor_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut client, b"hello").unwrap();
        let (socket, _) = listener.accept().unwrap();
        let mut accepted = Accepted {
            socket: Parked::Tcp(socket),
            peer: Some(client.local_addr().unwrap()),
            local: None,
            has_options: false,
        };
        let cpu = accepted.cpu();
        assert!(cpu.is_some());

        let own = "192.0.2.1:5432".parse().unwrap();
        accepted.peer = Some("192.0.2.1:40000".parse().unwrap());
        assert_eq!(accepted.cpu(), None);
        accepted.local = Some(own);
        assert_eq!(accepted.cpu(), cpu);
        accepted.peer = Some("192.0.2.2:40000".parse().unwrap());
        assert_eq!(accepted.cpu(), None);

        let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(Accepted::unknown(Parked::Unix(unix)).cpu(), None);
    }

    #[test]
    fn connections_are_taken_one_by_one_and_none_is_left_over_after_a_rest() {
        let address = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions {
            backlog: 128,
            reuse_port: false,
            keepalive: None,
        };
        let listener = Arc::new(Listener::tcp(address, &options).unwrap());
        let Listener::Tcp(tcp, _) = &*listener else {
            panic!("not TCP");
        };
        let address = tcp.local_addr().unwrap();
        let connect = move || std::net::TcpStream::connect(address).unwrap();
        let take = async move |listener: Arc<Listener>| {
            let watched = Watched::new(listener).unwrap();
            for waiting in [1, 3, 2, 100] {
                let clients: Vec<_> = (0..waiting).map(|_| connect()).collect();
                for client in clients {
                    let peer = watched.accept().await.unwrap().peer;
                    assert_eq!(peer, client.local_addr().ok());
                }
                let before = connect();
                watched.rest(Duration::from_millis(1)).await;
                let peer = watched.accept().await.unwrap().peer;
                assert_eq!(peer, before.local_addr().ok());
            }
        };
        let worker = listener.clone();
        events::run(events::Sending::Gathered, async move { take(worker).await }).unwrap();
        // And where the event loop is a guest.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let here = tokio::task::LocalSet::new();
        here.block_on(&runtime.unwrap(), async {
            events::attach().unwrap();
            take(listener).await;
        });
    }

    #[test]
    fn what_does_not_listen_is_not_taken_for_a_listener() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Listener::given(stream.into()).is_err());
        assert!(Listener::given(datagram.into()).is_err());
    }
}
