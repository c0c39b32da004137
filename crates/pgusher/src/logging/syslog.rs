//! The system's log: a datagram for each line.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use jiff::Zoned;

/// Where the system takes lines.
pub(super) const SOCKET: &str = "/dev/log";

/// Facilities by their names; the number is the code.
const FACILITIES: [(&str, u8); 13] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("cron", 9),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// A connection with it.
pub(super) struct Syslog {
    path: PathBuf,
    socket: UnixDatagram,
    facility: u8,
    ident: String,
}

impl Syslog {
    /// Connects. A facility of an unknown name is an error.
    pub(super) fn open(path: &Path, facility: &str, ident: &str) -> io::Result<Self> {
        let known = FACILITIES.iter().find(|(name, _)| *name == facility);
        let (_, facility) = known
            .ok_or_else(|| io::Error::other(format!("unknown syslog_facility: {facility}")))?;
        Ok(Self {
            path: path.to_owned(),
            socket: connect(path)?,
            facility: *facility,
            ident: ident.to_owned(),
        })
    }

    /// Sends a line. One that the system does not take at once is lost: clients come first.
    pub(super) fn write(&mut self, severity: u8, text: &str, now: &Zoned) {
        let priority = self.facility << 3 | severity;
        let time = now.strftime("%b %e %H:%M:%S");
        let (ident, pid) = (&self.ident, std::process::id());
        let line = format!("<{priority}>{time} {ident}[{pid}]: {text}");
        let sent = self.socket.send(line.as_bytes());
        if sent.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
            && let Ok(socket) = connect(&self.path)
        {
            // The one who listened there has been started anew.
            let _ = socket.send(line.as_bytes());
            self.socket = socket;
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn lines_carry_rank_time_and_name_and_find_a_syslog_that_was_started_anew() {
        let path = std::env::temp_dir().join(format!("pgusher-syslog-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let now: Zoned = "2026-01-03T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let pid = std::process::id();

        assert!(Syslog::open(&path, "daemon", "x").is_err());
        let first = UnixDatagram::bind(&path).unwrap();
        assert!(Syslog::open(&path, "mail_room", "x").is_err());
        let mut syslog = Syslog::open(&path, "local1", "pgbouncer").unwrap();
        syslog.write(4, "pooler error", &now);
        // Facility 17 times 8, and 4.
        let expected = format!("<140>Jan  3 12:00:00 pgbouncer[{pid}]: pooler error");
        assert_eq!(read(&first), expected);

        drop(first);
        fs::remove_file(&path).unwrap();
        syslog.write(4, "nobody hears this", &now);
        let second = UnixDatagram::bind(&path).unwrap();
        syslog.write(6, "here again", &now);
        assert!(read(&second).ends_with("]: here again"));
        fs::remove_file(&path).unwrap();
    }
}
