//! Where records go: stderr, which may be the journal, a file, syslog.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Zoned;
use nix::sys::stat::fstat;
use settings::{LogFormat, Settings};

use super::record::Record;
use super::syslog::{SOCKET, Syslog};

/// Where records go.
pub(super) struct Sink {
    stderr: Option<Stderr>,
    followed: Mutex<Followed>,
}

/// Who reads stderr.
enum Stderr {
    Anybody,
    /// The journal, which takes a line's rank from its front.
    Journal,
}

/// What the settings say.
struct Followed {
    format: LogFormat,
    file: Option<File>,
    syslog: Option<Syslog>,
}

impl Sink {
    pub(super) fn new(quiet: bool, env: &[(String, String)]) -> Self {
        let stderr = match is_journal(env) {
            _ if quiet => None,
            true => Some(Stderr::Journal),
            false => Some(Stderr::Anybody),
        };
        Self {
            stderr,
            followed: Mutex::new(Followed {
                format: LogFormat::PgBouncer,
                file: None,
                syslog: None,
            }),
        }
    }

    /// Follows the settings as far as that can be; returns what can't.
    pub(super) fn configure(&self, settings: &Settings) -> Vec<String> {
        let mut complaints = Vec::new();
        let path = settings.logfile.as_deref();
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let file = path.map(open).transpose();
        let syslog = settings.syslog.then(|| {
            let (facility, ident) = (&settings.syslog_facility, &settings.syslog_ident);
            Syslog::open(Path::new(SOCKET), facility, ident)
        });

        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.format = settings.log_format;
        match file {
            Ok(file) => followed.file = file,
            // The one that is open is better than none.
            Err(error) => complaints.push(format!("cannot open logfile: {error}")),
        }
        match syslog.transpose() {
            Ok(syslog) => followed.syslog = syslog,
            Err(error) => complaints.push(format!("cannot log to syslog: {error}")),
        }
        complaints
    }

    pub(super) fn write(&self, record: &Record) {
        let now = Zoned::now();
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = record.line(followed.format, &now);
        line.push('\n');
        // A log that can't be written is no reason to stop.
        let _ = match &self.stderr {
            Some(Stderr::Anybody) => io::stderr().write_all(line.as_bytes()),
            Some(Stderr::Journal) => {
                let ranked = format!("<{}>{line}", record.severity());
                io::stderr().write_all(ranked.as_bytes())
            }
            None => Ok(()),
        };
        if let Some(file) = &mut followed.file {
            let _ = file.write_all(line.as_bytes());
        }
        let format = followed.format;
        if let Some(syslog) = &mut followed.syslog {
            syslog.write(record.severity(), &record.bare_line(format, &now), &now);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Whether stderr is the stream that the service manager connected with the journal.
fn is_journal(env: &[(String, String)]) -> bool {
    let named = env.iter().find(|(name, _)| name == "JOURNAL_STREAM");
    let Some((device, inode)) = named.and_then(|(_, value)| value.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = fstat(io::stderr()) else {
        return false;
    };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}
