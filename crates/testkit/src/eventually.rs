//! Waiting for events, under one generous deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything in a test may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition without an event of its own is looked at.
pub(crate) const GLANCE: Duration = Duration::from_millis(5);

/// Returns as soon as `holds`; panics naming `what` when patience ends.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "{caller}: {what}: not within {PATIENCE:?}"
            );
            sleep(GLANCE).await;
        }
    }
}

/// Like [`eventually`], for a condition that must itself ask and wait.
pub async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !holds().await {
            sleep(GLANCE).await;
        }
    })
    .await;
}

/// The future's value; panics naming `what` when patience ends.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
