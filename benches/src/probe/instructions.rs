//! User instructions, counted by callgrind over a fixed number of transactions.

use std::{fs, time::Duration};

use testkit::Signal;

use super::{Effort, Figure, Measure, unless_stuck, with_log};
use crate::{
    client::Order,
    crowd::{Crowd, Load},
    failure::Failure,
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
    let per_transaction = (twice as f64 - once as f64) / transactions;
    Ok(vec![(Measure::InstructionsPerTransaction, per_transaction)])
}

/// All instructions of a pooler's life with so many transactions of each client.
async fn count(stage: &Stage, program: Program, load: Load, each: u64) -> Result<u64, Failure> {
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
    let counts = fs::read_to_string(path).map_err(Failure::io("reading callgrind's counts"))?;
    total(&counts)
        .ok_or_else(|| Failure::Unreadable("callgrind's counts have no line of totals".to_owned()))
}

fn total(counts: &str) -> Option<u64> {
    let totals = counts.lines().find_map(|it| it.strip_prefix("totals:"))?;
    totals.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_stands_at_the_end_of_the_counts() {
        let counts = "events: Ir\nsummary: 12\n\nfn=(1) main\n5 12\n\ntotals: 1234\n";

        assert_eq!(total(counts), Some(1234));
    }

    #[test]
    fn counts_without_a_total_are_not_believed() {
        assert_eq!(total("events: Ir\n"), None);
    }
}
