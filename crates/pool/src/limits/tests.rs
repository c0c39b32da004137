//! Counts and their limits: transcripts first, then whatever chance comes up with.

use super::*;
use crate::dice::{self, Dice};

/// Pools by name, `database/user`, under one set of limits.
struct Scene {
    limits: Limits,
    pools: HashMap<String, PoolId>,
    bounds: Bounds,
    start: Instant,
}

const HERE: WorkerId = WorkerId(0);
const THERE: WorkerId = WorkerId(1);

impl Scene {
    fn new(bounds: Bounds) -> Self {
        Self {
            limits: Limits::default(),
            pools: HashMap::new(),
            bounds: Bounds {
                login_retry: Duration::from_secs(15),
                ..bounds
            },
            start: Instant::now(),
        }
    }

    fn pool(&mut self, name: &str) -> PoolId {
        if let Some(&id) = self.pools.get(name) {
            return id;
        }
        let id = PoolId(u32::try_from(self.pools.len()).unwrap());
        let (database, user) = name.split_once('/').unwrap();
        let key = PoolKey {
            database: database.into(),
            user: user.into(),
        };
        self.limits.add_pool(id, key, Gauge::default());
        self.pools.insert(name.to_owned(), id);
        id
    }

    fn asks(&mut self, name: &str, purpose: Purpose, worker: WorkerId) -> Permit {
        let id = self.pool(name);
        let now = self.start;
        self.limits.open(id, self.bounds, purpose, worker, now)
    }

    fn opens(&mut self, name: &str) {
        assert_eq!(self.asks(name, Purpose::Waiter, HERE), Permit::Granted);
        assert_eq!(self.logs_in(name), []);
    }

    fn logs_in(&mut self, name: &str) -> Vec<Passed> {
        let id = self.pool(name);
        self.limits.logged_in(id)
    }

    /// A client here asks for a server of its own, having waited since that many milliseconds.
    fn asks_own(&mut self, name: &str, client: u64, since: u64) -> Permit {
        let id = self.pool(name);
        let owner = Owner {
            client: ClientId(client),
            worker: HERE,
            since: self.start + Duration::from_millis(since),
        };
        let (bounds, now) = (self.bounds, self.start);
        self.limits
            .open_own(id, bounds, Purpose::Waiter, owner, now)
    }

    fn gives_up_own(&mut self, name: &str, client: u64) -> Vec<Passed> {
        let id = self.pool(name);
        self.limits.give_up_own(id, ClientId(client))
    }

    /// Whether a server of the pool that came free had better close, though a client waits for one
    /// since that many milliseconds.
    fn makes_way(&self, name: &str, oldest: Option<u64>) -> bool {
        let oldest = oldest.map(|ms| self.start + Duration::from_millis(ms));
        self.limits.is_wanted(self.pools[name], oldest)
    }

    fn passed_own(&self, name: &str, client: u64) -> Passed {
        let owner = Some(ClientId(client));
        Passed {
            owner,
            ..self.passed(name, HERE)
        }
    }

    fn passed(&self, name: &str, worker: WorkerId) -> Passed {
        let pool = self.pools[name];
        let owner = None;
        Passed {
            pool,
            worker,
            owner,
        }
    }

    fn closes(&mut self, name: &str) -> Vec<Passed> {
        let id = self.pool(name);
        self.limits.closed(id)
    }
}

#[test]
fn a_pool_never_holds_more_than_its_size() {
    let mut scene = Scene::new(Bounds {
        pool: 2,
        ..Bounds::default()
    });
    scene.opens("db/u");
    scene.opens("db/u");
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), Permit::PoolFull);
    scene.opens("db/v");
    scene.closes("db/u");
    scene.opens("db/u");
}

#[test]
fn the_reserve_is_for_those_who_waited() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        reserve: 1,
        ..Bounds::default()
    });
    scene.opens("db/u");
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::PoolFull);
    assert_eq!(scene.asks("db/u", Purpose::Reserve, HERE), Permit::Granted);
    assert_eq!(scene.asks("db/u", Purpose::Reserve, HERE), Permit::PoolFull);
}

