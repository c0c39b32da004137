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
use differences::DIFFERENCES;
use lane::TWO;
use script::Script;
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
async fn perform(setup: Option<PoolerSetup>, topic: Topic, scripts: usize) -> Coverage {
    let run = Run {
        seed: from_environment(SEED, 1),
        scripts: from_environment(SCRIPTS, scripts),
        topic,
    };
    let stage = Stage::new(setup).await;
    let coverage = stage.perform(run).await;
    println!("{topic:?}, seed {}: {coverage}", run.seed);
    assert_eq!(coverage.missing(), [""; 0]);
    assert!(coverage.with_errors * 10 >= coverage.scripts);
    coverage
}

/// A pooler whose streams shall be PostgreSQL's.
fn faithful(workers: u32) -> PoolerSetup {
    trusting(workers).set("prepared_statement_errors", "postgres")
}

#[tokio::test]
async fn postgresql_repeats_itself() {
    perform(None, Topic::Everything, 500).await;
}

#[tokio::test]
async fn clients_hear_what_postgresql_says() {
    let coverage = perform(Some(faithful(3)), Topic::Everything, 4000).await;
    assert!(coverage.fewest_servers(TWO) >= 2);
}

#[tokio::test]
async fn clients_hear_the_same_of_statements_that_servers_forget() {
    let forgetful = faithful(3).set("max_prepared_statements", 3);
    perform(Some(forgetful), Topic::Statements, 4000).await;
}

#[tokio::test]
async fn clients_hear_the_same_of_copies() {
    perform(Some(faithful(1)), Topic::Copies, 2000).await;
}

#[tokio::test]
async fn each_intended_difference_is_still_there() {
    let forgetful = faithful(3)
        .set("server_reset_query", "DISCARD ALL")
        .set("server_reset_query_always", 1);
    let stage = Stage::new(Some(forgetful)).await;
    for difference in DIFFERENCES {
        for example in (difference.examples)() {
            let script = Script::patient(0, example);
            let played = stage.replay(&[script]).await;
            let coverage = played.unwrap_or_else(|failure| panic!("{}", failure.tell()));
            let met: Vec<_> = coverage.differences().iter().collect();
            assert_eq!(met, [(&difference.what, &2)], "{}", difference.why);
        }
    }
}
