//! Who gets which server: transcripts first, then whatever chance comes up with.

use std::collections::HashMap;

use super::*;
use crate::dice::{self, Dice};

/// Processors.
const HERE: u32 = 7;
const THERE: u32 = 8;

/// One pool, its clients and servers called by name, its clock in milliseconds.
struct Scene {
    state: PoolState,
    rules: Rules,
    clients: Vec<&'static str>,
    servers: HashMap<&'static str, ServerId>,
    /// Those that sleep where the worker runs; `None` if nobody knows of any.
    here: Option<Vec<&'static str>>,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        Self {
            state: PoolState::default(),
            rules: Rules {
                paused: false,
                round_robin: false,
                check_after: None,
            },
            clients: Vec::new(),
            servers: HashMap::new(),
            here: None,
            start: Instant::now(),
        }
    }

    fn with_idle(servers: &[&'static str]) -> Self {
        let mut scene = Self::new();
        for &server in servers {
            assert_eq!(scene.opens(server, 0), format!("{server} is idle"));
        }
        scene
    }

    fn round_robin(mut self) -> Self {
        self.rules.round_robin = true;
        self
    }

    fn checked_after(mut self, ms: u64) -> Self {
        self.rules.check_after = Some(Duration::from_millis(ms));
        self
    }

    fn run_here(mut self, servers: &[&'static str]) -> Self {
        self.here = Some(servers.to_vec());
        self
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn client(&mut self, name: &'static str) -> ClientId {
        let known = self.clients.iter().position(|&client| client == name);
        let place = known.unwrap_or_else(|| {
            self.clients.push(name);
            self.clients.len() - 1
        });
        ClientId(place as u64)
    }

    fn client_name(&self, client: ClientId) -> &'static str {
        self.clients[usize::try_from(client.0).unwrap()]
    }

    fn server_name(&self, server: ServerId) -> &'static str {
        let mut named = self.servers.iter();
        named.find(|&(_, &id)| id == server).unwrap().0
    }

    fn asks(&mut self, client: &'static str, ms: u64) -> String {
        let (id, now) = (self.client(client), self.at(ms));
        let (here, servers) = (&self.here, &self.servers);
        let cpu_of = |server: ServerId| {
            let mut here = here.as_ref()?.iter();
            let is_here = here.any(|&name| servers.get(name) == Some(&server));
            Some(if is_here { HERE } else { THERE })
        };
        match self
            .state
            .request(id, now, self.rules, || Some(HERE), cpu_of)
        {
            Grant::Server(server) => format!("{client} gets {}", self.server_name(server)),
            Grant::Check(server) => format!("{client} waits for {}", self.server_name(server)),
            Grant::Wait => format!("{client} waits"),
        }
    }

    fn opens(&mut self, server: &'static str, ms: u64) -> String {
        let id = self.state.add();
        self.servers.insert(server, id);
        self.frees(server, ms)
    }

    fn frees(&mut self, server: &'static str, ms: u64) -> String {
        self.hands_on(server, ms, None)
    }

    fn frees_beside(&mut self, server: &'static str, ms: u64, remote_since: u64) -> String {
        let remote = self.at(remote_since);
        self.hands_on(server, ms, Some(remote))
    }

    fn hands_on(&mut self, server: &'static str, ms: u64, remote: Option<Instant>) -> String {
        let (id, now) = (self.servers[server], self.at(ms));
        match self.state.release(id, now, self.rules, remote) {
            Next::Serve(waiter) => format!("{server} serves {}", self.client_name(waiter.client)),
            Next::SendOver => format!("{server} goes over"),
            Next::Idle => format!("{server} is idle"),
        }
    }

    fn serves_waiting(&mut self, ms: u64) -> Option<String> {
        let (waiter, server) = self.state.serve_waiting(self.at(ms), self.rules)?;
        let (server, client) = (self.server_name(server), self.client_name(waiter.client));
        Some(format!("{server} serves {client}"))
    }

    fn checks_next(&mut self) -> Option<&'static str> {
        let server = self.state.check_next()?;
        Some(self.server_name(server))
    }

    fn abandons(&mut self, client: &'static str) -> bool {
        let id = self.client(client);
        self.state.abandon(id)
    }

    fn removes(&mut self, server: &'static str) {
        self.state.remove(self.servers[server]);
    }

    fn line(&self) -> Vec<&'static str> {
        let waiting = self.state.waiting();
        waiting
            .map(|waiter| self.client_name(waiter.client))
            .collect()
    }

    fn idle(&self) -> Vec<&'static str> {
        let idle = self.state.idle();
        idle.map(|(server, _)| self.server_name(server)).collect()
    }
}

