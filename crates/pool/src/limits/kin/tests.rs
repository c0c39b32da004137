//! Two processes under one set of limits, and the post between them.

use std::time::Duration;

use events::time::Instant;
use proptest::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::key::{ClientId, WorkerId};
use crate::limits::Gauge;

const POOLS: [&str; 3] = ["app/alice", "app/bob", "shop/alice"];
const HERE: WorkerId = WorkerId(0);

/// An elder with so many servers in each pool, and its heir, which knows of them.
struct Two {
    elder: Limits,
    heir: Limits,
    to_heir: UnboundedReceiver<News>,
    to_elder: UnboundedReceiver<News>,
    bounds: Bounds,
    /// Servers that are open: at the elder, at the heir.
    open: [[u32; 2]; POOLS.len()],
    now: Instant,
}

fn key(pool: usize) -> PoolKey {
    let (database, user) = POOLS[pool].split_once('/').unwrap();
    PoolKey {
        database: database.into(),
        user: user.into(),
    }
}

fn id(pool: usize) -> PoolId {
    PoolId(u32::try_from(pool).unwrap())
}

fn place(of: &PoolKey) -> usize {
    (0..POOLS.len()).position(|pool| key(pool) == *of).unwrap()
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    for pool in 0..POOLS.len() {
        limits.add_pool(id(pool), key(pool), Gauge::default());
    }
    limits
}

impl Two {
    fn new(open: [u32; POOLS.len()], bounds: Bounds) -> Self {
        let (mut elder, mut heir) = (limits(), limits());
        let now = Instant::now();
        heir.await_census();
        let bounds = Bounds {
            login_retry: Duration::from_secs(15),
            ..bounds
        };
        for (pool, count) in open.into_iter().enumerate() {
            for _ in 0..count {
                let permit = elder.open(id(pool), bounds, Purpose::Waiter, HERE, now);
                assert_eq!(permit, Permit::Granted);
                let _ = elder.logged_in(id(pool));
            }
        }
        let permit = heir.open(id(0), bounds, Purpose::Minimum(1), HERE, now);
        assert_eq!(permit, Permit::PoolFull, "nothing is known yet");
        let (post, to_heir) = unbounded_channel();
        for (key, servers) in elder.bequeath(post) {
            heir.count_lent(id(place(&key)), servers);
        }
        let (post, to_elder) = unbounded_channel();
        heir.census_is_over(Some(post));
        Self {
            elder,
            heir,
            to_heir,
            to_elder,
            bounds,
            open: open.map(|count| [count, 0]),
            now,
        }
    }

    fn elder_asks(&mut self, pool: usize) -> Permit {
        let (bounds, now) = (self.bounds, self.now);
        let permit = (self.elder).open(id(pool), bounds, Purpose::Waiter, HERE, now);
        self.open[pool][0] += u32::from(permit == Permit::Granted);
        permit
    }

    fn heir_asks(&mut self, pool: usize) -> Permit {
        let (bounds, now) = (self.bounds, self.now);
        let permit = (self.heir).open(id(pool), bounds, Purpose::Waiter, HERE, now);
        if permit == Permit::Granted {
            let _ = self.heir.logged_in(id(pool));
            self.open[pool][1] += 1;
        }
        permit
    }

    fn elder_closes(&mut self, pool: usize) {
        self.open[pool][0] -= 1;
        let passed = self.elder.closed(id(pool));
        self.used_by_elder(passed);
    }

    fn heir_closes(&mut self, pool: usize) {
        self.open[pool][1] -= 1;
        let passed = self.heir.closed(id(pool));
        self.used_by_heir(passed);
    }

    /// A server goes over.
    fn over(&mut self, pool: usize) {
        self.open[pool][0] -= 1;
        self.open[pool][1] += 1;
        self.elder.goes_over(id(pool));
        self.heir.came_over(id(pool));
    }

    fn used_by_elder(&mut self, passed: Vec<Passed>) {
        for passed in passed {
            self.open[passed.pool.0 as usize][0] += 1;
            let _ = self.elder.logged_in(passed.pool);
        }
    }

    fn used_by_heir(&mut self, passed: Vec<Passed>) {
        for passed in passed {
            match passed.owner {
                Some(client) => self.lend(passed.pool, client),
                None => {
                    self.open[passed.pool.0 as usize][1] += 1;
                    let _ = self.heir.logged_in(passed.pool);
                }
            }
        }
    }

    /// The heir lends a permit, or will.
    fn lend(&mut self, pool: PoolId, client: ClientId) {
        let owner = Owner {
            client,
            worker: HERE,
            since: self.now,
        };
        if self.heir.lend(pool, self.bounds, owner) == Permit::Granted {
            let passed = self.elder.granted(pool);
            self.used_by_elder(passed);
        }
    }

    /// Delivers all post; true if there was any.
    fn post(&mut self) -> bool {
        let mut any = false;
        while let Ok(news) = self.to_heir.try_recv() {
            any = true;
            match news {
                News::Closed(key) => {
                    let passed = self.heir.lent_closed(id(place(&key)));
                    self.used_by_heir(passed);
                }
                News::Wanted(key) => {
                    let pool = place(&key);
                    self.lend(id(pool), ClientId(pool as u64));
                }
                News::Server(..) | News::Needed(..) => unreachable!(),
            }
        }
        while let Ok(news) = self.to_elder.try_recv() {
            any = true;
            assert!(matches!(news, News::Needed(..)));
        }
        any
    }

