//! Everything in numbers, for Prometheus.
//!
//! `pgbouncer_*` are the metrics of PgBouncer's exporter, name for name: boards and alerts that
//! people have go on working. `pgusher_*` are our own.

mod exporter;
mod family;
mod own;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use pool::labels::Labels;
use pool::snapshot::Snapshot;
use prometheus::TextEncoder;
use settings::Settings;

/// The format of the text, as an HTTP header has it.
pub const METRICS_TYPE: &str = prometheus::TEXT_FORMAT;

/// All that metrics are drawn from.
pub struct Figures<'a> {
    /// A merged summary.
    pub snapshot: &'a Snapshot,
    /// The settings in force.
    pub settings: &'a Settings,
    /// What control knows of itself.
    pub upkeep: &'a Upkeep,
}

/// How the process is kept.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// How the last RELOAD went.
    pub reload: Reload,
    /// When our certificates run out: the one that clients see, and the one that servers do.
    pub certificates: [Option<SystemTime>; 2],
    /// What the kernel knows of the process.
    pub vitals: Vitals,
}

/// What the kernel knows of the process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    /// CPU time, of the kernel's work for it too.
    pub cpu_seconds: f64,
    /// Memory that it has in fact.
    pub resident_bytes: u64,
    /// Memory that it has addresses for.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Most of them that it may open.
    pub max_files: u64,
    /// When it started.
    pub started: SystemTime,
}

/// How the last RELOAD went; the start counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Whether the configuration was taken over.
    pub succeeded: bool,
    /// When that last happened.
    pub last_success: SystemTime,
}

impl Figures<'_> {
    /// The text that a scrape gets; names that may be clients' choice are told by their labels.
    pub fn text(&self, labels: &mut Labels) -> String {
        let mut families = exporter::families(self, labels);
        families.extend(own::families(self, labels));
        let families: Vec<_> = families.into_iter().filter_map(|it| it.finish()).collect();
        // It fails on families without samples alone.
        let text = TextEncoder::new().encode_to_string(&families);
        text.unwrap_or_default()
    }
}

/// Seconds since 1970.
fn timestamp(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}
