//! As many clients on one process as the limit of open files allows, all of them served.

use std::time::{Duration, Instant};

use super::{Figure, watched_over};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    machine,
    measure::Measure,
    process::resident,
    stage::{Running, Stage},
    subject::{Program, Subject},
};

/// Open files that the pooler has for anything but clients.
const OTHER_FILES: usize = 500;

/// One round, on a fresh pooler. The load generator has the same limit, and needs as many.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    load: Load,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(180);
    let room = machine::open_files().saturating_sub(OTHER_FILES);
    let clients = load.clients.min(room);
    let subject = Subject::Pooler(program);
    let running = stage.start(subject, load.door, load.lines).await?;
    watched_over(&running, LIMIT, measure(&running, Load { clients, ..load })).await
}

async fn measure(running: &Running, load: Load) -> Result<Vec<Figure>, Failure> {
    let before = running.pooler().map_or(0, resident);
    let started = Instant::now();
    let crowd = Crowd::idling(load, running.address()).await?;
    let came = started.elapsed();
    let after = running.pooler().map_or(0, resident);

    // All at once: none of them was forgotten.
    let started = Instant::now();
    let (crowd, served) = crowd.work(Order::Times(2)).await?;
    let took = started.elapsed();
    crowd.leave().await?;

    let clients = load.clients as f64;
    Ok(vec![
        (Measure::ClientsServed, clients),
        (Measure::LoginsPerSecond, clients / came.as_secs_f64()),
        (
            Measure::TransactionsPerSecond,
            served as f64 / took.as_secs_f64(),
        ),
        (
            Measure::BytesPerIdleClient,
            after.saturating_sub(before) as f64 / clients,
        ),
    ])
}