    fn check(&self) {
        let sum = |pools: &[usize]| {
            let of = |pool: &usize| self.open[*pool].iter().sum::<u32>();
            pools.iter().map(of).sum::<u32>()
        };
        for pool in 0..POOLS.len() {
            assert!(sum(&[pool]) <= self.bounds.pool);
            assert!(self.elder.servers(id(pool)) >= self.open[pool][0]);
            assert!(self.heir.servers(id(pool)) >= sum(&[pool]));
        }
        assert!(sum(&[0, 1]) <= self.bounds.database);
        assert!(sum(&[0, 2]) <= self.bounds.user);
    }
}

fn bounds(pool: u32, database: u32, user: u32) -> Bounds {
    Bounds {
        pool,
        database,
        user,
        ..Bounds::default()
    }
}

#[test]
fn what_the_elder_has_open_counts_at_the_heir() {
    let mut two = Two::new([2, 0, 0], bounds(2, 9, 9));
    assert_eq!(two.heir_asks(0), Permit::PoolFull);
    let told = two.to_elder.try_recv().unwrap();
    assert!(matches!(told, News::Needed(Scope::Pool, _)));
    assert_eq!(two.heir_asks(0), Permit::PoolFull);
    assert!(two.to_elder.try_recv().is_err(), "it was told once");
    two.elder_closes(0);
    two.post();
    assert_eq!(two.heir_asks(0), Permit::Granted);
}

#[test]
fn the_elder_opens_a_server_when_the_heir_has_lent_the_permit() {
    let mut two = Two::new([1, 0, 0], bounds(2, 9, 9));
    assert_eq!(two.elder_asks(0), Permit::Asked);
    assert_eq!(two.open[0], [1, 0]);
    two.post();
    assert_eq!(two.open[0], [2, 0], "who was in line has it");
    assert_eq!(two.heir_asks(0), Permit::PoolFull);
}

#[test]
fn a_permit_that_nobody_wants_any_more_goes_back() {
    let mut two = Two::new([0, 0, 0], bounds(1, 9, 9));
    assert_eq!(two.elder_asks(0), Permit::Asked);
    two.elder.withdraw(id(0), HERE);
    while two.post() {}
    assert_eq!(two.open[0], [0, 0]);
    assert_eq!(two.heir_asks(0), Permit::Granted);
}

#[test]
fn a_server_that_goes_over_takes_its_permit_along() {
    let mut two = Two::new([1, 0, 0], bounds(1, 9, 9));
    two.over(0);
    two.check();
    assert_eq!(two.elder_asks(0), Permit::Asked);
    two.post();
    assert_eq!(two.open[0], [0, 1]);
    two.heir_closes(0);
    two.post();
    assert_eq!(two.open[0], [1, 0]);
}

#[test]
fn what_was_lent_is_free_again_when_the_elder_is_gone() {
    let mut two = Two::new([2, 1, 0], bounds(2, 3, 9));
    assert_eq!(two.heir_asks(0), Permit::PoolFull);
    assert_eq!(two.heir_asks(1), Permit::Full(Scope::Database));
    let passed = two.heir.elder_is_gone();
    assert_eq!(passed.len(), 1, "who was in line gets it");
    two.open = [[0; 2]; 3];
    two.used_by_heir(passed);
    assert_eq!(two.heir_asks(0), Permit::Granted);
}

#[test]
fn the_limits_are_the_elders_own_again_when_the_heir_is_gone() {
    let mut two = Two::new([1, 0, 0], bounds(2, 9, 9));
    assert_eq!(two.elder_asks(0), Permit::Asked);
    let passed = two.elder.heir_is_gone();
    assert_eq!(passed.len(), 1);
    two.used_by_elder(passed);
    assert_eq!(two.elder_asks(0), Permit::PoolFull);
    assert_eq!(two.elder_asks(1), Permit::Granted);
}

#[test]
fn news_of_what_was_never_lent_changes_nothing() {
    let mut two = Two::new([0, 0, 0], bounds(1, 9, 9));
    assert_eq!(two.heir_asks(0), Permit::Granted);
    assert!(two.heir.lent_closed(id(0)).is_empty());
    assert_eq!(two.heir_asks(0), Permit::PoolFull);
    assert!(two.heir.lent_closed(PoolId(77)).is_empty());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    ElderAsks(usize),
    HeirAsks(usize),
    ElderCloses(usize),
    HeirCloses(usize),
    Over(usize),
    Post,
}

fn step() -> impl Strategy<Value = Step> {
    let pool = 0..POOLS.len();
    prop_oneof![
        pool.clone().prop_map(Step::ElderAsks),
        pool.clone().prop_map(Step::HeirAsks),
        pool.clone().prop_map(Step::ElderCloses),
        pool.clone().prop_map(Step::HeirCloses),
        pool.prop_map(Step::Over),
        Just(Step::Post),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_both_together_stay_within_the_limits(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut two = Two::new([2, 1, 1], bounds(3, 4, 4));
        for step in steps {
            match step {
                Step::ElderAsks(pool) => drop(two.elder_asks(pool)),
                Step::HeirAsks(pool) => drop(two.heir_asks(pool)),
                Step::ElderCloses(pool) if two.open[pool][0] > 0 => two.elder_closes(pool),
                Step::HeirCloses(pool) if two.open[pool][1] > 0 => two.heir_closes(pool),
                Step::Over(pool) if two.open[pool][0] > 0 => two.over(pool),
                Step::Post => drop(two.post()),
                _ => {}
            }
            two.check();
        }
        // In the end nothing has gone astray.
        while two.post() {}
        for pool in 0..POOLS.len() {
            let [elder, heir] = two.open[pool];
            prop_assert_eq!(two.elder.servers(id(pool)), elder);
            prop_assert_eq!(two.heir.servers(id(pool)), elder + heir);
        }
    }
}
