//! The process among others: account, background, pid file, file limits.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::{ForkResult, Gid, Pid, Uid, User, dup2_stdin, dup2_stdout, fork, setgid, setuid};

/// Becomes another account for good, and takes the log file along. Root must name one.
pub(crate) fn become_user(name: Option<&str>, logfile: Option<&Path>) -> io::Result<()> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        if Uid::effective().is_root() {
            return Err(io::Error::other(
                "will not run as root: set user, or use -u USER",
            ));
        }
        return Ok(());
    };
    let user = User::from_name(name)?
        .ok_or_else(|| io::Error::other(format!("no such account: {name}")))?;
    if user.uid.is_root() {
        return Err(io::Error::other("will not run as root"));
    }
    if user.uid == Uid::effective() {
        return Ok(());
    }
    if let Some(logfile) = logfile.filter(|path| path.is_file()) {
        nix::unistd::chown(logfile, Some(user.uid), Some(user.gid))?;
    }
    let c_name = std::ffi::CString::new(name)?;
    nix::unistd::initgroups(&c_name, user.gid)?;
    setgid(Gid::from_raw(user.gid.as_raw()))?;
    setuid(user.uid)?;
    Ok(())
}

/// The file that holds our process id; removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Refuses if the file names another living process.
    pub(crate) fn check(path: &Path) -> io::Result<()> {
        let Ok(text) = fs::read_to_string(path) else {
            return Ok(());
        };
        let pid: i32 = text.trim().parse().unwrap_or(0);
        // We may not signal other accounts' processes, but they are there.
        let alive = pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
        if alive && pid.unsigned_abs() != std::process::id() {
            return Err(io::Error::other(format!(
                "{}: process {pid} is running already",
                path.display()
            )));
        }
        Ok(())
    }

    /// Writes our process id.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut file = fs::File::create(path)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whoever took over from us has put its own there.
        let is_ours = fs::read_to_string(&self.0)
            .is_ok_and(|text| text.trim() == std::process::id().to_string());
        if is_ours {
            // Gone already is as good.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Goes to the background: the caller's shell gets its prompt back. Before any thread starts.
pub(crate) fn detach() -> io::Result<()> {
    for _ in 0..2 {
        // Sound while this process has one thread only: the child goes on where the parent stood.
        #[allow(unsafe_code)]
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => std::process::exit(0),
            ForkResult::Child => {}
        }
        // The first child leads a session of its own; the second can't get a terminal back.
        let _ = nix::unistd::setsid();
    }
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Lets the process open as many files as the system allows.
pub(crate) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}
