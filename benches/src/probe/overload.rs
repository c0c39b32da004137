//! What is left of the throughput when ten times as many clients come as can be served at once.

use std::time::Duration;

use super::{
    Effort, Figure,
    load::{Watched, watch},
    watched_over,
};
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
    let (mut peak, mut overloaded) = (Best::default(), Best::default());
    for _ in 0..TURNS {
        for part in FEWER {
            let clients = load.clients / part;
            peak.see(&watched(running, Load { clients, ..load }, effort).await?);
        }
        overloaded.see(&watched(running, load, effort).await?);
    }
    let costs = overloaded.cost.zip(peak.cost);
    let growth = costs.map(|(overloaded, peak)| (Measure::CpuToPeak, overloaded / peak));
    let throughput = [
        (Measure::TransactionsPerSecond, overloaded.per_second),
        (Measure::ToPeak, overloaded.per_second / peak.per_second),
    ];
    Ok(throughput.into_iter().chain(growth).collect())
}

/// The turn with the highest throughput.
#[derive(Default)]
struct Best {
    per_second: f64,
    /// CPU per transaction.
    cost: Option<f64>,
}

impl Best {
    fn see(&mut self, watched: &Watched) {
        if watched.per_second() > self.per_second {
            self.per_second = watched.per_second();
            self.cost = watched.cpu_per_transaction();
        }
    }
}

async fn watched(running: &Running, load: Load, effort: Effort) -> Result<Watched, Failure> {
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, _) = crowd.work(Order::Times(load.work.warm_up())).await?;
    let (crowd, watched) = watch(running, crowd, effort).await?;
    crowd.leave().await?;
    Ok(watched)
}
