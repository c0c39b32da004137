//! What thousands of pools cost at rest, and a busy one among them.

use std::time::Duration;

use testkit::FakeServer;
use tokio::task::JoinSet;

use super::{Effort, Figure, beside::BUSY, load::watch, rest::at_rest, watched_over};
use crate::{
    client::{Client, Order},
    crowd::{Crowd, all},
    door::{Door, Way},
    failure::Failure,
    measure::Measure,
    stage::{Running, Stage},
    subject::Program,
    work::Work,
};

/// Pools that were used once: each user's of each database, with a server each.
#[derive(Clone, Copy)]
pub(crate) struct Pools {
    pub(crate) users: usize,
    pub(crate) databases: usize,
}

/// One round, on a fresh pooler. The pools at rest lead to a scripted server, which need not be as
/// large as a PostgreSQL with so many sessions.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    pools: Pools,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(180);
    let server = FakeServer::start().await;
    let setup = stage.pooler(program, Door::Trust);
    let setup = (0..pools.databases).fold(setup, |setup, number| {
        setup.database(&database(number), &server.conn_info(&database(number)))
    });
    let setup = (0..pools.users).fold(setup, |setup, number| setup.user(&user(number), ""));
    let running = Running::of(setup).await?;
    let measured = measure(&running, program, pools, &server, effort);
    watched_over(&running, LIMIT, measured).await
}

async fn measure(
    running: &Running,
    program: Program,
    pools: Pools,
    server: &FakeServer,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    let busy = Crowd::gather(BUSY, running.address()).await?;
    let (busy, _) = busy.work(Order::Times(BUSY.work.warm_up())).await?;
    let (busy, alone) = watch(running, busy, effort).await?;
    use_all(running, pools).await?;
    let (opened, wanted) = (server.logged_in(), pools.users * pools.databases);
    if opened != wanted {
        return Err(Failure::Unreadable(format!(
            "{opened} pools with a server, {wanted} were used"
        )));
    }

    let mut figures = match running.pooler() {
        Some(pooler) => at_rest(pooler, program, effort).await,
        None => Vec::new(),
    };
    let (busy, among) = watch(running, busy, effort).await?;
    busy.leave().await?;
    figures.extend(among.figures());
    let costs = among.cpu_per_transaction().zip(alone.cpu_per_transaction());
    figures.extend(costs.map(|(among, alone)| (Measure::CpuToAlone, among / alone)));
    Ok(figures)
}

/// A client of each pool does one transaction, and leaves.
async fn use_all(running: &Running, pools: Pools) -> Result<(), Failure> {
    let way = Way::through(Door::Trust);
    for number in 0..pools.databases {
        let mut visits = JoinSet::new();
        for guest in 0..pools.users {
            let way = way.to(&database(number), &user(guest));
            let address = running.address();
            visits.spawn(async move {
                let mut client = Client::inside(guest, Work::Scripted, address, &way).await?;
                client.work(&Order::Times(1)).await?;
                client.leave().await
            });
        }
        all(visits).await?;
    }
    Ok(())
}

fn database(number: usize) -> String {
    format!("pool{number}")
}

fn user(number: usize) -> String {
    format!("guest{number}")
}
