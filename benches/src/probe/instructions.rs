//! User instructions and calls of the allocator, counted by callgrind over a fixed number of
//! transactions.

use std::{fs, time::Duration};

use testkit::Signal;

use super::{Effort, Figure, unless_stuck, with_log};
use crate::{
    callgrind::Counts,
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
    measure::Measure,
    stage::{COUNTS, Stage, local},
    subject::Program,
};

/// One round: two runs, one with twice the transactions, so that start, logins and end cancel.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    let each = effort.transactions_counted / load.clients as u64;
    let once = count(stage, program, load, each).await?;
    let twice = count(stage, program, load, each * 2).await?;
    let transactions = (each * load.clients as u64) as f64;
    let per_transaction =
        |of: fn(&Counts) -> u64| (of(&twice) as f64 - of(&once) as f64) / transactions;
    Ok(vec![
        (
            Measure::InstructionsPerTransaction,
            per_transaction(|counts| counts.instructions),
        ),
        (
            Measure::AllocationsPerTransaction,
            per_transaction(|counts| counts.allocations),
        ),
    ])
}

/// All that a pooler did in a life with so many transactions of each client.
async fn count(stage: &Stage, program: Program, load: Load, each: u64) -> Result<Counts, Failure> {
    const LIMIT: Duration = Duration::from_secs(300);
    let mut pooler = stage.start_counted(program).await?;
    let worked = unless_stuck(LIMIT, async {
        let crowd = Crowd::gather(load, local(pooler.port())).await?;
        let (crowd, _) = crowd.work(Order::Times(each)).await?;
        crowd.leave().await
    })
    .await;
    worked.map_err(with_log(&pooler))?;
    pooler.signal(Signal::SIGTERM);
    pooler.wait_exit().await;
    let path = pooler.dir().join(COUNTS);
    let text = fs::read_to_string(path).map_err(Failure::io("reading callgrind's counts"))?;
    Counts::read(&text)
        .ok_or_else(|| Failure::Unreadable("callgrind's counts have no line of totals".to_owned()))
}
