//! Several workers share one pool: what [`crate::Pool`] does between them, in any order.
//!
//! The protocol of `pool.rs` and `opening.rs` is told again here without sockets, on the real
//! [`PoolState`], [`PoolShared`] and limits. A worker does one thing at a time, but stops at a
//! seam wherever another worker could see what it did so far; the dice say who goes on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use events::time::Instant;
use tokio::sync::mpsc;

use crate::dice::{self, Dice};
use crate::key::{ClientId, ServerId, WorkerId};
use crate::limits::{Bounds, Passed, Permit, Purpose};
use crate::shared::{PoolShared, Shared};
use crate::state::{GREATEST_LEAD, Grant, HOME_PATIENCE, Next, PoolState, Rules, ServerState};

const LOGIN_RETRY: Duration = Duration::from_secs(15);

#[test]
fn who_found_enough_logins_under_way_hears_of_it_when_one_ends() {
    dice::play(100, 1, |dice, _| {
        let mut scene = Scene::with(2, 5, None, dice);
        for _ in 0..4 {
            scene.does(0, Event::Request { dead: 0 });
        }
        scene.does(1, Event::Request { dead: 0 });
        scene.rest(dice);
        assert_eq!(scene.waiting(), 0);
    });
}

#[test]
fn who_asked_for_an_idle_server_that_another_got_looks_again() {
    dice::play(100, 1, |dice, _| {
        let mut scene = Scene::with(3, 2, None, dice);
        scene.has_idle(0);
        scene.does(1, Event::Request { dead: 0 });
        scene.does(2, Event::Request { dead: 0 });
        scene.rest(dice);
        assert_eq!(scene.waiting(), 0);
    });
}

#[test]
fn a_worker_where_several_wait_asks_for_more_than_one_server() {
    dice::play(100, 1, |dice, _| {
        let mut scene = Scene::with(2, 3, None, dice);
        scene.has_idle(0);
        scene.pause(true);
        scene.does(1, Event::Request { dead: 0 });
        scene.does(1, Event::Request { dead: 0 });
        scene.pause(false);
        scene.rest(dice);
        assert_eq!(scene.waiting(), 0);
    });
}

#[test]
fn nobody_counts_on_a_server_that_is_probed_for_another_worker() {
    dice::play(100, 1, |dice, _| {
        let check_after = Duration::from_millis(30);
        let mut scene = Scene::with(2, 2, Some(check_after), dice);
        scene.has_idle(0);
        scene.passes(check_after);
        scene.does(1, Event::Request { dead: 0 });
        scene.reads_post(0);
        scene.does(0, Event::Request { dead: 0 });
        scene.rest(dice);
        assert_eq!(scene.waiting(), 0);
    });
}

#[test]
fn nobody_waits_while_a_server_idles_or_could_be_opened_on_any_worker() {
    dice::play(10_000, 8, |dice, len| {
        let mut scene = Scene::new(dice);
        for _ in 0..len {
            scene.burst(dice);
        }
        scene.serve_everybody(dice);
    });
}

/// What the workers share.
struct World {
    shared: Shared,
    pool: Arc<PoolShared>,
    bounds: Bounds,
    rules: Rules,
    /// Whether a server runs a reset query when it is released.
    resets: bool,
    start: Instant,
    now: Cell<Instant>,
    inboxes: Vec<RefCell<VecDeque<Mail>>>,
    log: RefCell<Vec<Note>>,
}

/// What happened, for those who wonder how it came to this.
enum Note {
    Started(Duration, WorkerId, Event),
    Sent(Mail, WorkerId),
    Asked(WorkerId, Permit),
    Paused(bool),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(at, worker, event) => write!(f, "{at:?} {worker:?}: {event:?}"),
            Self::Sent(mail, to) => write!(f, "  {mail:?} to {to:?}"),
            Self::Asked(worker, permit) => write!(f, "  {worker:?} asks: {permit:?}"),
            Self::Paused(paused) => write!(f, "paused: {paused}"),
        }
    }
}

