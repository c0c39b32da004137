//! Which pools have an idle server that something happened to, as their sockets tell.
//!
//! All idle servers of a worker are watched by one task. It may have thousands of them, and is
//! woken for other reasons as often as servers change hands: it looks only at the pools in here.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::key::PoolId;

/// Pools to look at, and the task that will.
#[derive(Debug, Default)]
pub(crate) struct Stirs(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pools: HashSet<PoolId>,
    task: Option<Waker>,
}

/// Wakes the task for the sake of one pool.
#[derive(Debug)]
struct Stir {
    pool: PoolId,
    stirs: Arc<Stirs>,
}

impl Stirs {
    /// What the sockets of a pool's idle servers wake.
    pub(crate) fn waker(self: &Arc<Self>, pool: PoolId) -> Waker {
        let stirs = self.clone();
        Waker::from(Arc::new(Stir { pool, stirs }))
    }

    /// The pools that something happened to since the last time; for those to come, `task` is woken.
    pub(crate) fn take(&self, task: &Waker) -> HashSet<PoolId> {
        let mut inner = self.lock();
        match &mut inner.task {
            Some(known) => known.clone_from(task),
            None => inner.task = Some(task.clone()),
        }
        mem::take(&mut inner.pools)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No invariant spans the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Stir {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut inner = self.stirs.lock();
            inner.pools.insert(self.pool);
            inner.task.clone()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how often the task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_for_a_pool_and_finds_it_once() {
        let (stirs, task) = (Arc::<Stirs>::default(), Arc::<Task>::default());
        let waker = Waker::from(task.clone());
        assert!(stirs.take(&waker).is_empty());

        let sockets = [PoolId(3), PoolId(5)].map(|pool| stirs.waker(pool));
        sockets[0].wake_by_ref();
        sockets[0].wake_by_ref();
        sockets[1].wake_by_ref();

        assert_eq!(task.0.load(Ordering::Relaxed), 3);
        assert_eq!(stirs.take(&waker), HashSet::from([PoolId(3), PoolId(5)]));
        assert!(stirs.take(&waker).is_empty());
    }

    #[test]
    fn what_happens_before_the_task_looks_is_not_lost() {
        let stirs = Arc::<Stirs>::default();
        stirs.waker(PoolId(3)).wake();

        assert_eq!(stirs.take(Waker::noop()), HashSet::from([PoolId(3)]));
    }
}