#[test]
fn the_server_freed_last_is_lent_first() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3"]);
    assert_eq!(pool.asks("alice", 1), "alice gets s3");
    assert_eq!(pool.asks("bob", 2), "bob gets s2");
    assert_eq!(pool.frees("s3", 3), "s3 is idle");
    assert_eq!(pool.asks("carol", 4), "carol gets s3");
    assert_eq!(pool.idle(), ["s1"]);
}

#[test]
fn who_has_company_gets_one_of_the_next_servers_that_runs_here() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"])
        .run_here(&["s1", "s2", "s4", "s7"]);
    assert_eq!(pool.asks("alice", 1), "alice gets s8", "she is alone");
    assert_eq!(pool.asks("bob", 2), "bob gets s7");
    assert_eq!(pool.asks("carol", 3), "carol gets s4");
    assert_eq!(pool.idle(), ["s6", "s5", "s3", "s2", "s1"]);
    assert_eq!(pool.asks("dave", 4), "dave gets s6", "three are at work");
    pool.frees("s7", 5);
    pool.frees("s4", 5);
    pool.here = Some(vec!["s1"]);
    assert_eq!(pool.idle(), ["s4", "s7", "s5", "s3", "s2", "s1"]);
    assert_eq!(pool.asks("bob", 6), "bob gets s4", "s1 is too far behind");
}

#[test]
fn one_client_a_turn_gets_a_server_that_runs_here() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3", "s4", "s5"]).run_here(&["s1", "s2"]);
    assert_eq!(pool.asks("alice", 1), "alice gets s5");
    assert_eq!(pool.asks("bob", 2), "bob gets s2");
    assert_eq!(pool.frees("s5", 2), "s5 is idle");
    assert_eq!(pool.asks("alice", 2), "alice gets s5");
    assert_eq!(pool.frees("s5", 3), "s5 is idle");
    assert_eq!(pool.asks("alice", 3), "alice gets s1");
}

#[test]
fn servers_of_which_nobody_knows_where_they_run_are_lent_as_ever() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3"]);
    assert_eq!(pool.asks("alice", 1), "alice gets s3");
    assert_eq!(pool.asks("bob", 2), "bob gets s2");
}

#[test]
fn in_round_robin_it_does_not_matter_where_a_server_runs() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3"])
        .run_here(&["s1"])
        .round_robin();
    assert_eq!(pool.asks("alice", 1), "alice gets s3");
    assert_eq!(pool.asks("bob", 2), "bob gets s2");
}

#[test]
fn a_server_that_must_be_probed_is_not_chosen_for_where_it_runs() {
    for (ms, told) in [(9, "bob gets s1"), (10, "bob gets s3")] {
        let mut pool = Scene::new().checked_after(10).run_here(&["s1"]);
        pool.opens("s1", 0);
        for server in ["s2", "s3", "s4"] {
            pool.opens(server, 5);
        }
        assert_eq!(pool.asks("alice", 8), "alice gets s4");
        assert_eq!(pool.asks("bob", ms), told);
    }
}

#[test]
fn in_round_robin_the_server_freed_first_is_lent_first() {
    let mut pool = Scene::new().round_robin();
    pool.opens("s1", 0);
    pool.opens("s2", 0);
    assert_eq!(pool.asks("alice", 1), "alice gets s1");
    assert_eq!(pool.frees("s1", 2), "s1 is idle");
    assert_eq!(pool.asks("alice", 3), "alice gets s2");
    assert_eq!(pool.frees("s2", 4), "s2 is idle");
    assert_eq!(pool.asks("alice", 5), "alice gets s1");
}

#[test]
fn a_freed_server_goes_to_whoever_waited_longest() {
    let mut pool = Scene::with_idle(&["s1"]);
    assert_eq!(pool.asks("alice", 0), "alice gets s1");
    assert_eq!(pool.asks("bob", 1), "bob waits");
    assert_eq!(pool.asks("carol", 2), "carol waits");

    assert_eq!(pool.frees("s1", 3), "s1 serves bob");
    assert_eq!(pool.frees("s1", 4), "s1 serves carol");
    assert_eq!(pool.frees("s1", 5), "s1 is idle");
}

