//! TCP ports that stay ours for as long as the test needs them.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    process::id,
};

use nix::fcntl::Flock;

use crate::{
    scratch::{shared_dir, try_lock},
    start_error::StartError,
};

/// A port that no other test takes, also while nobody listens on it.
///
/// The kernel's own choice would be free only until the next outgoing connection somewhere on
/// the machine picks it up; a server that restarts needs it again. So we take ports below the
/// range that outgoing connections use, and hold a lock on each.
pub(crate) struct Port {
    pub(crate) number: u16,
    _lock: Option<Flock<fs::File>>,
}

const TRIED: u32 = 8000;

impl Port {
    /// A free port.
    pub(crate) fn claim() -> Result<Self, StartError> {
        let dir = shared_dir()
            .map_err(StartError::io("making the test directory"))?
            .join("ports");
        fs::create_dir_all(&dir).map_err(StartError::io("making the directory of ports"))?;
        let first_outgoing = first_outgoing_port();
        // Processes start looking at different places, to meet seldom.
        let start = id().wrapping_mul(97);
        for step in 0..TRIED {
            let below = u16::try_from(start.wrapping_add(step) % TRIED).unwrap_or(0);
            let number = first_outgoing - 1 - below;
            let lock = try_lock(&dir.join(number.to_string()));
            let lock = lock.map_err(StartError::io("locking a port"))?;
            if lock.is_some() && is_free(number) {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        let cause = io::Error::from(io::ErrorKind::AddrInUse);
        Err(StartError::Io {
            doing: "looking for a free port".into(),
            cause,
        })
    }

    /// A port that another listens on and has the lock of.
    pub(crate) fn shared(number: u16) -> Self {
        Self {
            number,
            _lock: None,
        }
    }

    /// Just this port, if nobody listens there now.
    pub(crate) fn exactly(number: u16) -> Result<Self, StartError> {
        if is_free(number) {
            Ok(Self {
                number,
                _lock: None,
            })
        } else {
            Err(StartError::PortTaken(number))
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The low end of the range from which the kernel gives ports to outgoing connections.
fn first_outgoing_port() -> u16 {
    const USUAL: u16 = 32768;
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = range
        .split_whitespace()
        .next()
        .and_then(|low| low.parse().ok());
    low.filter(|&low| low > 10_000).unwrap_or(USUAL)
}
