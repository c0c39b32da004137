//! What a busy client costs beside many who only stay.

use std::time::Duration;

use super::{Effort, Figure, load::watch, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    stage::{Running, Stage},
    subject::{Program, Subject},
    work::Work,
};

/// Those who work, alone at first.
pub(super) const BUSY: Load = Load::staying(Work::Simple, 100);

/// One round, on a fresh pooler.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    idle: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(180);
    let subject = Subject::Pooler(program);
    let running = stage.start(subject, idle.door, idle.lines).await?;
    watched_over(&running, LIMIT, measure(&running, idle, effort)).await
}

async fn measure(running: &Running, idle: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    let busy = Crowd::gather(BUSY, running.address()).await?;
    let (busy, _) = busy.work(Order::Times(BUSY.work.warm_up())).await?;
    let (busy, alone) = watch(running, busy, effort).await?;
    let idle = Crowd::idling(idle, running.address()).await?;
    let (busy, beside) = watch(running, busy, effort).await?;
    busy.leave().await?;
    idle.leave().await?;

    let costs = beside
        .cpu_per_transaction()
        .zip(alone.cpu_per_transaction());
    let growth = costs.map(|(beside, alone)| (Measure::CpuToAlone, beside / alone));
    Ok(beside.figures().into_iter().chain(growth).collect())
}
