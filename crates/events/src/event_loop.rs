//! What a thread does, turn after turn: its tasks, then a look at its sockets.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_task::ScheduleInfo;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::mailbox::Mailbox;
use crate::outbox::{Outbox, Sending};
use crate::source::Sources;
use crate::tasks::{Job, Queues, spawn};
use crate::time::{Instant, Timers};

/// Events that are fetched from the kernel at once.
const EVENTS: usize = 256;

/// Tasks that have their turn before the sockets are looked at again, if some wake others.
const TASKS_PER_TURN: usize = 64;

/// Reads of one task in one turn, unless it counts them itself; and of a patient one.
const READS_PER_TURN: u32 = 128;
const READS_OF_PATIENT: u32 = 8;

/// Patient tasks have the loop for so long, then others are looked after.
const PATIENT_TIME: Duration = Duration::from_micros(50);

/// Times in a turn: one that accepts wakes, by way of a task that is not patient, one that logs in.
const PATIENT_ROUNDS: usize = 2;

/// Where others have work at every turn, patient tasks have one in so many parts of the time.
const PATIENT_PART: u32 = 4;

/// Before steps of theirs that take longer, what others have said is sent: else it goes with theirs.
const SHORT_STEP: Duration = Duration::from_micros(20);

/// For so long they may make use of what they have not had.
const PATIENT_CREDIT: Duration = Duration::from_millis(2);

/// The mailbox's bell among the events.
pub(crate) const BELL: u64 = u64::MAX;

thread_local! {
    static HERE: RefCell<Option<Rc<EventLoop>>> = const { RefCell::new(None) };
}

/// A thread's event loop.
pub(crate) struct EventLoop {
    pub(crate) epoll: OwnedFd,
    pub(crate) sources: RefCell<Sources>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) queues: RefCell<Queues>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) outbox: RefCell<Outbox>,
    /// Where it is a guest: who makes the other loop give it a turn.
    pub(crate) host: RefCell<Option<Waker>>,
    /// What the task that runs may still read in this turn.
    reads_left: Cell<u32>,
    events: RefCell<Vec<epoll::Event>>,
    woke: Cell<Instant>,
    /// From when on patient tasks may run though others have work.
    patient_from: Cell<Instant>,
    /// How long a step of theirs may take, going by the last ones.
    patient_step: Cell<Duration>,
    busy: Cell<Duration>,
}

/// Runs a future on this thread, and whatever it spawns, until it is ready. A task that panics is
/// over and takes no other along; if it is this one, that is an error, as is a loop that can't be
/// made.
pub fn run<F>(sending: Sending, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let here = EventLoop::enter(sending)?;
    let _leaving = Leaving;
    let outcome = Rc::new(RefCell::new(None));
    let over = Over(Rc::new(Cell::new(false)));
    let (is_over, told) = (over.0.clone(), outcome.clone());
    spawn(async move {
        let _over = over;
        let done = future.await;
        *told.borrow_mut() = Some(done);
    });
    while !is_over.get() {
        here.turn(true)?;
    }
    let outcome = outcome.borrow_mut().take();
    outcome.ok_or_else(|| io::Error::other("it panicked"))
}

/// How long this thread's loop has been at work, and not asleep.
pub fn busy_time() -> Duration {
    let here = EventLoop::here();
    here.busy.get() + here.woke.get().elapsed()
}

/// Tells of the end of a future, whichever way it came.
struct Over(Rc<Cell<bool>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Takes the thread's loop away, and all tasks with it.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        // Nothing is left to take away where the thread is at its own end.
        if let Ok(Some(here)) = HERE.try_with(|here| here.borrow().clone()) {
            here.end();
            HERE.take();
        }
    }
}

