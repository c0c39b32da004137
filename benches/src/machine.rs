//! What we run on, and its units.

use std::{fs, process::Command, sync::OnceLock, thread::available_parallelism, time::Duration};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{SysconfVar, sysconf},
};
use serde::Serialize;

use crate::failure::Failure;

/// What we run on.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The model of its CPU.
    pub(crate) cpu: String,
    /// How many of them we may use.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Load averages at the end of the run, ours included.
    pub(crate) load: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": "));
        Self {
            cpu: model
                .map_or(std::env::consts::ARCH, |(_, name)| name)
                .to_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// The commit that the working tree is at, and whether files differ from it.
pub(crate) fn commit() -> String {
    let described = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "uncommitted".to_owned(),
    }
}

/// Today.
pub(crate) fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

/// Clock ticks as proc(5) counts them, as time.
pub(crate) fn ticks_to_time(ticks: u64) -> Duration {
    const USUAL: f64 = 100.0;
    static PER_SECOND: OnceLock<f64> = OnceLock::new();
    let per_second = PER_SECOND.get_or_init(|| match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) => ticks as f64,
        Ok(None) | Err(_) => USUAL,
    });
    Duration::from_secs_f64(ticks as f64 / per_second)
}

/// Lets us, and the poolers after us, have as many sockets as the system allows, or as we need if
/// it leaves that to us, as to root.
pub(crate) fn raise_open_files() -> Result<(), Failure> {
    const NEEDED: u64 = 22_000;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        let enough = hard.max(NEEDED);
        setrlimit(Resource::RLIMIT_NOFILE, enough, enough)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
    });
    raised.map_err(|errno| Failure::io("raising the limit of open files")(errno.into()))
}

/// How many files each process may have open.
pub(crate) fn open_files() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
