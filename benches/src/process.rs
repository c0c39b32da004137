//! What the kernel knows of a process.

use std::{fs, time::Duration};

use testkit::Pooler;

/// Resident bytes. `smaps_rollup` is exact; VmRSS, which needs no right to look into another
/// account's process, may lag by some hundred KB on older kernels.
pub(crate) fn resident(pooler: &Pooler) -> u64 {
    exactly_resident(pooler.pid()).unwrap_or_else(|| pooler.rss())
}

/// The time that all its threads were on a CPU, to the nanosecond.
pub(crate) fn cpu(pid: u32) -> Duration {
    let of_thread = |stat: String| stat.split_whitespace().next()?.parse::<u64>().ok();
    Duration::from_nanos(threads(pid, "schedstat").filter_map(of_thread).sum())
}

/// The time that each thread that serves clients was on a CPU.
pub(crate) fn cpu_of_each(pid: u32) -> Vec<Duration> {
    let of_thread = |stat: &str| stat.split_whitespace().next()?.parse().ok();
    let stats = serving(pid);
    let times = stats.iter().filter_map(|(_, stat)| of_thread(stat));
    times.map(Duration::from_nanos).collect()
}

/// How often a thread that serves clients went to sleep by itself, and so woke up again; over all
/// of them. Where none is called a worker, it is all threads.
pub(crate) fn wake_ups(pid: u32) -> u64 {
    let statuses = serving(pid);
    statuses
        .iter()
        .filter_map(|(status, _)| sleeps(status))
        .sum()
}

/// The `status` and `schedstat` of the threads that are called workers, or of all if none is.
fn serving(pid: u32) -> Vec<(String, String)> {
    let mut all: Vec<_> = (threads(pid, "status").zip(threads(pid, "schedstat"))).collect();
    let is_worker = |(status, _): &(String, String)| status.starts_with("Name:\tworker");
    if all.iter().any(is_worker) {
        all.retain(is_worker);
    }
    all
}

fn sleeps(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// Bytes in the buffers of all TCP sockets of this machine.
pub(crate) fn socket_buffers() -> u64 {
    const PAGE: u64 = 4096;
    let stat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    pages_of_tcp(&stat).unwrap_or(0) * PAGE
}

fn pages_of_tcp(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|&word| word != "mem");
    words.nth(1)?.parse().ok()
}

fn threads(pid: u32, file: &str) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.filter_map(move |task| fs::read_to_string(task.path().join(file)).ok())
}

fn exactly_resident(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_tcp_stand_behind_the_word_mem() {
        let stat =
            "sockets: used 83\nTCP: inuse 5 orphan 0 tw 2 alloc 9 mem 17\nUDP: inuse 1 mem 3\n";

        assert_eq!(pages_of_tcp(stat), Some(17));
    }

    #[test]
    fn a_process_that_works_has_used_time_and_one_that_waits_has_slept() {
        let pid = std::process::id();
        let slept = wake_ups(pid);
        std::thread::sleep(Duration::from_millis(1));

        assert!(cpu(pid) > Duration::ZERO);
        assert!(wake_ups(pid) > slept);
    }
}