#[test]
fn no_size_means_no_limit_and_logins_come_four_at_a_time() {
    let mut scene = Scene::new(Bounds::default());
    for _ in 0..4 {
        assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    }
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Busy);
}

#[test]
fn after_a_failed_login_one_probe_goes_out_when_the_pause_is_over() {
    let mut scene = Scene::new(Bounds::default());
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    let id = scene.pool("db/u");
    scene.limits.login_failed(id, scene.start, false);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Retrying);
    scene.start += FIRST_PAUSE;
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), Permit::Busy);
    assert_eq!(scene.logs_in("db/u"), []);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), Permit::Granted);
}

/// How long the pool rests after each of several failures in a row.
fn rests_of(scene: &mut Scene, refused: bool, failures: usize) -> Vec<Duration> {
    let (id, step) = (scene.pool("db/u"), FIRST_PAUSE);
    let mut rests = Vec::new();
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    for _ in 0..failures {
        scene.limits.login_failed(id, scene.start, refused);
        let mut rested = Duration::ZERO;
        while scene.asks("db/u", Purpose::Waiter, HERE) == Permit::Retrying {
            scene.start += step;
            rested += step;
        }
        rests.push(rested);
    }
    rests
}

#[test]
fn pauses_double_with_each_failure_up_to_server_login_retry() {
    let mut scene = Scene::new(Bounds::default());
    let rests = rests_of(&mut scene, false, 9);
    let millis: Vec<_> = rests.iter().map(Duration::as_millis).collect();
    let doubled = [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000];
    assert_eq!(millis, doubled);
    assert_eq!(scene.logs_in("db/u"), []);
    assert_eq!(rests_of(&mut scene, false, 1), [FIRST_PAUSE]);
}

#[test]
fn after_a_refusal_the_server_is_left_alone_for_all_of_server_login_retry() {
    let mut scene = Scene::new(Bounds::default());
    let retry = scene.bounds.login_retry;
    assert_eq!(rests_of(&mut scene, true, 2), [retry, retry]);
}

#[test]
fn logins_that_fail_together_count_as_one_failure() {
    let mut scene = Scene::new(Bounds::default());
    let id = scene.pool("db/u");
    for _ in 0..LOGINS_MAX {
        assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    }
    for _ in 0..LOGINS_MAX {
        scene.limits.login_failed(id, scene.start, false);
    }
    scene.start += FIRST_PAUSE;
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
}

#[test]
fn when_one_pool_finds_the_server_back_the_others_of_its_database_need_not_wait() {
    let mut scene = Scene::new(Bounds::default());
    let names = ["db/u", "db/refused", "db/unreachable", "other/u"];
    for name in names {
        assert_eq!(scene.asks(name, Purpose::Waiter, HERE), Permit::Granted);
        let id = scene.pool(name);
        let refused = name == "db/refused";
        scene.limits.login_failed(id, scene.start, refused);
    }
    scene.start += FIRST_PAUSE;
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    let id = scene.pool("db/unreachable");
    assert_eq!(
        scene.asks("db/unreachable", Purpose::Waiter, HERE),
        Permit::Granted
    );
    scene.limits.login_failed(id, scene.start, false);
    let id = scene.pool("other/u");
    assert_eq!(
        scene.asks("other/u", Purpose::Waiter, HERE),
        Permit::Granted
    );
    scene.limits.login_failed(id, scene.start, false);

    assert_eq!(scene.logs_in("db/u"), []);

    let mut asks = |name| scene.asks(name, Purpose::Waiter, HERE);
    assert_eq!(asks("db/unreachable"), Permit::Granted);
    assert_eq!([asks("db/refused"), asks("other/u")], [Permit::Retrying; 2]);
}