impl EventLoop {
    /// Makes this thread's loop.
    pub(crate) fn enter(sending: Sending) -> io::Result<Rc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mailbox = Mailbox::new()?;
        let bell = epoll::EventData::new_u64(BELL);
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, mailbox.bell(), bell, edge)?;
        let now = Instant::now();
        let here = Rc::new(Self {
            epoll,
            sources: RefCell::default(),
            timers: RefCell::default(),
            queues: RefCell::default(),
            mailbox: Arc::new(mailbox),
            outbox: RefCell::new(Outbox::new(sending)),
            host: RefCell::default(),
            reads_left: Cell::new(0),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
            woke: Cell::new(now),
            patient_from: Cell::new(now),
            patient_step: Cell::default(),
            busy: Cell::default(),
        });
        HERE.with_borrow_mut(|place| match place {
            Some(_) => Err(io::Error::other("the thread has an event loop already")),
            None => Ok(place.insert(here).clone()),
        })
    }

    /// This thread's loop.
    ///
    /// # Panics
    ///
    /// If there is none: neither [`run`] nor [`crate::attach`] was called.
    #[expect(
        clippy::expect_used,
        reason = "as tokio does: who asks is in the wrong place"
    )]
    pub(crate) fn here() -> Rc<Self> {
        HERE.with_borrow(Option::clone)
            .expect("the thread has an event loop")
    }

    /// Puts a task into the queue of its thread.
    pub(crate) fn schedule(job: Job, info: ScheduleInfo) {
        let mut job = Some(job);
        // A thread at its end has no loop any more.
        let _ = HERE.try_with(|here| {
            if let Some(here) = &*here.borrow()
                && let Some(job) = job.take_if(|job| here.is_home_of(job))
            {
                let has_just_run = info.woken_while_running;
                here.queues.borrow_mut().push(job, has_just_run);
                here.call_host();
            }
        });
        if let Some(job) = job {
            let mailbox = job.metadata().mailbox.clone();
            mailbox.send(job);
        }
    }

    fn is_home_of(&self, job: &Job) -> bool {
        Arc::ptr_eq(&self.mailbox, &job.metadata().mailbox)
    }

    /// Where it is a guest, something is to be done at its next turn.
    pub(crate) fn call_host(&self) {
        if let Some(host) = &*self.host.borrow() {
            host.wake_by_ref();
        }
    }

    /// One turn: a look at the sockets, for which it sleeps if it may and nothing is to be done, and
    /// all tasks that are due. Returns whether more is to be done at once.
    pub(crate) fn turn(&self, may_sleep: bool) -> io::Result<bool> {
        let now = Instant::now();
        let idle = self.queues.borrow().is_empty();
        let awake = now.saturating_duration_since(self.woke.get());
        self.busy.set(self.busy.get() + awake);
        let told = if may_sleep && idle && self.mailbox.sleep() {
            let until = self.next_timer();
            let told = self.fetch(until.map(|until| until.saturating_duration_since(now)));
            self.mailbox.wake();
            told?
        } else {
            self.fetch(Some(Duration::ZERO))?
        };
        self.woke.set(Instant::begin_turn());
        self.timers.borrow_mut().fire(self.woke.get());
        for job in self.mailbox.empty() {
            self.queues.borrow_mut().push(job, false);
        }

        {
            let queues = &mut *self.queues.borrow_mut();
            if !queues.again.is_empty() {
                queues.ready.append(&mut queues.again);
            }
        }
        let others_had_work = self.run_ready();
        for _ in 0..PATIENT_ROUNDS {
            if self.patient_step.get() > SHORT_STEP {
                self.send_gathered();
            }
            if !self.run_patient(others_had_work) {
                break;
            }
            // What has become of them, mostly.
            self.run_ready();
        }
        self.send_gathered();
        // For those whom another loop runs.
        self.reads_left.set(READS_PER_TURN);
        Ok(told || !self.queues.borrow().is_empty())
    }

    /// Returns whether there were any. Those that are woken by these come in the same turn, unless it
    /// gets long.
    fn run_ready(&self) -> bool {
        let due = self.queues.borrow().ready.len();
        for count in 0..due.max(TASKS_PER_TURN) {
            let Some(job) = self.queues.borrow_mut().ready.pop_front() else {
                return count > 0;
            };
            self.run_one(job);
        }
        true
    }

    /// Returns whether there were any. Where others have work they come again only after those have
    /// had three times as long; where nobody has, nobody waits.
    fn run_patient(&self, others_have_work: bool) -> bool {
        if self.queues.borrow().patient.is_empty() {
            return false;
        }
        let started = match others_have_work {
            true => Instant::now(),
            // Hardly anything has been done since.
            false => self.woke.get(),
        };
        let mut now = started;
        let is_due = |now| !others_have_work || self.patient_from.get() <= now;
        while now < started + PATIENT_TIME && is_due(now) {
            let Some(job) = self.queues.borrow_mut().patient.pop_front() else {
                break;
            };
            self.run_one(job);
            let ended = Instant::now();
            let step = ended.saturating_duration_since(now);
            let before = self.patient_step.get();
            self.patient_step.set(step.max(before - before / 8));
            let due = step * PATIENT_PART;
            let from = self.patient_from.get().max(now - PATIENT_CREDIT) + due;
            // What they had while nobody else had work costs them nothing.
            self.patient_from.set(from.min(ended + due));
            now = ended;
        }
        now > started
    }

    #[inline]
    fn run_one(&self, job: Job) {
        self.reads_left.set(match job.metadata().patient {
            false => READS_PER_TURN,
            true => READS_OF_PATIENT,
        });
        // What it said to the panic hook is all that there is to say: others go on.
        let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
    }

    /// Ready if the task that runs may read once more, before others have their turn.
    pub(crate) fn poll_read_allowed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.reads_left.get().checked_sub(1) {
            Some(left) => {
                self.reads_left.set(left);
                Poll::Ready(())
            }
            None => {
                cx.waker().wake_by_ref();
                self.call_host();
                Poll::Pending
            }
        }
    }

    /// Looks at the sockets; waits so long for one to be ready, or for ever. Returns whether there may
    /// be more to see.
    fn fetch(&self, patience: Option<Duration>) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let timeout = patience.map(|it| Timespec::try_from(it).unwrap_or(A_DAY));
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let sources = self.sources.borrow();
        for event in events.iter() {
            sources.note(event.data.u64(), event.flags);
        }
        // Some are told of again, as long as there is more; and who is a guest is not told twice.
        Ok(!events.is_empty())
    }

    /// When it needs its next turn, if no socket asks for one.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.borrow().first()
    }

    /// What tells another loop that this one needs a turn.
    pub(crate) fn epoll_copy(&self) -> io::Result<OwnedFd> {
        self.epoll.as_fd().try_clone_to_owned()
    }

    /// Drops all tasks. Those that nobody would wake any more come to the queue to be dropped.
    pub(crate) fn end(&self) {
        loop {
            let queues = self.queues.take();
            let timers = self.timers.take();
            let wakers = self.sources.borrow().take_wakers();
            let nothing = queues.is_empty() && timers.is_empty() && wakers.is_empty();
            if nothing && self.mailbox.empty().is_empty() {
                return;
            }
        }
    }

    /// Forgets the thread's loop, and drops all tasks.
    pub(crate) fn leave() {
        drop(Leaving);
    }
}

const A_DAY: Timespec = Timespec {
    tv_sec: 86_400,
    tv_nsec: 0,
};

#[cfg(test)]
mod tests;
