//! Tasks: futures that a thread takes further whenever they are woken.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_task::{Builder, Runnable, WithInfo};

use crate::event_loop::EventLoop;
use crate::mailbox::Mailbox;

/// A task that is due.
pub(crate) type Job = Runnable<Details>;

/// What a task knows of itself.
#[derive(Debug)]
pub(crate) struct Details {
    /// That of its thread.
    pub(crate) mailbox: Arc<Mailbox>,
    /// Whether it waits for others.
    pub(crate) patient: bool,
}

/// The tasks that are due, the first first.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) ready: VecDeque<Job>,
    /// Those that have had their turn, and want another.
    pub(crate) again: VecDeque<Job>,
    pub(crate) patient: VecDeque<Job>,
}

impl Queues {
    pub(crate) fn push(&mut self, job: Job, has_just_run: bool) {
        match job.metadata().patient {
            true => self.patient.push_back(job),
            false if has_just_run => self.again.push_back(job),
            false => self.ready.push_back(job),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.again.is_empty() && self.patient.is_empty()
    }
}

/// Runs a future on this thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    start(Box::pin(future), false);
}

/// The same for a future that can wait, and whose every step may take long: where others have work at
/// every turn, those like this together have no more than a quarter of the time, and hardly ever more
/// than one step in a row.
pub fn spawn_patient(future: impl Future<Output = ()> + 'static) {
    start(Box::pin(future), true);
}

/// All tasks are of one kind: what wakes and runs one is in the cache for the next.
fn start(future: Pin<Box<dyn Future<Output = ()>>>, patient: bool) {
    let details = Details {
        mailbox: EventLoop::here().mailbox.clone(),
        patient,
    };
    let task = Builder::new().metadata(details);
    // A function and no closure: what has no size need not be kept alive while it is called.
    let (job, task) = task.spawn_local(|_| future, WithInfo(EventLoop::schedule));
    task.detach();
    job.schedule();
}

/// Lets others have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