#[test]
fn the_minimum_is_filled_and_not_exceeded() {
    let mut scene = Scene::new(Bounds {
        pool: 5,
        ..Bounds::default()
    });
    assert_eq!(
        scene.asks("db/u", Purpose::Minimum(2), HERE),
        Permit::Granted
    );
    scene.opens("db/u");
    assert_eq!(
        scene.asks("db/u", Purpose::Minimum(2), HERE),
        Permit::PoolFull
    );
    let id = scene.pool("db/u");
    assert!(!scene.limits.may_close(id, 2));
    assert!(scene.limits.may_close(id, 1));
    assert!(!scene.limits.may_close(id, 1), "the other one is closing");
    assert_eq!(scene.limits.closed_as_agreed(id), []);
    assert_eq!(scene.limits.servers(id), 1);
}

#[test]
fn a_database_limit_counts_all_users_and_a_free_permit_passes_to_the_first_asker() {
    let mut scene = Scene::new(Bounds {
        pool: 5,
        database: 2,
        ..Bounds::default()
    });
    scene.opens("db/a");
    scene.opens("db/b");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/c", Purpose::Waiter, THERE), full);
    assert_eq!(scene.asks("db/a", Purpose::Waiter, HERE), full);
    assert!(scene.limits.is_wanted(scene.pools["db/b"], None));
    assert_eq!(scene.closes("db/b"), [scene.passed("db/c", THERE)]);
    assert_eq!(scene.limits.database_servers("db"), 2);
    // The other database is not concerned.
    scene.opens("other/a");
}

#[test]
fn a_user_limit_counts_all_databases() {
    let mut scene = Scene::new(Bounds {
        user: 1,
        ..Bounds::default()
    });
    scene.opens("x/u");
    let full = Permit::Full(Scope::User);
    assert_eq!(scene.asks("y/u", Purpose::Waiter, HERE), full);
    scene.opens("y/v");
    let asker = scene.pools["y/u"];
    scene.limits.withdraw(asker, HERE);
    assert_eq!(scene.closes("x/u"), []);
    scene.opens("y/u");
}

#[test]
fn an_asker_that_may_not_open_does_not_hold_up_those_behind_it() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        database: 1,
        user: 1,
        ..Bounds::default()
    });
    scene.opens("x/a");
    scene.opens("y/b");
    assert!(matches!(
        scene.asks("x/b", Purpose::Waiter, HERE),
        Permit::Full(_)
    ));
    assert!(matches!(
        scene.asks("y/a", Purpose::Waiter, HERE),
        Permit::Full(_)
    ));
    // x/b still lacks user b: nobody gets x's permit.
    assert_eq!(scene.closes("x/a"), []);
    assert_eq!(scene.closes("y/b").len(), 2);
}

#[test]
fn a_permit_that_no_login_could_use_passes_on_when_one_can() {
    let mut scene = Scene::new(Bounds {
        database: 5,
        ..Bounds::default()
    });
    scene.opens("db/other");
    for _ in 0..3 {
        assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    }
    scene.opens("db/v");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), full);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), full);
    assert_eq!(scene.closes("db/other"), [scene.passed("db/u", HERE)]);
    // Four logins to db/u are under way now.
    assert_eq!(scene.closes("db/v"), []);
    assert_eq!(scene.logs_in("db/u"), [scene.passed("db/u", THERE)]);
}

#[test]
fn the_reserve_is_kept_for_who_asked_for_it() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        reserve: 1,
        database: 2,
        ..Bounds::default()
    });
    scene.opens("db/u");
    scene.opens("db/v");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/u", Purpose::Reserve, HERE), full);
    assert!(scene.limits.is_wanted(scene.pools["db/v"], None));
    assert_eq!(scene.closes("db/v"), [scene.passed("db/u", HERE)]);
}

#[test]
fn who_got_a_server_otherwise_leaves_the_line() {
    let mut scene = Scene::new(Bounds {
        database: 1,
        ..Bounds::default()
    });
    scene.opens("db/u");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/v", Purpose::Waiter, HERE), full);
    scene.bounds.database = 2;
    assert_eq!(scene.asks("db/v", Purpose::Waiter, HERE), Permit::Granted);
    assert!(!scene.limits.has_askers());
}