#[test]
fn a_server_that_logged_in_serves_who_waits_for_it() {
    let mut pool = Scene::new();
    assert_eq!(pool.asks("alice", 0), "alice waits");
    assert_eq!(pool.opens("s1", 1), "s1 serves alice");
}

#[test]
fn nobody_is_served_under_pause_and_everybody_after() {
    let mut pool = Scene::with_idle(&["s1", "s2"]);
    assert_eq!(pool.asks("alice", 0), "alice gets s2");
    pool.rules.paused = true;
    assert_eq!(pool.asks("bob", 1), "bob waits");
    assert_eq!(pool.asks("carol", 2), "carol waits");
    assert_eq!(pool.frees("s2", 3), "s2 is idle");
    assert_eq!(pool.serves_waiting(4), None);

    pool.rules.paused = false;
    assert_eq!(pool.serves_waiting(5).unwrap(), "s2 serves bob");
    assert_eq!(pool.serves_waiting(5).unwrap(), "s1 serves carol");
    assert_eq!(pool.serves_waiting(5), None);
}

#[test]
fn under_pause_no_server_goes_over_to_another_worker() {
    let mut pool = Scene::with_idle(&["s1"]);
    pool.asks("alice", 0);
    pool.rules.paused = true;
    assert_eq!(pool.frees_beside("s1", 100, 0), "s1 is idle");
}

#[test]
fn who_comes_after_a_pause_goes_behind_those_who_waited_in_it() {
    let mut pool = Scene::with_idle(&["s1"]);
    pool.rules.paused = true;
    pool.asks("alice", 0);
    pool.rules.paused = false;
    assert_eq!(pool.asks("bob", 1), "bob waits");
    assert_eq!(pool.serves_waiting(1).unwrap(), "s1 serves alice");
}

#[test]
fn a_server_that_idled_long_is_probed_before_it_is_lent() {
    let mut pool = Scene::with_idle(&["s1"]).checked_after(10);
    assert_eq!(pool.asks("alice", 9), "alice gets s1");
    assert_eq!(pool.frees("s1", 9), "s1 is idle");
    assert_eq!(pool.asks("bob", 19), "bob waits for s1");
    assert_eq!(pool.frees("s1", 20), "s1 serves bob");
}

#[test]
fn only_as_many_servers_are_probed_as_clients_wait() {
    let mut pool = Scene::with_idle(&["s1", "s2", "s3"]).checked_after(10);
    assert_eq!(pool.asks("alice", 10), "alice waits for s3");
    assert_eq!(pool.serves_waiting(10), None);
    assert_eq!(pool.checks_next(), None);
    assert_eq!(pool.asks("bob", 11), "bob waits");
    assert_eq!(pool.checks_next(), Some("s2"));
    assert_eq!(pool.checks_next(), None);
    assert_eq!(pool.idle(), ["s1"]);
}

#[test]
fn a_failed_probe_makes_way_for_the_next() {
    let mut pool = Scene::with_idle(&["s1", "s2"]).checked_after(10);
    assert_eq!(pool.asks("alice", 10), "alice waits for s2");
    pool.removes("s2");
    assert_eq!(pool.checks_next(), Some("s1"));
    assert_eq!(pool.frees("s1", 11), "s1 serves alice");
}

#[test]
fn who_abandons_the_line_is_served_no_more() {
    let mut pool = Scene::with_idle(&["s1"]);
    pool.asks("alice", 0);
    pool.asks("bob", 1);
    pool.asks("carol", 2);
    assert!(pool.abandons("bob"));
    assert!(!pool.abandons("bob"));
    assert!(!pool.abandons("alice"), "she is served, and not in line");
    assert_eq!(pool.line(), ["carol"]);
    assert_eq!(pool.frees("s1", 3), "s1 serves carol");
}

#[test]
fn a_waiter_elsewhere_goes_first_if_nobody_waits_here() {
    let mut pool = Scene::with_idle(&["s1"]);
    pool.asks("alice", 0);
    assert_eq!(pool.frees_beside("s1", 1, 1), "s1 goes over");
}

