//! The same scripts to PostgreSQL and through the pooler: clients hear the same, but for the
//! differences that are listed.

mod answers;
mod author;
mod compare;
mod coverage;
mod dice;
mod differences;
mod lane;
mod line;
mod script;
mod shrink;
mod sql;
mod stage;

use std::env;

use testkit::PoolerSetup;

use crate::support::trusting;

use author::Topic;
use coverage::Coverage;
use differences::{DIFFERENCES, REFUSALS};
use lane::TWO;
use script::{Owner, Script};
use stage::{Run, Stage};

/// Another seed for other scripts: what a failure tells, to see it again.
const SEED: &str = "PGUSHER_DIFFERENTIAL_SEED";
/// More scripts, for a long night.
const SCRIPTS: &str = "PGUSHER_DIFFERENTIAL_SCRIPTS";

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    let given = env::var(name).ok();
    given.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
    })
}

#[expect(clippy::print_stdout, reason = "the table is for the reader")]
async fn perform(stage: Stage, topic: Topic, scripts: usize) -> Coverage {
    let run = Run {
        seed: from_environment(SEED, 1),
        scripts: from_environment(SCRIPTS, scripts),
        topic,
    };
    let coverage = stage.perform(run).await;
    println!("{topic:?}, seed {}: {coverage}", run.seed);
    assert_eq!(coverage.missing(), [""; 0]);
    assert!(coverage.with_errors * 10 >= coverage.scripts);
    coverage
}

/// A pooler that answers as PostgreSQL does wherever it can.
fn faithful(workers: u32) -> PoolerSetup {
    trusting(workers).set("prepared_statement_errors", "postgres")
}

#[tokio::test]
async fn postgresql_repeats_itself() {
    let stage = Stage::new(None, &[]).await;
    perform(stage, Topic::Everything, 500).await;
}

#[tokio::test]
async fn clients_hear_what_postgresql_says() {
    let stage = Stage::new(Some(faithful(3)), &[DIFFERENCES]).await;
    let coverage = perform(stage, Topic::Everything, 4000).await;
    // With one seat its server went from worker to worker.
    assert!(coverage.fewest_servers(TWO) >= 2);
}

#[tokio::test]
async fn clients_hear_the_same_of_statements_that_servers_forget() {
    let setup = faithful(3).set("max_prepared_statements", 3);
    let stage = Stage::new(Some(setup), &[DIFFERENCES]).await;
    perform(stage, Topic::Statements, 3000).await;
}

#[tokio::test]
async fn clients_hear_the_same_of_copies() {
    let stage = Stage::new(Some(faithful(1)), &[DIFFERENCES]).await;
    perform(stage, Topic::Copies, 2000).await;
}

#[tokio::test]
async fn clients_hear_the_same_until_a_wrong_name_ends_them() {
    let stage = Stage::new(Some(trusting(3)), &[DIFFERENCES, REFUSALS]).await;
    let coverage = perform(stage, Topic::Everything, 1000).await;
    let met = coverage.differences();
    assert!(
        REFUSALS
            .iter()
            .all(|refusal| met.contains_key(refusal.what))
    );
}

#[tokio::test]
async fn each_intended_difference_is_still_there() {
    // Servers that keep nothing from one lease to the next.
    let forgetful = |setup: PoolerSetup| {
        setup
            .set("server_reset_query", "DISCARD ALL")
            .set("server_reset_query_always", 1)
    };
    for (setup, differences) in [(faithful(3), DIFFERENCES), (trusting(3), REFUSALS)] {
        let stage = Stage::new(Some(forgetful(setup)), &[differences]).await;
        for difference in differences {
            for example in (difference.examples)() {
                let script = Script::patient(Owner { lane: 0, life: 0 }, example);
                let played = stage.replay(&[script]).await;
                let coverage = played.unwrap_or_else(|failure| panic!("{}", failure.tell()));
                let met: Vec<_> = coverage.differences().iter().collect();
                assert_eq!(met, [(&difference.what, &2)], "{}", difference.why);
            }
        }
    }
}
