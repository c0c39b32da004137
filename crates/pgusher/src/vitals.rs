//! What the kernel knows of this process.

use std::fs;
use std::time::SystemTime;

use admin::Vitals;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

/// Looks it up; what can't be had is 0.
pub(crate) fn vitals(started: SystemTime) -> Vitals {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    let cpu = usage.map_or(0.0, |usage| {
        seconds(usage.user_time()) + seconds(usage.system_time())
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let files = fs::read_dir("/proc/self/fd");
    Vitals {
        cpu_seconds: cpu,
        resident_bytes: bytes(&status, "VmRSS:"),
        virtual_bytes: bytes(&status, "VmSize:"),
        // The look itself takes one.
        open_files: files.map_or(0, |files| files.count().saturating_sub(1) as u64),
        max_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        started,
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6
}

/// A line of /proc/self/status, which has kilobytes.
fn bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_used_time_memory_and_files() {
        let it = vitals(SystemTime::now());
        assert!(it.resident_bytes > 0 && it.virtual_bytes >= it.resident_bytes);
        assert!(
            it.open_files >= 3 && it.max_files >= it.open_files,
            "{it:?}"
        );
        assert!(it.cpu_seconds > 0.0);
    }
}
