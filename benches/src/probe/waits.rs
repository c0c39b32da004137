//! How long each client waits for its answers, and whether all are served alike.

use std::time::Duration;

use tokio::time::sleep;

use super::{Effort, Figure, storm::watched_each_until, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    stage::Running,
    statistics::percentile,
};

/// One round.
pub(crate) async fn round(
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(60);
    watched_over(running, LIMIT, measure(running, load, effort)).await
}

async fn measure(running: &Running, load: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    let crowd = Crowd::gather(load, running.address()).await?;
    let (crowd, _) = crowd.work(Order::Times(load.work.warm_up())).await?;
    let watching = async {
        sleep(effort.watch).await;
        Ok(())
    };
    let (crowd, times, ()) = watched_each_until(crowd, watching).await?;
    crowd.leave().await?;

    let served = times.iter().map(Vec::len);
    let unevenness = (served.clone().max().zip(served.min()))
        .map(|(most, least)| (Measure::Unevenness, most as f64 / least as f64));
    let mut times = times.concat();
    times.sort_unstable();
    let waits = [
        (Measure::Median, 0.5),
        (Measure::Percent, 0.99),
        (Measure::Permille, 0.999),
    ]
    .map(|(measure, part)| (measure, percentile(&times, part).as_secs_f64() * 1e6));
    let of_many = unevenness.filter(|_| load.clients > 1);
    Ok(waits.into_iter().chain(of_many).collect())
}
