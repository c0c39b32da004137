//! How often a pooler wakes up that has nothing to do.

use std::time::Duration;

use testkit::Pooler;
use tokio::time::sleep;

use super::{Effort, Figure, unless_stuck, with_log};
use crate::{
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    process::{cpu, wake_ups},
    stage::{Stage, local},
    subject::Program,
};

/// One round, on a fresh pooler with a few idle clients and servers.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(60);
    let pooler = stage.start_pooler(program, load.door).await?;
    let measured = unless_stuck(LIMIT, async {
        let idle = Crowd::idling(load, local(pooler.port())).await?;
        let figures = at_rest(&pooler, program, effort).await;
        idle.leave().await?;
        Ok(figures)
    });
    measured.await.map_err(with_log(&pooler))
}

/// What a pooler does while nobody asks for anything.
pub(super) async fn at_rest(pooler: &Pooler, program: Program, effort: Effort) -> Vec<Figure> {
    // What the last clients left to do is done by then.
    const SETTLES: Duration = Duration::from_secs(1);
    sleep(SETTLES).await;
    let (cpu_before, wake_ups_before) = (cpu(pooler.pid()), wake_ups(pooler.pid()));
    sleep(effort.watch).await;
    let used = cpu(pooler.pid()) - cpu_before;
    let woke = wake_ups(pooler.pid()) - wake_ups_before;

    let seconds = effort.watch.as_secs_f64();
    let per_worker = woke as f64 / seconds / f64::from(program.workers());
    vec![
        (Measure::WakeUps, per_worker),
        (Measure::CpuAtRest, used.as_secs_f64() / seconds * 100.0),
    ]
}
