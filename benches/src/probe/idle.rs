//! Memory for clients that did one transaction and stayed.

use std::time::Duration;

use testkit::Pooler;

use super::{Figure, unless_stuck, with_log};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    process::resident,
    stage::{Stage, local},
    subject::Program,
    work::Work,
};

/// These open all seats first, so that servers are not counted with the clients.
const OPENERS: Load = Load::staying(Work::Simple, 64);

/// One round, on a pooler that has seen nothing before.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    load: Load,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(120);
    let pooler = stage.start_pooler(program, load.door).await?;
    let measured = unless_stuck(LIMIT, measure(&pooler, load)).await;
    measured.map_err(with_log(&pooler))
}

async fn measure(pooler: &Pooler, load: Load) -> Result<Vec<Figure>, Failure> {
    let address = local(pooler.port());
    let openers = Crowd::gather(OPENERS.through(load.door), address).await?;
    let (openers, _) = openers.work(Order::Times(Work::Simple.warm_up())).await?;

    let before = resident(pooler);
    let idle = Crowd::idling(load, address).await?;
    let after = resident(pooler);

    // They still work: a pooler that forgot them would have saved memory the wrong way.
    let (idle, _) = idle.work(Order::Times(1)).await?;
    idle.leave().await?;
    openers.leave().await?;
    let per_client = (after as f64 - before as f64) / load.clients as f64;
    Ok(vec![(Measure::BytesPerIdleClient, per_client)])
}
