//! The service manager: the sockets that it holds for us, and what it likes to be told.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use net::stream::unix_path;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockAddr, Socket, Type};

/// The first descriptor that a service manager passes.
const FIRST: RawFd = 3;

/// The value of a variable.
fn variable<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = env.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// The sockets that were given to this very process, if any. To be called once.
pub(crate) fn given_sockets(env: &[(String, String)]) -> io::Result<Vec<OwnedFd>> {
    let pid = variable(env, "LISTEN_PID").and_then(|pid| pid.parse().ok());
    if pid != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = variable(env, "LISTEN_FDS").and_then(|count| count.parse().ok());
    (0..count.unwrap_or(0))
        .map(|place| take(FIRST + place))
        .collect()
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    // Sound: these numbers were in use before we began, and are nobody else's in this process.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(fd),
        Err(error) => {
            // It is no descriptor: nothing is there to be closed.
            std::mem::forget(fd);
            Err(io::Error::other(format!(
                "socket {number} of LISTEN_FDS: {error}"
            )))
        }
    }
}

/// The way to the service manager, if it wants to be told.
pub(crate) struct Manager(Option<(Socket, SockAddr)>);

impl Manager {
    pub(crate) fn new(env: &[(String, String)]) -> Self {
        let connection = variable(env, "NOTIFY_SOCKET").and_then(|path| match connect(path) {
            Ok(connection) => Some(connection),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET {path}: {error}");
                None
            }
        });
        Self(connection)
    }

    /// Clients are served; with the settings as they are now.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The settings are being read again.
    pub(crate) fn reloading(&self) {
        // The manager compares this with the time of its own SIGHUP.
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => {
                let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
                self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
            }
            Err(error) => tracing::warn!("cannot read the clock: {error}"),
        }
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Another process serves clients from now on.
    pub(crate) fn succeeded_by(&self, pid: i32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to(state.as_bytes(), address)
        {
            tracing::warn!("cannot tell the service manager: {error}");
        }
    }
}

fn connect(path: &str) -> io::Result<(Socket, SockAddr)> {
    let address = SockAddr::unix(unix_path(Path::new(path)))?;
    Ok((Socket::new(Domain::UNIX, Type::DGRAM, None)?, address))
}