#[test]
fn a_failed_login_sends_nobody_else_after_it() {
    let mut scene = Scene::new(Bounds {
        database: 1,
        ..Bounds::default()
    });
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), full);
    assert_eq!(scene.asks("db/v", Purpose::Waiter, THERE), full);
    let (id, now) = (scene.pools["db/u"], scene.start);
    let passed = scene.limits.login_failed(id, now, false);
    assert_eq!(passed, [scene.passed("db/v", THERE)]);
    assert!(!scene.limits.has_askers());
}

#[test]
fn nobody_makes_way_for_a_pool_that_is_full_itself() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        database: 2,
        ..Bounds::default()
    });
    scene.opens("db/v");
    scene.opens("db/w");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), full);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), full);
    assert!(scene.limits.is_wanted(scene.pools["db/w"], None));
    assert_eq!(scene.closes("db/v"), [scene.passed("db/u", HERE)]);
    assert!(!scene.limits.is_wanted(scene.pools["db/w"], None));
}

#[test]
fn an_owner_waits_for_the_next_permit_of_a_full_pool_and_picks_it_up() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        ..Bounds::default()
    });
    scene.opens("db/u");
    assert_eq!(scene.asks_own("db/u", 7, 5), Permit::PoolFull);
    assert_eq!(scene.asks_own("db/u", 7, 5), Permit::PoolFull);
    assert_eq!(scene.closes("db/u"), [scene.passed_own("db/u", 7)]);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::PoolFull);
    assert_eq!(scene.asks_own("db/u", 7, 5), Permit::Granted);
    assert_eq!(scene.logs_in("db/u"), []);
    assert!(!scene.limits.has_askers());
    assert_eq!(scene.asks_own("db/u", 8, 6), Permit::PoolFull);
}

#[test]
fn a_free_server_makes_way_for_an_owner_who_came_before_those_it_would_serve() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        database: 3,
        ..Bounds::default()
    });
    scene.opens("db/u");
    scene.opens("db/v");
    assert_eq!(scene.asks_own("db/u", 7, 5), Permit::PoolFull);
    assert!(scene.makes_way("db/u", None));
    assert!(scene.makes_way("db/u", Some(6)));
    assert!(!scene.makes_way("db/u", Some(5)));
    assert!(!scene.makes_way("db/v", None), "that would not help");

    scene.opens("db/w");
    assert_eq!(scene.closes("db/u"), [scene.passed_own("db/u", 7)]);
    assert!(!scene.makes_way("db/u", None), "it has what it wants");
    scene.bounds.pool = 2;
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks_own("db/v", 8, 5), full);
    for pool in ["db/u", "db/v", "db/w"] {
        assert!(scene.makes_way(pool, None) && scene.makes_way(pool, Some(6)));
        assert!(!scene.makes_way(pool, Some(4)));
    }
}

#[test]
fn an_owner_who_leaves_gives_its_permit_to_the_next() {
    let mut scene = Scene::new(Bounds {
        pool: 1,
        ..Bounds::default()
    });
    scene.opens("db/u");
    for client in [7, 8, 9] {
        assert_eq!(scene.asks_own("db/u", client, 5), Permit::PoolFull);
    }
    assert_eq!(scene.gives_up_own("db/u", 8), []);
    assert_eq!(scene.closes("db/u"), [scene.passed_own("db/u", 7)]);
    assert_eq!(scene.gives_up_own("db/u", 7), [scene.passed_own("db/u", 9)]);
    assert_eq!(scene.gives_up_own("db/u", 9), []);
    assert_eq!(scene.limits.servers(scene.pools["db/u"]), 0);
}

#[test]
fn a_worker_whose_clients_are_served_leaves_owners_in_line() {
    let mut scene = Scene::new(Bounds {
        database: 1,
        ..Bounds::default()
    });
    scene.opens("db/u");
    let full = Permit::Full(Scope::Database);
    assert_eq!(scene.asks_own("db/v", 7, 5), full);
    assert_eq!(scene.asks("db/v", Purpose::Waiter, HERE), full);
    let id = scene.pools["db/v"];
    scene.limits.withdraw(id, HERE);
    assert_eq!(scene.closes("db/u"), [scene.passed_own("db/v", 7)]);
}

