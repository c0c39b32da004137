//! CPU and throughput, while clients ask as fast as they are answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{time::sleep, try_join};

use super::{Effort, Figure, Measure, unless_stuck, with_log};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    machine,
    stage::{Running, Stage},
};

/// What one crowd did while we watched.
struct Watched {
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
    let watched = unless_stuck(limit, watch(running, load, effort)).await;
    let (watched, total) = match running {
        Running::Pooler(pooler) => watched.map_err(with_log(pooler))?,
        Running::Direct(_) => watched?,
    };
    let arrived = stage.rows_arrived().await? - arrived_before;
    let sent = total * load.work.rows_arriving();
    if arrived != sent {
        return Err(Failure::RowsLost { arrived, sent });
    }
    Ok(watched.figures())
}

/// Has a crowd warm up, work and leave. The total counts the warming up too.
async fn watch(running: &Running, load: Load, effort: Effort) -> Result<(Watched, u64), Failure> {
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, warmed_up) = crowd.work(Order::Times(load.work.warm_up())).await?;

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

    crowd.leave().await?;
    let watched = Watched {
        transactions,
        took,
        cpu: ticks.map(machine::ticks_to_time),
    };
    Ok((watched, transactions + warmed_up))
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
    fn figures(&self) -> Vec<Figure> {
        let transactions = self.transactions as f64;
        let cpu = self.cpu.map(|cpu| {
            let micros = cpu.as_secs_f64() * 1e6;
            (Measure::CpuPerTransaction, micros / transactions)
        });
        let per_second = transactions / self.took.as_secs_f64();
        let throughput = (Measure::TransactionsPerSecond, per_second);
        cpu.into_iter().chain([throughput]).collect()
    }
}
