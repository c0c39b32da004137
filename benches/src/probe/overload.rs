//! What is left of the throughput when ten times as many clients come as can be served at once.

use std::time::Duration;

use super::{Effort, Figure, load::watch, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    stage::Running,
};

/// Parts of all clients with whom the pooler may be at its best: as many as there are seats, or twice
/// as many.
const FEWER: [usize; 2] = [20, 10];

/// One round.
pub(crate) async fn round(
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(240);
    watched_over(running, LIMIT, measure(running, load, effort)).await
}

async fn measure(running: &Running, load: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    // By turns, and the best of each: what slows a machine down for a moment hits only one of them.
    const TURNS: usize = 3;
    let (mut peak, mut overloaded) = (0.0, 0.0);
    for _ in 0..TURNS {
        for part in FEWER {
            let clients = load.clients / part;
            let fewer = throughput(running, Load { clients, ..load }, effort).await?;
            peak = f64::max(peak, fewer);
        }
        overloaded = f64::max(overloaded, throughput(running, load, effort).await?);
    }
    Ok(vec![
        (Measure::TransactionsPerSecond, overloaded),
        (Measure::ToPeak, overloaded / peak),
    ])
}

async fn throughput(running: &Running, load: Load, effort: Effort) -> Result<f64, Failure> {
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, _) = crowd.work(Order::Times(load.work.warm_up())).await?;
    let (crowd, watched) = watch(running, crowd, effort).await?;
    crowd.leave().await?;
    Ok(watched.per_second())
}
