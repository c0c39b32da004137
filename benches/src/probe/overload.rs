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

/// Parts of all clients with whom the pooler may be at its best: as many as there are seats, twice
/// as many, four times.
const FEWER: [usize; 3] = [20, 10, 5];

/// One round.
pub(crate) async fn round(
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(120);
    watched_over(running, LIMIT, measure(running, load, effort)).await
}

async fn measure(running: &Running, load: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    let mut peak = 0.0;
    for part in FEWER {
        let clients = load.clients / part;
        peak = f64::max(
            peak,
            throughput(running, Load { clients, ..load }, effort).await?,
        );
    }
    let overloaded = throughput(running, load, effort).await?;
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