/// [`crate::Mail`] without sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mail {
    Demand,
    /// A server, to be probed there if it idled long here.
    Server {
        stale: bool,
    },
    Permit,
    Room,
}

/// The pool on one worker.
struct Worker {
    world: Rc<World>,
    id: WorkerId,
    state: RefCell<PoolState>,
    logins: Cell<usize>,
    kicked: Cell<bool>,
    /// How long its clients count on its own servers.
    patience: Duration,
    patient_until: Cell<Option<Instant>>,
}

/// What may happen to a worker.
#[derive(Debug, Clone, Copy)]
enum Event {
    Mail(Mail),
    Kick,
    /// Its clients have had patience long enough.
    Impatience,
    /// A client asks, and finds so many dead servers first.
    Request {
        dead: u32,
    },
    Release(ServerId),
    /// A client gives a server back that another worker had better have: it runs where that one does.
    Exchange(ServerId, WorkerId),
    Abandon(ClientId),
    LoggedIn,
    LoginFailed,
    /// The answer to a probe or a reset query.
    Answered(ServerId),
    /// A server went away.
    Gone(ServerId),
    /// The pass that follows PAUSE and RESUME, and comes three times a second.
    Tick,
}

/// What clients and servers do more or less often.
#[derive(Debug, Clone, Copy)]
enum Habit {
    Request,
    Release,
    Abandon,
    Login,
    Answer,
    Close,
}

/// How often they do it: every schedule has a mood of its own, and visits other corners.
struct Habits(Vec<Habit>);

impl Habits {
    fn new(dice: &mut Dice) -> Self {
        let all = [
            (Habit::Request, 8),
            (Habit::Release, 8),
            (Habit::Abandon, 2),
            (Habit::Login, 6),
            (Habit::Answer, 6),
            (Habit::Close, 2),
        ];
        let weighed = all.map(|(habit, most)| (habit, 1 + dice.below(most)));
        let repeated = weighed
            .iter()
            .flat_map(|&(habit, weight)| std::iter::repeat_n(habit, weight as usize));
        Self(repeated.collect())
    }

    fn pick(&self, dice: &mut Dice) -> Habit {
        dice.pick(&self.0).unwrap()
    }
}

