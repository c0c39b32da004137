//! What it takes to tell all metrics while many clients are there, and whom it holds up.

use std::time::{Duration, Instant};

use testkit::{Page, Pooler};

use super::{
    Figure,
    storm::{slowest_percent, watched_until},
    unless_stuck, with_log,
};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    stage::{Stage, local},
    subject::Program,
    work::Work,
};

/// Whose waits are measured meanwhile.
const INSIDE: Load = Load::staying(Work::Simple, 4);

/// Scrapes of a round, and the pause before each: no scraper comes as fast as it is answered.
const SCRAPES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// One round, on a fresh pooler; none for a pooler that has no metrics of its own.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    idle: Load,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(180);
    if program == Program::PgBouncer {
        return Ok(Vec::new());
    }
    let pooler = stage.start_with_metrics(program).await?;
    let measured = unless_stuck(LIMIT, measure(&pooler, idle)).await;
    measured.map_err(with_log(&pooler))
}

async fn measure(pooler: &Pooler, load: Load) -> Result<Vec<Figure>, Failure> {
    let address = local(pooler.port());
    let idle = Crowd::idling(load, address).await?;
    let inside = Crowd::gather(INSIDE, address).await?;
    let (inside, _) = inside.work(Order::Times(Work::Simple.warm_up())).await?;

    let calm = async {
        tokio::time::sleep(PAUSE * SCRAPES as u32).await;
        Ok(())
    };
    let (inside, mut before, ()) = watched_until(inside, calm).await?;
    let (inside, mut during, took) = watched_until(inside, scrape(pooler)).await?;
    inside.leave().await?;
    idle.leave().await?;

    let (before, during) = (slowest_percent(&mut before), slowest_percent(&mut during));
    Ok(vec![
        (Measure::Scrape, took.as_secs_f64() * 1e3),
        (Measure::SlowestPercent, during.as_secs_f64() * 1e6),
        (Measure::Growth, during.as_secs_f64() / before.as_secs_f64()),
    ])
}

/// Scrapes a few times; and how long it took, half of the times.
async fn scrape(pooler: &Pooler) -> Result<Duration, Failure> {
    const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n";
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        tokio::time::sleep(PAUSE).await;
        let asked = Instant::now();
        let page = Page::try_ask(pooler.metrics_port(), REQUEST).await;
        let page = page.map_err(Failure::io("scraping"))?;
        if page.status != 200 || !page.body.contains("\npgusher_") {
            return Err(Failure::Unreadable(format!("a scrape: {}", page.head)));
        }
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(times[SCRAPES / 2])
}
