//! Pools whose clients wait for servers of their own worker, before others are asked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;

use events::time::{Instant, wake_at};

use crate::key::PoolId;
use crate::state::HOME_PATIENCE;

/// The pools of one worker that have patience, and until when: the first to lose it first. There is
/// one timer for all of them.
#[derive(Debug, Default)]
pub struct Patience {
    until: RefCell<VecDeque<(Instant, PoolId)>>,
    /// Who looks after them.
    keeper: RefCell<Option<Waker>>,
    /// Whether the keeper is woken for the first of them.
    is_timed: Cell<bool>,
}

impl Patience {
    /// A pool has patience from now on, which [`Self::over`] ends.
    pub(crate) fn begin(&self, pool: PoolId, now: Instant) {
        self.until
            .borrow_mut()
            .push_back((now + HOME_PATIENCE, pool));
        self.set_timer();
    }

    /// A pool that has had patience long enough; `None`: the keeper is woken for the next.
    pub(crate) fn over(&self, keeper: &Waker, now: Instant) -> Option<PoolId> {
        let mut until = self.until.borrow_mut();
        if let Some((_, pool)) = until.pop_front_if(|(until, _)| *until <= now) {
            self.is_timed.set(false);
            return Some(pool);
        }
        drop(until);
        let mut known = self.keeper.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(keeper)) {
            *known = Some(keeper.clone());
        }
        drop(known);
        self.set_timer();
        None
    }

    fn set_timer(&self) {
        if let (Some((first, _)), Some(keeper)) =
            (self.until.borrow().front(), &*self.keeper.borrow())
            && !self.is_timed.replace(true)
        {
            wake_at(*first, keeper);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    use super::*;

    /// Waits until so many have lost it.
    async fn losing(patience: &Patience, count: usize) -> Vec<PoolId> {
        let mut lost = Vec::new();
        poll_fn(|cx| {
            while let Some(pool) = patience.over(cx.waker(), Instant::now()) {
                lost.push(pool);
            }
            match lost.len() == count {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        lost
    }

    #[test]
    fn each_pool_loses_it_after_a_while_and_in_turn() {
        let lost = events::run(events::Sending::Gathered, async {
            let patience = Rc::new(Patience::default());
            // Before anybody looks, and while somebody does.
            patience.begin(PoolId(3), Instant::now());
            let later = patience.clone();
            events::spawn(async move {
                let begun = Instant::now();
                later.begin(PoolId(5), begun);
                later.begin(PoolId(7), begun + HOME_PATIENCE);
            });
            let started = Instant::now();
            let mut lost = losing(&patience, 3).await;
            assert!(started.elapsed() >= HOME_PATIENCE * 2);
            // The timer that was set for the last is no hindrance to the next.
            patience.begin(PoolId(9), Instant::now());
            lost.extend(losing(&patience, 1).await);
            lost
        });
        assert_eq!(lost.unwrap(), [3, 5, 7, 9].map(PoolId));
    }
}