/// Other workers may go on here.
async fn seam() {
    let mut passed = false;
    poll_fn(|_| match std::mem::replace(&mut passed, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

impl Worker {
    async fn handle(self: Rc<Self>, event: Event, client: ClientId) {
        match event {
            Event::Mail(Mail::Demand) => self.answer_demand().await,
            Event::Mail(Mail::Server { stale }) => self.receive(stale).await,
            Event::Mail(Mail::Permit) => self.use_permit().await,
            Event::Mail(Mail::Room) => self.advance().await,
            Event::Kick => {
                self.kicked.set(false);
                self.advance().await;
            }
            Event::Impatience => {
                self.patient_until.set(None);
                self.publish_waiting().await;
                self.advance().await;
            }
            Event::Request { dead } => self.request(client, dead).await,
            Event::Release(place) if self.world.resets => {
                let mut state = self.state.borrow_mut();
                state.set_aside(place, ServerState::Resetting);
            }
            Event::Release(place) | Event::Answered(place) => self.lend(place).await,
            Event::Exchange(place, to) => self.part_with(place, to).await,
            Event::Abandon(client) => {
                if self.state.borrow_mut().abandon(client) {
                    self.publish_waiting().await;
                }
            }
            Event::LoggedIn => self.opened().await,
            Event::LoginFailed => self.login_failed().await,
            Event::Gone(place) => self.close(place).await,
            Event::Tick => self.tick().await,
        }
    }

    async fn request(&self, client: ClientId, mut dead: u32) {
        loop {
            let now = self.world.now.get();
            // Any of them may be the one.
            let cpu_of = |place: ServerId| Some(u32::from(place.0.is_multiple_of(2)));
            let rules = self.rules();
            let state = &self.state;
            let grant = state
                .borrow_mut()
                .request(client, now, rules, || Some(1), cpu_of);
            match grant {
                Grant::Server(place) => {
                    self.idle_changed().await;
                    if dead == 0 {
                        return;
                    }
                    dead -= 1;
                    self.close(place).await;
                }
                Grant::Check(_) => {
                    self.idle_changed().await;
                    break;
                }
                Grant::Wait => break,
            }
        }
        self.publish_waiting().await;
        self.advance().await;
    }

    async fn lend(&self, place: ServerId) {
        let pool = &self.world.pool;
        seam().await;
        let mut remote = None;
        if pool.waits_elsewhere(self.id) {
            seam().await;
            remote = pool.longest_elsewhere(self.id);
        }
        let since = remote.map(|(_, since)| since);
        let now = self.world.now.get();
        let rules = self.rules();
        let next = self.state.borrow_mut().release(place, now, rules, since);
        match (next, remote) {
            (Next::Serve(waiter), _) => {
                let overtaken = since.is_some_and(|since| waiter.since - since > GREATEST_LEAD);
                self.world
                    .ensure(!overtaken, "a patient waiter elsewhere is overtaken");
                self.publish_waiting().await;
            }
            (Next::SendOver, Some((to, _))) => self.part_with(place, to).await,
            (Next::SendOver | Next::Idle, _) => self.now_idle(place).await,
        }
    }

    async fn part_with(&self, place: ServerId, to: WorkerId) {
        self.send_over(place, to, false).await;
        // Somebody here may have counted on it.
        if self.wanted() > 0 {
            self.kicked.set(true);
        }
    }

    async fn now_idle(&self, place: ServerId) {
        self.idle_changed().await;
        seam().await;
        if self.rules().paused {
            self.close(place).await;
        } else if self.world.pool.waits_elsewhere(self.id) {
            self.answer_demand().await;
        }
    }

    async fn answer_demand(&self) {
        if self.rules().paused {
            return;
        }
        seam().await;
        let longest = self.world.pool.longest_elsewhere(self.id);
        let Some((to, _)) = longest else {
            return;
        };
        let (now, rules) = (self.world.now.get(), self.rules());
        let stale = self.state.borrow().next_is_stale(now, rules);
        let taken = self.state.borrow_mut().take_idle();
        match taken {
            Some(place) => {
                self.idle_changed().await;
                self.send_over(place, to, stale).await;
            }
            None => self.tell_waiting().await,
        }
    }

    async fn send_over(&self, place: ServerId, to: WorkerId, stale: bool) {
        let now = self.world.now.get();
        self.forget(place).await;
        seam().await;
        self.world.pool.promise(to, now);
        seam().await;
        self.world.send(to, Mail::Server { stale });
    }

    async fn receive(&self, stale: bool) {
        let place = self.state.borrow_mut().add();
        if !stale {
            self.lend(place).await;
        }
        // It may be one where several are missing.
        self.advance().await;
        self.publish_waiting().await;
    }

    async fn advance(&self) {
        let rules = self.rules();
        if rules.paused {
            return;
        }
        loop {
            let now = self.world.now.get();
            let served = self.state.borrow_mut().serve_waiting(now, rules);
            if served.is_none() {
                break;
            }
            self.idle_changed().await;
            self.publish_waiting().await;
        }
        loop {
            let stale = self.state.borrow_mut().check_next();
            if stale.is_none() {
                break;
            }
            self.idle_changed().await;
        }
        if self.wanted() == 0 {
            return;
        }
        seam().await;
        let idle = self.world.pool.idle_elsewhere(self.id).next();
        match idle {
            Some(_)
                if self
                    .state
                    .borrow()
                    .is_content(self.world.now.get(), self.patience) => {}
            Some(other) => self.world.send(other, Mail::Demand),
            None => self.open_for_waiters().await,
        }
    }

    async fn open_for_waiters(&self) {
        for _ in 0..self.wanted() {
            seam().await;
            let size = self.world.bounds.pool;
            if size > 0 && self.world.pool.servers.load(Ordering::SeqCst) >= size {
                break;
            }
            seam().await;
            if !self.try_open() {
                break;
            }
        }
    }

    fn try_open(&self) -> bool {
        let (id, now) = (self.world.pool.id, self.world.now.get());
        let permit = self
            .world
            .shared
            .limits(|limits| limits.open(id, self.world.bounds, Purpose::Waiter, self.id, now));
        self.world.note(Note::Asked(self.id, permit));
        if permit == Permit::Granted {
            self.logins.set(self.logins.get() + 1);
        }
        permit == Permit::Granted
    }

    async fn use_permit(&self) {
        if self.wanted() > 0 {
            self.logins.set(self.logins.get() + 1);
            return;
        }
        let id = self.world.pool.id;
        let passed = self.world.shared.limits(|limits| limits.unused(id));
        self.permit_is_back(passed).await;
    }

    async fn opened(&self) {
        self.logins.set(self.logins.get() - 1);
        let id = self.world.pool.id;
        let passed = self.world.shared.limits(|limits| limits.logged_in(id));
        let place = self.state.borrow_mut().add();
        self.lend(place).await;
        self.permit_is_back(passed).await;
        self.advance().await;
    }

    async fn login_failed(&self) {
        self.logins.set(self.logins.get() - 1);
        let (id, now) = (self.world.pool.id, self.world.now.get());
        let passed = self
            .world
            .shared
            .limits(|limits| limits.login_failed(id, now, false));
        self.permit_is_back(passed).await;
    }

    async fn close(&self, place: ServerId) {
        self.forget(place).await;
        seam().await;
        let id = self.world.pool.id;
        let passed = self.world.shared.limits(|limits| limits.closed(id));
        self.permit_is_back(passed).await;
    }

    async fn permit_is_back(&self, passed: Vec<Passed>) {
        for Passed { worker, .. } in passed {
            seam().await;
            self.world.send(worker, Mail::Permit);
        }
        self.tell_waiting().await;
        if self.wanted() > 0 {
            self.kicked.set(true);
        }
    }

    async fn tell_waiting(&self) {
        seam().await;
        let others: Vec<_> = self.world.pool.waiting_elsewhere(self.id).collect();
        for other in others {
            seam().await;
            self.world.send(other, Mail::Room);
        }
    }

    async fn tick(&self) {
        if self.rules().paused {
            let idle: Vec<_> = self.state.borrow().idle().rev().collect();
            for (place, _) in idle {
                self.close(place).await;
            }
        }
        self.advance().await;
    }

    async fn forget(&self, place: ServerId) {
        self.state.borrow_mut().remove(place);
        self.idle_changed().await;
    }

    async fn publish_waiting(&self) {
        seam().await;
        let since = self.state.borrow().oldest().map(|waiter| waiter.since);
        let (pool, shared, now) = (&self.world.pool, &self.world.shared, self.world.now.get());
        let content = shared.workers() > 1 && self.state.borrow().is_content(now, self.patience);
        if content && self.patient_until.get().is_none() {
            self.patient_until.set(Some(now + HOME_PATIENCE));
        }
        pool.publish_waiting(self.id, since.filter(|_| !content));
    }

    async fn idle_changed(&self) {
        seam().await;
        let has_idle = self.state.borrow().has_idle();
        self.world.pool.publish_idle(self.id, has_idle);
    }

    fn wanted(&self) -> usize {
        let state = self.state.borrow();
        let coming = self.logins.get() + state.counts().tested;
        state.waiting().len().saturating_sub(coming)
    }

    fn rules(&self) -> Rules {
        Rules {
            paused: self.world.pool.database.is_paused(),
            ..self.world.rules
        }
    }

    fn servers(&self, which: impl Fn(ServerState) -> bool) -> Vec<ServerId> {
        let state = self.state.borrow();
        let servers = state.servers().filter(|&(_, state)| which(state));
        servers.map(|(server, _)| server).collect()
    }

    fn line(&self) -> Vec<ClientId> {
        let state = self.state.borrow();
        state.waiting().map(|waiter| waiter.client).collect()
    }

    fn serves(&self, client: ClientId) -> bool {
        !self
            .servers(|state| state == ServerState::Leased { client })
            .is_empty()
    }

    fn leased(&self) -> Vec<ServerId> {
        self.servers(|state| matches!(state, ServerState::Leased { .. }))
    }

    fn tested(&self) -> Vec<ServerId> {
        self.servers(|state| matches!(state, ServerState::Resetting | ServerState::Checking))
    }
}

impl World {
    fn new(workers: usize, bounds: Bounds) -> Self {
        let post = (0..workers).map(|_| mpsc::unbounded_channel().0).collect();
        let shared = Shared::new(wire::ParamNames::new([]), post);
        let config = Arc::new(settings::Database::new("db"));
        let (database, _) = shared.database(&config, false);
        let pool = shared.pool(&database, "user");
        let start = Instant::now();
        Self {
            shared,
            pool,
            bounds,
            rules: Rules {
                paused: false,
                round_robin: false,
                check_after: None,
            },
            resets: false,
            start,
            now: Cell::new(start),
            inboxes: (0..workers).map(|_| RefCell::default()).collect(),
            log: RefCell::default(),
        }
    }

    fn any(dice: &mut Dice) -> Self {
        let workers = dice.pick(&[1, 2, 2, 3, 3, 4]).unwrap();
        let bounds = Bounds {
            pool: dice.pick(&[1, 1, 2, 2, 3, 5, 7]).unwrap(),
            database: dice.pick(&[0, 0, 0, 1, 2, 4]).unwrap(),
            login_retry: LOGIN_RETRY,
            ..Bounds::default()
        };
        let limit = Duration::from_millis(30);
        let mut world = Self::new(workers, bounds);
        world.rules.round_robin = dice.percent(30);
        world.rules.check_after = dice.percent(30).then_some(limit);
        world.resets = dice.percent(40);
        world
    }

    fn send(&self, to: WorkerId, mail: Mail) {
        self.note(Note::Sent(mail, to));
        self.inboxes[to.0].borrow_mut().push_back(mail);
    }

    fn note(&self, note: Note) {
        self.log.borrow_mut().push(note);
    }

    /// Tells how it came to this, if it does not hold.
    fn ensure(&self, holds: bool, what: &str) {
        if holds {
            return;
        }
        let log = self.log.borrow();
        let lines: Vec<_> = log.iter().map(|note| note.to_string()).collect();
        let (bounds, rules, resets) = (self.bounds, self.rules, self.resets);
        let lines = lines.join("\n");
        panic!("{what}, after\n{lines}\nwith {bounds:?}, {rules:?}, resets: {resets}");
    }
}

/// The workers, and what each is in the middle of.
struct Scene {
    world: Rc<World>,
    workers: Vec<Rc<Worker>>,
    running: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Workers that have not yet heard of the last PAUSE or RESUME.
    unaware: Vec<bool>,
    clients: u64,
    habits: Habits,
    /// Microseconds between two steps.
    pace: u32,
    /// So many clients wait at most; where few do, servers idle more often.
    crowd: usize,
    logins_fail: bool,
}

impl Scene {
    fn new(dice: &mut Dice) -> Self {
        let world = World::any(dice);
        let logins_fail = dice.percent(10);
        Self {
            logins_fail,
            ..Self::of(world, dice)
        }
    }

    fn with(
        workers: usize,
        pool_size: u32,
        check_after: Option<Duration>,
        dice: &mut Dice,
    ) -> Self {
        let bounds = Bounds {
            pool: pool_size,
            ..Bounds::default()
        };
        let mut world = World::new(workers, bounds);
        world.rules.check_after = check_after;
        Self::of(world, dice)
    }

    fn of(world: World, dice: &mut Dice) -> Self {
        let world = Rc::new(world);
        let count = world.inboxes.len();
        let workers = (0..count).map(|id| {
            Rc::new(Worker {
                world: world.clone(),
                id: WorkerId(id),
                state: RefCell::default(),
                logins: Cell::new(0),
                kicked: Cell::new(false),
                patience: dice.pick(&[HOME_PATIENCE, GREATEST_LEAD * 4]).unwrap(),
                patient_until: Cell::new(None),
            })
        });
        Self {
            workers: workers.collect(),
            running: (0..count).map(|_| None).collect(),
            unaware: vec![false; count],
            clients: 0,
            habits: Habits::new(dice),
            pace: dice.pick(&[1, 1000, 3000, 9000]).unwrap(),
            crowd: dice.pick(&[1, 2, 3, 10]).unwrap(),
            logins_fail: false,
            world,
        }
    }

    fn does(&mut self, place: usize, event: Event) {
        self.start(place, event);
        while self.go_on(place) {}
    }

    fn reads_post(&mut self, place: usize) {
        while let Some(event) = self.pending(place) {
            self.does(place, event);
        }
    }

    fn passes(&mut self, time: Duration) {
        self.world.now.set(self.world.now.get() + time);
    }

    fn has_idle(&mut self, place: usize) {
        self.does(place, Event::Request { dead: 0 });
        self.does(place, Event::LoggedIn);
        let lease = self.workers[place].leased()[0];
        self.does(place, Event::Release(lease));
    }

    /// A few things happen at once, and then nothing for a while.
    fn burst(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(90) {
            self.step(dice);
        }
        self.rest(dice);
    }

    fn step(&mut self, dice: &mut Dice) {
        self.passes(Duration::from_micros(dice.below(self.pace).into()));
        if dice.percent(1) {
            let paused = self.world.pool.database.is_paused();
            self.pause(!paused);
        }
        let place = dice.below(u32::try_from(self.workers.len()).unwrap()) as usize;
        if !self.go_on(place) {
            let event = match dice.percent(50) {
                true => self.pending(place),
                false => None,
            };
            let event = event.or_else(|| (0..4).find_map(|_| self.chance(place, dice)));
            if let Some(event) = event {
                self.start(place, event);
            }
        }
        self.check_size();
    }

    fn pause(&mut self, paused: bool) {
        self.world.note(Note::Paused(paused));
        self.world.shared.pause_all(paused);
        self.unaware.fill(true);
    }

    /// Lets a worker go on to its next seam, if it is in the middle of something.
    fn go_on(&mut self, place: usize) -> bool {
        let Some(running) = &mut self.running[place] else {
            return false;
        };
        let mut cx = Context::from_waker(Waker::noop());
        if running.as_mut().poll(&mut cx).is_ready() {
            self.running[place] = None;
        }
        true
    }

    fn start(&mut self, place: usize, event: Event) {
        self.clients += u64::from(matches!(event, Event::Request { .. }));
        let client = ClientId(self.clients);
        let at = self.world.now.get() - self.world.start;
        self.world.note(Note::Started(at, WorkerId(place), event));
        let worker = self.workers[place].clone();
        let patient = self.patient_elsewhere(place);
        self.running[place] = Some(Box::pin(worker.handle(event, client)));
        self.go_on(place);
        if let (Event::Request { .. }, Some(other)) = (event, patient) {
            let overtakes = self.workers[place].serves(client);
            let holds = !overtakes || self.is_helped(other, place);
            self.world
                .ensure(holds, "a newcomer overtakes a patient waiter elsewhere");
        }
    }

    /// The other worker whose client has waited longest, if that is too long to be overtaken.
    fn patient_elsewhere(&self, place: usize) -> Option<usize> {
        let now = self.world.now.get();
        let others = (0..self.workers.len()).filter(|&other| other != place);
        others
            .filter_map(|other| Some((other, self.workers[other].state.borrow().oldest()?.since)))
            .min_by_key(|&(_, since)| since)
            .filter(|&(_, since)| now - since > GREATEST_LEAD)
            .map(|(other, _)| other)
    }

    /// Whether something is under way that gets a client of this worker a server, or lets it look
    /// again.
    fn is_helped(&self, worker: usize, newcomer: usize) -> bool {
        let posted = |mail| {
            self.world
                .inboxes
                .iter()
                .any(|i| i.borrow().contains(&mail))
        };
        let coming = |mail: &Mail| matches!(mail, Mail::Server { .. } | Mail::Room);
        let mut others = (0..self.workers.len()).filter(|&other| other != newcomer);
        posted(Mail::Demand)
            || self.world.inboxes[worker].borrow().iter().any(coming)
            || others.any(|other| self.running[other].is_some())
            || self.outcome(worker).is_some()
            || self.workers[worker].kicked.get()
            || self.workers[worker].patient_until.get().is_some()
            || self.unaware.contains(&true)
    }

    /// What a worker will do of its own accord.
    fn pending(&mut self, place: usize) -> Option<Event> {
        if std::mem::take(&mut self.unaware[place]) {
            return Some(Event::Tick);
        }
        if self.workers[place].kicked.get() {
            return Some(Event::Kick);
        }
        let until = self.workers[place].patient_until.get();
        if until.is_some_and(|until| until <= self.world.now.get()) {
            return Some(Event::Impatience);
        }
        let mail = self.world.inboxes[place].borrow_mut().pop_front()?;
        Some(Event::Mail(mail))
    }

    /// What else may happen to it.
    fn chance(&self, place: usize, dice: &mut Dice) -> Option<Event> {
        let worker = &self.workers[place];
        match self.habits.pick(dice) {
            Habit::Request if self.waiting() >= self.crowd => None,
            Habit::Request => Some(Event::Request {
                dead: u32::from(dice.percent(5)),
            }),
            Habit::Release => {
                let place = dice.pick(&worker.leased())?;
                let all = self.workers.iter().map(|other| other.id);
                let others: Vec<_> = all.filter(|&other| other != worker.id).collect();
                let exchange = dice.percent(20).then(|| dice.pick(&others)).flatten();
                Some(match exchange {
                    Some(to) => Event::Exchange(place, to),
                    None => Event::Release(place),
                })
            }
            Habit::Abandon => dice.pick(&worker.line()).map(Event::Abandon),
            Habit::Login if worker.logins.get() == 0 => None,
            Habit::Login if self.logins_fail && dice.percent(30) => Some(Event::LoginFailed),
            Habit::Login => Some(Event::LoggedIn),
            Habit::Answer => dice.pick(&worker.tested()).map(Event::Answered),
            Habit::Close => dice.pick(&worker.servers(|_| true)).map(Event::Gone),
        }
    }

    /// Lets everything run to its end; only the clients keep still.
    fn rest(&mut self, dice: &mut Dice) {
        self.settle(dice);
        if self.logins_fail {
            // After a failed login only the clock brings the next one.
            for _ in 0..8 {
                self.passes(LOGIN_RETRY);
                self.unaware.fill(true);
                self.settle(dice);
            }
        }
        self.check_calm();
    }

    fn settle(&mut self, dice: &mut Dice) {
        for _ in 0..20_000 {
            let all = 0..self.workers.len();
            let busy: Vec<_> = all.filter(|&place| self.has_work(place)).collect();
            let Some(place) = dice.pick(&busy) else {
                return;
            };
            self.passes(Duration::from_micros(dice.below(self.pace).into()));
            if !self.go_on(place) {
                match self.pending(place).or_else(|| self.outcome(place)) {
                    Some(event) => self.start(place, event),
                    None => self.passes(HOME_PATIENCE),
                }
            }
            self.check_size();
        }
        self.world.ensure(false, "the workers never come to rest");
    }

    fn has_work(&self, place: usize) -> bool {
        let worker = &self.workers[place];
        self.running[place].is_some()
            || self.unaware[place]
            || worker.kicked.get()
            || worker.patient_until.get().is_some()
            || !self.world.inboxes[place].borrow().is_empty()
            || self.outcome(place).is_some()
    }

    /// How a login or a query of our own ends.
    fn outcome(&self, place: usize) -> Option<Event> {
        let worker = &self.workers[place];
        if worker.logins.get() > 0 {
            return Some(Event::LoggedIn);
        }
        worker.tested().first().copied().map(Event::Answered)
    }

    /// Ends the pause and the leases, one by one: everybody in line must get a server.
    fn serve_everybody(&mut self, dice: &mut Dice) {
        self.pause(false);
        self.rest(dice);
        while self.waiting() > 0 {
            let all = 0..self.workers.len();
            let leases: Vec<_> = all
                .flat_map(|place| {
                    let leased = self.workers[place].leased();
                    leased.into_iter().map(move |server| (place, server))
                })
                .collect();
            let lease = dice.pick(&leases);
            self.world
                .ensure(lease.is_some(), "clients wait, and nobody is served");
            let (place, server) = lease.unwrap();
            self.start(place, Event::Release(server));
            self.rest(dice);
        }
    }

    fn waiting(&self) -> usize {
        let lines = self
            .workers
            .iter()
            .map(|w| w.state.borrow().waiting().len());
        lines.sum()
    }

    fn check_size(&self) {
        let servers = self.world.pool.servers.load(Ordering::SeqCst);
        let bounds = self.world.bounds;
        let fits = |limit: u32| limit == 0 || servers <= limit;
        let fits = fits(bounds.pool) && fits(bounds.database);
        self.world.ensure(fits, "too many servers");
    }

    /// What must hold when nothing is under way.
    fn check_calm(&self) {
        let world = self.world.clone();
        let counts = self.workers.iter().map(|w| w.servers(|_| true).len());
        let known: usize = counts.sum();
        let permits = world.pool.servers.load(Ordering::SeqCst) as usize;
        world.ensure(known == permits, "servers and permits differ");
        self.check_published();

        let paused = world.pool.database.is_paused();
        if paused || self.waiting() == 0 {
            return;
        }
        let idle = self.workers.iter().any(|w| w.state.borrow().has_idle());
        world.ensure(!idle, "somebody waits while a server idles");
        let full = |limit: u32| limit > 0 && permits >= limit as usize;
        let full = full(world.bounds.pool) || full(world.bounds.database);
        world.ensure(full, "somebody waits while a server could be opened");
    }

    /// Every worker sees of the others what is so.
    fn check_published(&self) {
        if self.workers.len() < 2 {
            return;
        }
        let pool = &self.world.pool;
        for worker in &self.workers {
            let others = self.workers.iter().filter(|other| other.id != worker.id);
            let oldest = others
                .clone()
                .filter_map(|other| Some((other.id, other.state.borrow().oldest()?.since)))
                .min_by_key(|&(_, since)| since);
            let seen = pool.longest_elsewhere(worker.id);
            self.world
                .ensure(seen == oldest, "the published waiters are not so");
            let idle = others.filter(|other| other.state.borrow().has_idle());
            let idle: Vec<_> = idle.map(|other| other.id).collect();
            let seen: Vec<_> = pool.idle_elsewhere(worker.id).collect();
            self.world
                .ensure(seen == idle, "the published idle servers are not so");
        }
    }
}
