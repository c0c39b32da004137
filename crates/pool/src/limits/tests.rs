use super::*;

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
        let id = self.pool(name);
        self.limits.logged_in(id);
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
    scene.limits.login_failed(id, scene.start);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Retrying);
    scene.start += Duration::from_secs(15);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, HERE), Permit::Granted);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), Permit::Busy);
    scene.limits.logged_in(id);
    assert_eq!(scene.asks("db/u", Purpose::Waiter, THERE), Permit::Granted);
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
    assert!(scene.limits.is_wanted(scene.pools["db/b"]));
    let passed = scene.closes("db/b");
    let pool = scene.pools["db/c"];
    assert_eq!(
        passed,
        [Passed {
            pool,
            worker: THERE
        }]
    );
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