#[test]
fn no_schedule_breaks_the_limits() {
    dice::play(10_000, 100, |dice, len| {
        let mut random = Schedule::new(dice);
        for _ in 0..len {
            random.step(dice);
            random.check();
        }
        random.finish();
    });
}

/// Pools under shared limits to which anything may happen, and what a bystander would note down.
struct Schedule {
    limits: Limits,
    pools: Vec<Noted>,
    now: Instant,
    /// Who asked and found a limit full, first come first.
    line: Vec<(usize, Who)>,
    /// Owners that have not picked up their permits.
    passed: Vec<(usize, ClientId)>,
}

/// Who is in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Worker(WorkerId),
    Owner(ClientId),
}

/// One pool and the permits that were handed out for it.
struct Noted {
    key: PoolKey,
    database: u32,
    user: u32,
    bounds: Bounds,
    gauge: Gauge,
    logins: u32,
    open: u32,
    closing: u32,
    /// Whether the last login failed.
    failed: bool,
}

impl Noted {
    fn held(&self) -> u32 {
        self.logins + self.open + self.closing
    }

    fn logins_max(&self) -> u32 {
        if self.failed { 1 } else { LOGINS_MAX }
    }
}

/// One of a pool's clients that need servers of their own.
fn client_of(dice: &mut Dice, place: usize) -> ClientId {
    ClientId(place as u64 * 10 + u64::from(dice.below(3)))
}

