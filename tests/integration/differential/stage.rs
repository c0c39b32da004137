//! The stage: PostgreSQL, a pooler before it, and as many lanes as shall play at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{Pooler, PoolerSetup, Postgres};
use tokio::task::JoinSet;

use super::author::{Author, Topic};
use super::coverage::Coverage;
use super::differences::Difference;
use super::lane::{DIRECT, Failure, Lane, POOLED};
use super::script::Script;
use super::shrink::{Case, shrink};

/// Clients at once, on three workers; each a lane.
pub(super) const LANES: usize = 6;

/// How long PostgreSQL or the pooler may say nothing before an answer counts as missing.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The same while a failure is tried again, with nobody else before the pooler.
const SILENCE_MAX_ALONE: Duration = Duration::from_secs(3);

/// How many scripts before a failure are played again to see it once more.
const HISTORIES: [usize; 3] = [1, 12, 60];

/// PostgreSQL with equal databases, and how to put a pooler before it; without one, PostgreSQL
/// is compared with itself.
pub(super) struct Stage {
    postgres: Postgres,
    setup: Option<PoolerSetup>,
    intended: Vec<&'static Difference>,
}

/// A run of many scripts.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) seed: u64,
    /// Over all lanes.
    pub(super) scripts: usize,
    pub(super) topic: Topic,
}

impl Stage {
    /// Sets PostgreSQL up; the pooler gets one pool with one seat and one with two.
    pub(super) async fn new(
        setup: Option<PoolerSetup>,
        intended: &[&[&'static Difference]],
    ) -> Self {
        // A statement that many clients share would come to its generic plan sooner than one of each: what
        // planning with the values finds is then found, and told, a message later.
        let always_planned = Postgres::setup().set("plan_cache_mode", "force_custom_plan");
        let postgres = always_planned.start().await;
        postgres.create_trusted_user("alice").await;
        postgres.create_database(DIRECT).await;
        let mut setup = setup;
        for (seats, database) in (1..).zip(POOLED) {
            postgres.create_database(database).await;
            let pool = format!("{} pool_size={seats}", postgres.conn_info(database));
            setup = setup.map(|setup| setup.database(database, &pool));
        }
        Self {
            postgres,
            setup,
            intended: intended.concat(),
        }
    }

    /// Plays random scripts on all lanes at once, and returns what they have covered.
    pub(super) async fn perform(&self, run: Run) -> Coverage {
        let pooler = self.pooler().await;
        let history = Arc::new(Mutex::new(Vec::new()));
        let mut lanes = JoinSet::new();
        for number in 0..LANES {
            let lane = self.lane(number, &pooler, SILENCE_MAX);
            lanes.spawn(play_all(lane, run, history.clone()));
        }
        let mut coverage = Coverage::default();
        while let Some(played) = lanes.join_next().await {
            match played.expect("a lane that ends") {
                Ok(covered) => coverage.add(covered),
                Err(failure) => {
                    lanes.shutdown().await;
                    drop(pooler);
                    let history = history.lock().unwrap().clone();
                    self.report(run, &failure, &history).await;
                }
            }
        }
        coverage
    }

    /// Plays scripts one after the other, on a fresh pooler.
    pub(super) async fn replay(&self, case: &[Script]) -> Result<Coverage, Box<Failure>> {
        let pooler = self.pooler().await;
        let mut lanes: Vec<_> = (0..LANES)
            .map(|number| self.lane(number, &pooler, SILENCE_MAX_ALONE))
            .collect();
        for script in case {
            lanes[script.owner.lane].play(script).await?;
        }
        let mut coverage = Coverage::default();
        lanes
            .into_iter()
            .for_each(|lane| coverage.add(lane.coverage));
        Ok(coverage)
    }

    async fn pooler(&self) -> Option<Pooler> {
        match self.setup.clone() {
            Some(setup) => Some(setup.start().await),
            None => None,
        }
    }

    fn lane(&self, number: usize, pooler: &Option<Pooler>, silence_max: Duration) -> Lane {
        let direct = self.postgres.address();
        let pooled = pooler.as_ref().map_or(direct.clone(), Pooler::address);
        Lane::new(number, &direct, &pooled, self.intended.clone(), silence_max)
    }

    /// Panics with the shortest case that fails as this one did.
    async fn report(&self, run: Run, failure: &Failure, history: &[Script]) -> ! {
        let seed = run.seed;
        for len in HISTORIES {
            let start = history.len().saturating_sub(len);
            let case: Case = match len {
                1 => vec![failure.script.clone()],
                _ => history[start..].to_vec(),
            };
            if let Some((case, failure)) = shrink(self, case).await {
                let told: String = case.iter().map(ToString::to_string).collect();
                panic!("seed {seed}; it takes\n{told}\n{}", failure.tell());
            }
        }
        panic!("seed {seed}; not seen a second time:\n{}", failure.tell());
    }
}

/// Plays a lane's share of the scripts.
async fn play_all(
    mut lane: Lane,
    run: Run,
    history: Arc<Mutex<Vec<Script>>>,
) -> Result<Coverage, Box<Failure>> {
    for nth in 0..run.scripts.div_ceil(LANES) {
        let script = Author::script(run.seed, lane.owner, nth, run.topic);
        history.lock().unwrap().push(script.clone());
        lane.play(&script).await?;
    }
    Ok(lane.coverage)
}
