//! What the conversations share: a pooler of ours, set up for tests.

use testkit::{Pooler, PoolerSetup};

/// The number of workers that every crossing of workers is tried with.
pub(crate) const WORKERS: [u32; 2] = [1, 3];

/// A pooler under test, as a stock installation would run it.
pub(crate) fn pgusher(workers: u32) -> PoolerSetup {
    Pooler::binary(env!("CARGO_BIN_EXE_pgusher")).set("workers", workers)
}
