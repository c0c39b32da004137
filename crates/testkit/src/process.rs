//! A child process: its log, its end, and what the kernel knows of it.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    eventually::{GLANCE, in_time},
    log::Log,
    scratch::Scratch,
    start_error::StartError,
};

/// A child process that lives in a scratch directory and dies with it.
pub(crate) struct Process {
    name: String,
    child: Child,
    exit: Option<ExitStatus>,
    pub(crate) log: Log,
    readers: Vec<JoinHandle<()>>,
    home: Arc<Scratch>,
}

impl Process {
    /// Starts it; all that it writes goes to `log`.
    pub(crate) fn spawn(
        command: &mut Command,
        home: &Arc<Scratch>,
        log: Log,
    ) -> Result<Self, StartError> {
        Self::spawn_with_stdin(command, Stdio::null(), home, log)
    }

    /// The same with something for it to read from, or to inherit.
    pub(crate) fn spawn_with_stdin(
        command: &mut Command,
        stdin: Stdio,
        home: &Arc<Scratch>,
        log: Log,
    ) -> Result<Self, StartError> {
        let name = command.get_program().to_string_lossy().into_owned();
        // A group of its own: the terminal's ^C is for the test, which then ends us in order.
        let mut child = command
            .current_dir(home.path())
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(StartError::io(format!("starting {name}")))?;
        home.guard(child.id());
        let stdout = child.stdout.take().map(|pipe| log.follow(pipe));
        let stderr = child.stderr.take().map(|pipe| log.follow(pipe));
        let readers = stdout.into_iter().chain(stderr).collect();
        Ok(Self {
            name,
            child,
            exit: None,
            log,
            readers,
            home: home.clone(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exit().is_none() {
            signal_pid(self.pid(), signal);
        }
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self
                .child
                .try_wait()
                .expect("a child of ours can be waited for");
            if self.exit.is_some() {
                self.home.unguard(self.child.id());
            }
        }
        self.exit
    }

    /// Waits for its end.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        in_time(&what, async {
            loop {
                match self.exit() {
                    Some(status) => return status,
                    None => tokio::time::sleep(GLANCE).await,
                }
            }
        })
        .await
    }

    /// Why it ended before it was ready, with its whole log; `None` while it runs.
    pub(crate) fn early_exit(&mut self) -> Option<StartError> {
        let status = self.exit()?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Some(StartError::Exited {
            program: self.name.clone(),
            status,
            log: self.log.text(),
        })
    }

    pub(crate) fn silent(&self) -> StartError {
        StartError::Silent {
            program: self.name.clone(),
            log: self.log.text(),
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("/proc/PID/status has VmRSS") * 1024
    }

    /// Clock ticks spent in user and kernel mode by all its threads.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        let fields = stat_fields(&stat);
        let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<u64>().ok());
        // utime and stime, the 14th and 15th field of proc(5).
        ticks(11)
            .zip(ticks(12))
            .map(|(user, system)| user + system)
            .expect("/proc/PID/stat has times")
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log.text()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.home.unguard(self.child.id());
        }
    }
}

/// Sends a signal to a process that may be gone already.
pub(crate) fn signal_pid(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The processes that were started by this one and still run.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat_fields(&stat)
            .get(1)
            .is_some_and(|ppid| *ppid == parent)
    })
    .collect()
}

/// True of a process that runs no more, whether or not anybody has noticed.
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat_fields(&stat)
        .first()
        .is_none_or(|state| matches!(*state, "Z" | "X"))
}

/// The fields of /proc/PID/stat from the third on: the second, a name, may hold blanks.
fn stat_fields(stat: &str) -> Vec<&str> {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().collect()
}
