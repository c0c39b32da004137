//! Start and RELOAD with thousands of databases in the ini, and whom RELOAD holds up.

use std::time::{Duration, Instant};

use testkit::{Console, Pooler, PoolerSetup};
use tokio::time::sleep;

use super::{Effort, Figure, storm::watched_until, unless_stuck, with_log};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    door::Door,
    failure::Failure,
    measure::Measure,
    process::cpu_of_each,
    stage::{Stage, local},
    subject::Program,
    work::Work,
};

/// Whose waits are measured meanwhile: a few for each worker.
const INSIDE: Load = Load::staying(Work::Simple, 8);

/// One round, on a fresh pooler.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    databases: usize,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(120);
    let describe = |setup, pool_size| with_databases(setup, stage, databases, pool_size);
    let setup = describe(stage.pooler(program, Door::Trust), 7);
    let started = Instant::now();
    let mut pooler = setup.try_start().await?;
    let start = started.elapsed();
    pooler.rewrite(|setup| describe(setup, 8));
    let spent = unless_stuck(LIMIT, spent_on_reload(&pooler)).await;
    let spent = spent.map_err(with_log(&pooler))?;
    pooler.rewrite(|setup| describe(setup, 9));
    let measured = unless_stuck(LIMIT, reload(&pooler, effort)).await;
    let mut figures = measured.map_err(with_log(&pooler))?;
    figures.push((Measure::ReloadInWorker, millis(spent)));
    figures.push((Measure::Start, millis(start)));
    Ok(figures)
}

/// Every one of them changes by a RELOAD that brings another size.
fn with_databases(
    setup: PoolerSetup,
    stage: &Stage,
    databases: usize,
    pool_size: usize,
) -> PoolerSetup {
    let conn_info = format!("{} pool_size={pool_size}", stage.conn_info());
    (0..databases).fold(setup, |setup, number| {
        setup.database(&format!("database{number}"), &conn_info)
    })
}

/// The CPU that a RELOAD takes of a worker, while nobody else asks for anything: so long it can't
/// serve clients.
async fn spent_on_reload(pooler: &Pooler) -> Result<Duration, Failure> {
    // What follows from it comes at the next pass, of three in a second.
    const SETTLES: Duration = Duration::from_secs(1);
    let console = pooler.console().await;
    let before = cpu_of_each(pooler.pid());
    order_reload(&console).await?;
    sleep(SETTLES).await;
    let after = cpu_of_each(pooler.pid());
    let spent = (after.iter().zip(&before)).map(|(after, before)| after.saturating_sub(*before));
    Ok(spent.max().unwrap_or_default())
}

async fn order_reload(console: &Console) -> Result<(), Failure> {
    let reloaded = console.try_run("RELOAD").await;
    reloaded.map_err(|error| Failure::Unreadable(format!("RELOAD: {error}")))
}

async fn reload(pooler: &Pooler, effort: Effort) -> Result<Vec<Figure>, Failure> {
    // What comes late may be late because of the RELOAD.
    const AFTER: Duration = Duration::from_millis(200);
    let console = pooler.console().await;
    let inside = Crowd::gather(INSIDE, local(pooler.port())).await?;
    let (inside, _) = inside.work(Order::Times(INSIDE.work.warm_up())).await?;
    let calm = async {
        sleep(effort.watch).await;
        Ok(())
    };
    let (inside, before, ()) = watched_until(inside, calm).await?;
    let reloading = async {
        let asked = Instant::now();
        order_reload(&console).await?;
        let took = asked.elapsed();
        sleep(AFTER).await;
        Ok(took)
    };
    let (inside, during, took) = watched_until(inside, reloading).await?;
    inside.leave().await?;

    let worst = |times: Vec<Duration>| millis(times.into_iter().max().unwrap_or_default());
    Ok(vec![
        (Measure::Reload, millis(took)),
        (Measure::WorstMeanwhile, worst(during)),
        (Measure::WorstBefore, worst(before)),
    ])
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
