//! Where workers run.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::key::WorkerId;

/// Where each worker ran when it last looked.
#[derive(Debug)]
pub struct Cpus(Vec<AtomicU32>);

/// No processor has this number.
const NOWHERE: u32 = u32::MAX;

impl Cpus {
    /// So many workers that have not looked yet.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU32::new(NOWHERE)).collect())
    }

    /// A worker runs there now.
    pub fn note(&self, worker: WorkerId, cpu: u32) {
        self.0[worker.0].store(cpu, Ordering::Relaxed);
    }

    /// Whether a worker ran there when it last looked, however long ago.
    pub fn is_on(&self, worker: usize, cpu: u32) -> bool {
        self.0[worker].load(Ordering::Relaxed) == cpu
    }
}
