//! CPU and throughput, while clients ask as fast as they are answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{time::sleep, try_join};

use super::{Effort, Figure, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    machine,
    measure::Measure,
    stage::{Running, Stage},
};

/// What one crowd did while we watched.
pub(super) struct Watched {
    transactions: u64,
    took: Duration,
    /// Of the pooler, if there is one.
    cpu: Option<Duration>,
}

/// One round.
pub(crate) async fn round(
    stage: &Stage,
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    let arrived_before = stage.rows_arrived().await?;
    let limit = effort.load_max + Duration::from_secs(60);
    let (watched, total) = watched_over(running, limit, measure(running, load, effort)).await?;
    let arrived = stage.rows_arrived().await? - arrived_before;
    let sent = total * load.work.rows_arriving();
    if arrived != sent {
        return Err(Failure::RowsLost { arrived, sent });
    }
    Ok(watched.figures())
}

/// Has a crowd warm up, work and leave. The total counts the warming up too.
async fn measure(running: &Running, load: Load, effort: Effort) -> Result<(Watched, u64), Failure> {
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, warmed_up) = crowd.work(Order::Times(load.work.warm_up())).await?;
    let (crowd, watched) = watch(running, crowd, effort).await?;
    crowd.leave().await?;
    let total = watched.transactions + warmed_up;
    Ok((watched, total))
}

/// Has a crowd work until it was measured well.
pub(super) async fn watch(
    running: &Running,
    crowd: Crowd,
    effort: Effort,
) -> Result<(Crowd, Watched), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let ticks_before = running.cpu_ticks();
    let started = Instant::now();
    let working = crowd.work(Order::Until(stop.clone()));
    let timing = async {
        enough(running, effort).await;
        stop.store(true, Ordering::Relaxed);
        Ok(())
    };
    let ((crowd, transactions), ()) = try_join!(working, timing)?;
    let took = started.elapsed();
    let ticks = (running.cpu_ticks().zip(ticks_before)).map(|(after, before)| after - before);
    let watched = Watched {
        transactions,
        took,
        cpu: ticks.map(machine::ticks_to_time),
    };
    Ok((crowd, watched))
}

/// Returns when the load has lasted long enough to be measured well.
async fn enough(running: &Running, effort: Effort) {
    const GLANCE: Duration = Duration::from_millis(50);
    let (started, before) = (Instant::now(), running.cpu_ticks());
    sleep(effort.load_min).await;
    let too_few = || {
        let used = running.cpu_ticks().zip(before);
        used.is_some_and(|(after, before)| after - before < effort.ticks_min)
    };
    while too_few() && started.elapsed() < effort.load_max {
        sleep(GLANCE).await;
    }
}

impl Watched {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let cpu = (self.cpu_per_transaction()).map(|micros| (Measure::CpuPerTransaction, micros));
        let throughput = (Measure::TransactionsPerSecond, self.per_second());
        cpu.into_iter().chain([throughput]).collect()
    }

    /// In microseconds.
    pub(super) fn cpu_per_transaction(&self) -> Option<f64> {
        let micros = self.cpu?.as_secs_f64() * 1e6;
        Some(micros / self.transactions as f64)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.transactions as f64 / self.took.as_secs_f64()
    }
}