#[test]
fn a_waiter_elsewhere_goes_first_if_it_came_much_earlier() {
    let mut pool = Scene::with_idle(&["s1"]);
    pool.asks("alice", 0);
    pool.asks("bob", 100);
    pool.asks("carol", 100);
    pool.asks("dave", 100);
    assert_eq!(pool.frees_beside("s1", 100, 100), "s1 serves bob");
    // Carol has waited 10 ms: who has waited a quarter longer, and half a millisecond, goes first.
    assert_eq!(pool.frees_beside("s1", 110, 97), "s1 serves carol");
    assert_eq!(pool.frees_beside("s1", 110, 96), "s1 goes over");
    assert_eq!(pool.line(), ["dave"]);
}

#[test]
fn however_long_all_wait_a_few_milliseconds_decide() {
    let most = u64::try_from(GREATEST_LEAD.as_millis()).unwrap();
    let mut pool = Scene::with_idle(&["s1"]);
    pool.asks("alice", 0);
    pool.asks("bob", 100);
    pool.asks("carol", 100);
    let beside = |pool: &mut Scene, lead| pool.frees_beside("s1", 60_000, 100 - lead);
    assert_eq!(beside(&mut pool, most), "s1 serves bob");
    assert_eq!(beside(&mut pool, most + 1), "s1 goes over");
    assert_eq!(pool.line(), ["carol"]);
}

#[test]
fn clients_are_content_for_a_while_if_servers_serve_here() {
    let mut pool = Scene::with_idle(&["s1"]);
    let is_content = |pool: &Scene, ms| pool.state.is_content(pool.at(ms), HOME_PATIENCE);
    assert!(!is_content(&pool, 0), "nobody is in line");
    pool.asks("alice", 0);
    pool.asks("bob", 10);
    let patience = u64::try_from(HOME_PATIENCE.as_millis()).unwrap();
    assert!(is_content(&pool, 9 + patience));
    assert!(!is_content(&pool, 10 + patience));
    // The next in line has not waited for long.
    pool.asks("carol", 10 + patience);
    pool.frees("s1", 10 + patience);
    assert!(is_content(&pool, 10 + patience));
    let s1 = pool.servers["s1"];
    pool.state.set_aside(s1, ServerState::Resetting);
    assert!(!is_content(&pool, 10 + patience), "nothing is lent");
}

#[test]
fn an_idle_server_may_be_taken_for_another_worker() {
    let mut pool = Scene::with_idle(&["s1", "s2"]);
    let taken = pool.state.take_idle().unwrap();
    assert_eq!(pool.server_name(taken), "s2");
    pool.removes("s2");
    assert_eq!(pool.asks("alice", 1), "alice gets s1");
    assert_eq!(pool.state.take_idle(), None);
}

#[test]
fn a_removed_server_is_forgotten_whatever_it_did() {
    let mut pool = Scene::with_idle(&["leased", "canceled", "reset"]);
    pool.asks("alice", 0);
    pool.asks("bob", 0);
    pool.asks("carol", 0);
    let (canceled, leased) = (pool.servers["canceled"], pool.servers["leased"]);
    pool.state.set_aside(canceled, ServerState::BeingCanceled);
    let reset = pool.servers["reset"];
    pool.state.set_aside(reset, ServerState::Resetting);
    pool.rules.check_after = Some(Duration::ZERO);
    pool.opens("idle", 0);
    pool.opens("checked", 0);
    assert_eq!(pool.asks("dave", 0), "dave waits for checked");
    let counts = Counts {
        idle: 1,
        leased: 1,
        tested: 2,
        being_canceled: 1,
    };
    assert_eq!(pool.state.counts(), counts);

    for server in ["idle", "leased", "checked", "reset", "canceled"] {
        pool.removes(server);
        assert_eq!(pool.state.state(pool.servers[server]), None);
    }
    assert_eq!(pool.state.state(leased), None);
    assert_eq!(pool.state.counts(), Counts::default());
    assert!(!pool.state.has_idle());
    assert!(!pool.state.is_empty(), "dave waits");
    assert!(pool.abandons("dave"));
    assert!(pool.state.is_empty());
}

#[test]
fn no_schedule_breaks_the_rules() {
    dice::play(10_000, 120, |dice, len| {
        let mut random = Schedule::new(dice);
        for _ in 0..len {
            random.step(dice);
            random.check();
        }
        random.finish();
    });
}