impl Schedule {
    fn new(dice: &mut Dice) -> Self {
        let mut limit = |most: u32| dice.below(2) * (1 + dice.below(most));
        let databases = [limit(6), limit(6)];
        let users = [limit(6), limit(6)];
        let mut limits = Limits::default();
        let mut pools = Vec::new();
        for (id, (database, user)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
            let key = PoolKey {
                database: format!("db{database}").into(),
                user: format!("u{user}").into(),
            };
            let bounds = Bounds {
                pool: limit(8),
                reserve: limit(2),
                database: databases[database as usize],
                user: users[user as usize],
                login_retry: Duration::from_millis(20),
            };
            let gauge = Gauge::default();
            limits.add_pool(
                PoolId(u32::try_from(id).unwrap()),
                key.clone(),
                gauge.clone(),
            );
            pools.push(Noted {
                key,
                database,
                user,
                bounds,
                gauge,
                logins: 0,
                open: 0,
                closing: 0,
                failed: false,
            });
        }
        Self {
            limits,
            pools,
            now: Instant::now(),
            line: Vec::new(),
            passed: Vec::new(),
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        self.now += Duration::from_millis(dice.below(8).into());
        let place = dice.below(4) as usize;
        let worker = WorkerId(dice.below(3) as usize);
        let id = PoolId(u32::try_from(place).unwrap());
        let running = self.running(place);
        let pool = &mut self.pools[place];
        match dice.below(100) {
            0..30 => self.open(dice, place, worker),
            30..45 => self.open_own(dice, place),
            45..65 if running > 0 => {
                pool.logins -= 1;
                pool.open += 1;
                pool.failed = false;
                let passed = self.limits.logged_in(id);
                self.passed(passed);
            }
            65..68 if running > 0 => {
                pool.logins -= 1;
                pool.failed = true;
                self.line.retain(|&(other, _)| other != place);
                let passed = self.limits.login_failed(id, self.now, dice.below(2) == 0);
                self.passed(passed);
            }
            68..72 if running > 0 => {
                pool.logins -= 1;
                let passed = self.limits.unused(id);
                self.passed(passed);
            }
            72..85 if pool.open > 0 => {
                pool.open -= 1;
                let passed = self.limits.closed(id);
                self.passed(passed);
            }
            85..90 if pool.open > 0 => self.may_close(dice, place),
            90..95 if pool.closing > 0 => {
                pool.closing -= 1;
                let passed = self.limits.closed_as_agreed(id);
                self.passed(passed);
            }
            95..98 => {
                self.limits.withdraw(id, worker);
                self.leaves(place, Who::Worker(worker));
            }
            98..100 => {
                let client = client_of(dice, place);
                self.gives_up(place, client);
            }
            _ => {}
        }
    }

    /// Logins that are under way: nobody has begun those whose permits are not picked up.
    fn running(&self, place: usize) -> u32 {
        let own = self.passed.iter().filter(|&&(other, _)| other == place);
        self.pools[place].logins - u32::try_from(own.count()).unwrap()
    }

    fn open(&mut self, dice: &mut Dice, place: usize, worker: WorkerId) {
        let purposes = [Purpose::Waiter, Purpose::Reserve, Purpose::Minimum(2)];
        let purpose = dice.pick(&purposes).unwrap();
        let id = PoolId(u32::try_from(place).unwrap());
        let bounds = self.pools[place].bounds;
        let waiter = !matches!(purpose, Purpose::Minimum(_));
        match self.limits.open(id, bounds, purpose, worker, self.now) {
            Permit::Granted => {
                if waiter {
                    self.leaves(place, Who::Worker(worker));
                }
                self.pools[place].logins += 1;
            }
            refused => {
                if waiter && matches!(refused, Permit::Full(_)) {
                    self.joins(place, Who::Worker(worker));
                }
                self.check_refusal(place, purpose, refused);
            }
        }
    }

    fn open_own(&mut self, dice: &mut Dice, place: usize) {
        let purpose = dice.pick(&[Purpose::Waiter, Purpose::Reserve]).unwrap();
        let (id, client) = (
            PoolId(u32::try_from(place).unwrap()),
            client_of(dice, place),
        );
        let owner = Owner {
            client,
            worker: WorkerId(0),
            since: self.now,
        };
        let was_passed = self.passed.contains(&(place, client));
        let bounds = self.pools[place].bounds;
        match self.limits.open_own(id, bounds, purpose, owner, self.now) {
            Permit::Granted if was_passed => self.passed.retain(|&own| own != (place, client)),
            Permit::Granted => {
                self.leaves(place, Who::Owner(client));
                self.pools[place].logins += 1;
            }
            refused => {
                assert!(!was_passed, "its permit is lost");
                if refused != Permit::Retrying {
                    self.joins(place, Who::Owner(client));
                }
                self.check_refusal(place, purpose, refused);
            }
        }
    }

    fn gives_up(&mut self, place: usize, client: ClientId) {
        self.leaves(place, Who::Owner(client));
        let place_of = |&(other, owner): &(usize, ClientId)| other == place && owner == client;
        if let Some(at) = self.passed.iter().position(place_of) {
            self.passed.remove(at);
            self.pools[place].logins -= 1;
        }
        let id = PoolId(u32::try_from(place).unwrap());
        let passed = self.limits.give_up_own(id, client);
        self.passed(passed);
    }

    fn joins(&mut self, place: usize, who: Who) {
        if !self.line.contains(&(place, who)) {
            self.line.push((place, who));
        }
    }

    fn leaves(&mut self, place: usize, who: Who) {
        self.line.retain(|&asker| asker != (place, who));
    }

    fn check_refusal(&self, place: usize, purpose: Purpose, refused: Permit) {
        let pool = &self.pools[place];
        match refused {
            Permit::Granted | Permit::Asked => unreachable!(),
            Permit::Full(scope) => assert!(self.is_full(place, scope)),
            Permit::PoolFull => match purpose {
                Purpose::Minimum(min) if pool.held() >= min => {}
                _ => assert!(pool.bounds.pool > 0 && pool.held() >= pool.bounds.pool),
            },
            Permit::Busy => assert!(pool.logins >= pool.logins_max()),
            Permit::Retrying => assert!(pool.failed),
        }
    }

    fn may_close(&mut self, dice: &mut Dice, place: usize) {
        let id = PoolId(u32::try_from(place).unwrap());
        let min = dice.below(4);
        let pool = &mut self.pools[place];
        let stay = pool.logins + pool.open;
        let may = self.limits.may_close(id, min);
        assert_eq!(may, stay > min, "{stay} stay open, {min} must");
        if may {
            pool.open -= 1;
            pool.closing += 1;
        }
    }

    /// Permits pass to askers only, and to nobody before who came earlier to the same pool.
    fn passed(&mut self, passed: Vec<Passed>) {
        for passed in passed {
            let place = passed.pool.0 as usize;
            let who = match passed.owner {
                Some(client) => Who::Owner(client),
                None => Who::Worker(passed.worker),
            };
            let mut line = self.line.iter();
            let turn = line.position(|&(other, _)| other == place).unwrap();
            let first = self.line[turn];
            if self.pools[place].bounds.reserve == 0 {
                assert_eq!(first, (place, who), "{first:?} was skipped");
            }
            assert!(self.line.contains(&(place, who)), "nobody asked");
            self.leaves(place, who);
            self.passed
                .extend(passed.owner.map(|client| (place, client)));
            self.pools[place].logins += 1;
        }
    }

    fn held(&self, which: impl Fn(&Noted) -> bool) -> u32 {
        let pools = self.pools.iter().filter(|pool| which(pool));
        pools.map(Noted::held).sum()
    }

    fn is_full(&self, place: usize, scope: Scope) -> bool {
        let pool = &self.pools[place];
        let (limit, held) = match scope {
            Scope::Pool => (pool.bounds.pool, pool.held()),
            Scope::Database => (
                pool.bounds.database,
                self.held(|other| other.database == pool.database),
            ),
            Scope::User => (pool.bounds.user, self.held(|other| other.user == pool.user)),
        };
        limit > 0 && held >= limit
    }

    fn check(&self) {
        for (place, pool) in self.pools.iter().enumerate() {
            self.check_counts(place, pool);
        }
        assert_eq!(self.limits.has_askers(), !self.line.is_empty());
        for &(place, who) in &self.line {
            let pool = &self.pools[place];
            let held = pool.held();
            let room = pool.bounds.pool == 0 || held < pool.bounds.pool;
            let full = self.is_full(place, Scope::Database) || self.is_full(place, Scope::User);
            assert!(
                !room || full || pool.logins >= pool.logins_max(),
                "{who:?} waits for a permit that is free"
            );
        }
    }

    fn check_counts(&self, place: usize, pool: &Noted) {
        let id = PoolId(u32::try_from(place).unwrap());
        let held = pool.held();
        assert_eq!(self.limits.servers(id), held);
        assert_eq!(pool.gauge.load(Ordering::SeqCst), held);
        let database = self.held(|other| other.database == pool.database);
        assert_eq!(self.limits.database_servers(&pool.key.database), database);
        let user = self.held(|other| other.user == pool.user);
        assert_eq!(self.limits.user_servers(&pool.key.user), user);

        let bounds = pool.bounds;
        let within = |limit: u32, count: u32| limit == 0 || count <= limit;
        assert!(bounds.pool == 0 || held <= bounds.pool + bounds.reserve);
        assert!(within(bounds.database, database));
        assert!(within(bounds.user, user));
        assert!(pool.logins <= LOGINS_MAX);
    }

    /// When all who ask are served, all logins end and all servers close, nobody is left in line and nothing is counted.
    fn finish(&mut self) {
        while self.held(|_| true) > 0 {
            for place in 0..self.pools.len() {
                while let Some(&(place, client)) = self.passed.first() {
                    self.gives_up(place, client);
                }
                self.end_one(place);
                self.check();
            }
        }
        assert_eq!(self.line, []);
    }

    fn end_one(&mut self, place: usize) {
        let id = PoolId(u32::try_from(place).unwrap());
        let pool = &mut self.pools[place];
        let passed = if pool.logins > 0 {
            pool.logins -= 1;
            pool.open += 1;
            pool.failed = false;
            self.limits.logged_in(id)
        } else if pool.open > 0 {
            pool.open -= 1;
            self.limits.closed(id)
        } else if pool.closing > 0 {
            pool.closing -= 1;
            self.limits.closed_as_agreed(id)
        } else {
            return;
        };
        self.passed(passed);
    }
}
