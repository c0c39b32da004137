//! System calls, counted by `perf stat` over a fixed number of transactions.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use super::{Effort, Figure, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    programs::on_path,
    stage::Running,
};

const ALL: &str = "raw_syscalls:sys_enter";

/// What writes to a socket; `write` wakes other threads.
const SENDS: [&str; 3] = [
    "syscalls:sys_enter_sendto",
    "syscalls:sys_enter_sendmsg",
    "syscalls:sys_enter_writev",
];

/// What a pooler has sent by io_uring: nothing else is asked of it there.
const SENDS_OF_RINGS: &str = "io_uring:io_uring_submit_req";

/// The sends that this kernel knows.
fn sends() -> &'static [&'static str] {
    static KNOWN: OnceLock<Vec<&str>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let tried = perf(&[SENDS_OF_RINGS]).arg("true").output();
        let has_rings = tried.is_ok_and(|output| output.status.success());
        let rings = has_rings.then_some(SENDS_OF_RINGS);
        SENDS.into_iter().chain(rings).collect()
    })
}

fn all() -> Vec<&'static str> {
    std::iter::once(ALL)
        .chain(sends().iter().copied())
        .collect()
}

/// Why they can't be counted here, if so.
pub(crate) fn obstacle() -> Option<String> {
    if on_path("perf", "apt-get install linux-perf").is_err() {
        return Some("perf is not installed".to_owned());
    }
    let tried = perf(&all()).arg("true").output();
    match tried {
        Ok(output) if counts(&output.stderr, sends()).is_some() => None,
        Ok(_) => Some("perf may not count system calls here".to_owned()),
        Err(error) => Some(format!("perf does not start: {error}")),
    }
}

/// One round.
pub(crate) async fn round(
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(60);
    watched_over(running, LIMIT, measure(running, load, effort)).await
}

async fn measure(running: &Running, load: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    let Some(pooler) = running.pooler() else {
        return Ok(Vec::new());
    };
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, _) = crowd.work(Order::Times(load.work.warm_up())).await?;
    let each = effort.transactions_counted * 4 / load.clients as u64;
    let counter = Counter::attach(pooler.pid()).await?;
    let (crowd, transactions) = crowd.work(Order::Times(each)).await?;
    let [calls, sends] = counter.read()?;
    crowd.leave().await?;
    Ok(vec![
        (Measure::CallsPerTransaction, calls / transactions as f64),
        (Measure::SendsPerTransaction, sends / transactions as f64),
    ])
}

/// A perf that counts.
struct Counter(Child);

impl Counter {
    async fn attach(pid: u32) -> Result<Self, Failure> {
        const GLANCE: Duration = Duration::from_millis(10);
        const PATIENCE: Duration = Duration::from_secs(10);
        let child = (perf(&all()).arg("-p").arg(pid.to_string()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let counter = Self(child.map_err(Failure::io("starting perf"))?);
        let threads = entries(format!("/proc/{pid}/task")).count();
        let wanted = threads * all().len();
        let started = Instant::now();
        while counter.open_events() < wanted && started.elapsed() < PATIENCE {
            sleep(GLANCE).await;
        }
        // They are all open, and enabled a moment later.
        sleep(GLANCE * 10).await;
        Ok(counter)
    }

    /// All calls, and those that send.
    fn read(mut self) -> Result<[f64; 2], Failure> {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // Told so, it writes what it counted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let mut told = Vec::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            let read = std::io::Read::read_to_end(&mut stderr, &mut told);
            read.map_err(Failure::io("reading what perf counted"))?;
        }
        counts(&told, sends()).ok_or_else(|| {
            let told = String::from_utf8_lossy(&told).into_owned();
            Failure::Unreadable(format!("what perf counted: {told}"))
        })
    }

    fn open_events(&self) -> usize {
        let files = entries(format!("/proc/{}/fd", self.0.id()));
        files.filter(|target| target.contains("perf_event")).count()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn perf(events: &[&str]) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ",", "-e", &events.join(",")]);
    command
}

/// From lines like `1234,,raw_syscalls:sys_enter,...`.
fn counts(told: &[u8], sends: &[&str]) -> Option<[f64; 2]> {
    let told = String::from_utf8_lossy(told);
    let count = |event: &str| -> Option<f64> {
        let line = told.lines().find(|line| line.contains(event))?;
        line.split(',').next()?.parse().ok()
    };
    let sends: Option<Vec<f64>> = sends.iter().map(|event| count(event)).collect();
    Some([count(ALL)?, sends?.into_iter().sum()])
}

/// What the links of a directory lead to, or its entries' names.
fn entries(dir: String) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_else(|_| entry.path());
        target.to_string_lossy().into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_send_are_added_up() {
        let told = b"# started\n\
            4000,,raw_syscalls:sys_enter,9,100.00,,\n\
            900,,syscalls:sys_enter_sendto,9,100.00,,\n\
            0,,syscalls:sys_enter_sendmsg,9,100.00,,\n\
            100,,syscalls:sys_enter_writev,9,100.00,,\n\
            500,,io_uring:io_uring_submit_req,9,100.00,,\n";

        assert_eq!(counts(told, &SENDS), Some([4000.0, 1000.0]));
        let with_rings = [SENDS.as_slice(), &[SENDS_OF_RINGS]].concat();
        assert_eq!(counts(told, &with_rings), Some([4000.0, 1500.0]));
    }

    #[test]
    fn what_was_not_counted_is_not_nothing() {
        assert_eq!(
            counts(b"<not counted>,,raw_syscalls:sys_enter,,\n", &[]),
            None
        );
    }
}