/// A pool to which anything may happen, and what a bystander would note down of it.
struct Schedule {
    state: PoolState,
    rules: Rules,
    now: Instant,
    /// Clients in the order in which they began to wait.
    line: VecDeque<ClientId>,
    added: usize,
    removed: usize,
    clients: u64,
    /// Whether `serve_waiting` said that nothing is left to do, and nothing happened since.
    advanced: bool,
}

impl Schedule {
    fn new(dice: &mut Dice) -> Self {
        let limit = Duration::from_millis(20);
        Self {
            state: PoolState::default(),
            rules: Rules {
                paused: false,
                round_robin: dice.percent(30),
                check_after: dice.percent(50).then_some(limit),
            },
            now: Instant::now(),
            line: VecDeque::new(),
            added: 0,
            removed: 0,
            clients: 0,
            advanced: false,
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        self.now += Duration::from_millis(dice.below(8).into());
        self.advanced = false;
        match dice.below(100) {
            0..30 => self.request(),
            30..40 => self.add(),
            40..60 => self.release(dice),
            60..65 => self.abandon(dice),
            65..70 => self.remove(dice),
            70..75 => self.set_aside(dice),
            75..80 => self.take_idle(dice),
            80..83 => self.rules.paused ^= true,
            83..85 => self.rules.round_robin ^= true,
            _ => self.advance(),
        }
    }

    fn request(&mut self) {
        self.clients += 1;
        let client = ClientId(self.clients);
        let idle: Vec<_> = self.state.idle().collect();
        let first = idle.first().copied();
        let here = |server: ServerId| server.0.is_multiple_of(3);
        let busy = self.state.counts().leased;
        let cpu_of = |server| Some(if here(server) { HERE } else { THERE });
        let state = &mut self.state;
        match state.request(client, self.now, self.rules, || Some(HERE), cpu_of) {
            Grant::Server(server) => {
                assert!(self.line.is_empty(), "{client:?} jumped the line");
                assert!(!self.rules.paused);
                let (place, since) = idle
                    .iter()
                    .enumerate()
                    .find_map(|(place, &(id, since))| (id == server).then_some((place, since)))
                    .unwrap();
                assert!(!self.is_stale(since));
                if place > 0 {
                    assert!(here(server) && place < CHOICE && COMPANY.contains(&busy));
                    assert!(!self.rules.round_robin);
                    assert!(!idle[..place].iter().any(|&(id, _)| here(id)));
                }
            }
            Grant::Check(server) => {
                self.line.push_back(client);
                assert!(self.is_stale(first.unwrap().1));
                assert_eq!(server, first.unwrap().0);
            }
            Grant::Wait => self.line.push_back(client),
        }
    }

    fn is_stale(&self, since: Instant) -> bool {
        self.rules
            .check_after
            .is_some_and(|limit| self.now - since >= limit)
    }

    fn add(&mut self) {
        self.added += 1;
        let server = self.state.add();
        self.hand_on(server, None);
    }

    fn release(&mut self, dice: &mut Dice) {
        let busy = self.servers(|state| !matches!(state, ServerState::Idle { .. }));
        if let Some(server) = dice.pick(&busy) {
            let waited = Duration::from_millis(dice.below(20).into());
            let remote = dice.percent(30).then(|| self.now - waited);
            self.hand_on(server, remote);
        }
    }

    fn hand_on(&mut self, server: ServerId, remote: Option<Instant>) {
        let oldest = self.state.oldest();
        match self.state.release(server, self.now, self.rules, remote) {
            Next::Serve(waiter) => {
                assert!(!self.rules.paused);
                self.served(waiter, server);
                let overtaken = remote.is_some_and(|remote| waiter.since - remote > GREATEST_LEAD);
                assert!(!overtaken, "{waiter:?} went before {remote:?}");
            }
            Next::SendOver => {
                assert!(!self.rules.paused);
                assert!(oldest.is_none_or(|own| remote.unwrap() < own.since));
                self.state.remove(server);
                self.removed += 1;
            }
            Next::Idle => {
                assert!(self.rules.paused || self.line.is_empty());
                let ServerState::Idle { since, .. } = self.state.state(server).unwrap() else {
                    panic!("{server:?} is not idle");
                };
                assert_eq!(since, self.now);
            }
        }
    }

    fn served(&mut self, waiter: Waiter, server: ServerId) {
        let client = waiter.client;
        assert_eq!(self.line.pop_front(), Some(client));
        assert_eq!(
            self.state.state(server),
            Some(ServerState::Leased { client })
        );
    }

    fn abandon(&mut self, dice: &mut Dice) {
        let client = ClientId(dice.below(40).into());
        let place = self.line.iter().position(|&other| other == client);
        assert_eq!(self.state.abandon(client), place.is_some());
        place.map(|place| self.line.remove(place));
    }

    fn remove(&mut self, dice: &mut Dice) {
        let all = self.servers(|_| true);
        if let Some(server) = dice.pick(&all) {
            self.state.remove(server);
            self.removed += 1;
            // Once more does no harm.
            self.state.remove(server);
        }
    }

    fn set_aside(&mut self, dice: &mut Dice) {
        let leased = self.servers(|state| matches!(state, ServerState::Leased { .. }));
        let aside = [ServerState::Resetting, ServerState::BeingCanceled];
        if let (Some(server), Some(state)) = (dice.pick(&leased), dice.pick(&aside)) {
            self.state.set_aside(server, state);
        }
    }

    fn take_idle(&mut self, dice: &mut Dice) {
        if let Some(server) = self.state.take_idle()
            && dice.percent(80)
        {
            self.state.remove(server);
            self.removed += 1;
        }
    }

    /// What a worker does after every change: serve, then probe.
    fn advance(&mut self) {
        while let Some((waiter, server)) = self.state.serve_waiting(self.now, self.rules) {
            assert!(!self.rules.paused);
            self.served(waiter, server);
        }
        if !self.rules.paused && !self.line.is_empty() {
            let next = self.state.idle().next();
            assert!(next.is_none_or(|(_, since)| self.is_stale(since)));
        }
        while let Some(server) = self.state.check_next() {
            assert_eq!(self.state.state(server), Some(ServerState::Checking));
            assert!(self.state.counts().tested <= self.line.len());
        }
        self.advanced = true;
    }

    fn servers(&self, which: impl Fn(ServerState) -> bool) -> Vec<ServerId> {
        let servers = self.state.servers().filter(|&(_, state)| which(state));
        servers.map(|(server, _)| server).collect()
    }

    fn check(&self) {
        self.check_counts();
        self.check_clients();
        if self.advanced && !self.rules.paused && self.state.has_idle() {
            let probed = self.state.counts().tested;
            assert!(
                self.line.len() <= probed,
                "an idle server, and {:?} wait",
                self.line
            );
        }
    }

    fn check_counts(&self) {
        let count = |which: fn(ServerState) -> bool| self.servers(which).len();
        let counts = Counts {
            idle: count(|state| matches!(state, ServerState::Idle { .. })),
            leased: count(|state| matches!(state, ServerState::Leased { .. })),
            tested: count(|state| matches!(state, ServerState::Resetting | ServerState::Checking)),
            being_canceled: count(|state| state == ServerState::BeingCanceled),
        };
        assert_eq!(self.state.counts(), counts);
        assert_eq!(self.added - self.removed, count(|_| true));

        let mut listed = Vec::from(self.state.idle.clone());
        listed.sort();
        let idle = self.servers(|state| matches!(state, ServerState::Idle { .. }));
        assert_eq!(listed, idle, "the idle list and the idle servers differ");
        assert_eq!(self.state.has_idle(), counts.idle > 0);
    }

    fn check_clients(&self) {
        let waiting: Vec<_> = self.state.waiting().map(|waiter| waiter.client).collect();
        assert_eq!(waiting, Vec::from(self.line.clone()));
        let since: Vec<_> = self.state.waiting().map(|waiter| waiter.since).collect();
        assert!(since.is_sorted(), "{since:?}");
        let leases = self.state.servers().filter_map(|(_, state)| match state {
            ServerState::Leased { client } => Some(client),
            _ => None,
        });
        let mut served: Vec<_> = leases.chain(waiting).collect();
        let all = served.len();
        served.sort();
        served.dedup();
        assert_eq!(
            served.len(),
            all,
            "a client holds two leases, or waits with one"
        );
    }

    /// Without a pause, a working server is all that it takes to serve everybody.
    fn finish(&mut self) {
        self.rules.paused = false;
        self.added += 1;
        let server = self.state.add();
        while !self.line.is_empty() {
            self.hand_on(server, None);
        }
        self.hand_on(server, None);
        self.advance();
        self.check();
    }
}
