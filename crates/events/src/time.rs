//! Waiting for a moment.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use self::instant::Instant;
use crate::event_loop::EventLoop;

mod instant;

/// Who waits for which moment; those of one moment in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<Place, Waker>,
    count: u64,
}

type Place = (Instant, u64);

impl Timers {
    fn insert(&mut self, at: Instant, waker: &Waker) -> Place {
        self.count += 1;
        let place = (at, self.count);
        self.waiting.insert(place, waker.clone());
        place
    }

    /// The next moment that somebody waits for.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes those whose moment has come.
    pub(crate) fn fire(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first_entry() {
            if first.key().0 > now {
                return;
            }
            first.remove().wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Waits so long.
pub fn sleep(duration: Duration) -> Sleep {
    // Nobody lives to see the difference.
    const LONG: Duration = Duration::from_secs(100 * 365 * 86_400);
    sleep_until(Instant::now() + duration.min(LONG))
}

/// Waits until then.
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, place: None }
}

/// Wakes a task at that moment; there is no taking it back.
pub fn wake_at(at: Instant, waker: &Waker) {
    let home = EventLoop::here();
    home.timers.borrow_mut().insert(at, waker);
    home.call_host();
}

/// Ready from a moment on, not more than a millisecond late on an idle thread.
pub struct Sleep {
    at: Instant,
    place: Option<(Place, Rc<EventLoop>)>,
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sleep").field(&self.at).finish()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((place, home)) = &self.place {
            return match home.timers.borrow_mut().waiting.get_mut(place) {
                Some(waker) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            };
        }
        // Timers go by the same time.
        if self.at <= Instant::of_turn() {
            return Poll::Ready(());
        }
        let home = EventLoop::here();
        let place = home.timers.borrow_mut().insert(self.at, cx.waker());
        home.call_host();
        self.place = Some((place, home));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((place, home)) = self.place.take() {
            let waker = home.timers.borrow_mut().waiting.remove(&place);
            // Not before the timers can be borrowed again.
            drop(waker);
        }
    }
}

/// It took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

/// Gives a future so much time.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(limit));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// A beat that is ready once for all beats that came since the last time.
#[derive(Debug)]
pub struct Ticks {
    period: Duration,
    next: Sleep,
}

impl Ticks {
    /// A beat each `period`, the first at once.
    pub fn each(period: Duration) -> Self {
        let next = sleep_until(Instant::now());
        Self { period, next }
    }

    /// Ready at the next beat.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(Pin::new(&mut self.next).poll(cx));
        let mut next = self.next.at + self.period;
        let now = Instant::now();
        if next <= now {
            next = now + self.period;
        }
        self.next = sleep_until(next);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;
    use crate::{Sending, run, spawn};

    #[test]
    fn whoever_waits_is_woken_in_the_order_of_the_moments() {
        let order = run(Sending::Gathered, async {
            // By when all are waiting.
            let start = Instant::now() + Duration::from_secs(1);
            let then = |wait| start + Duration::from_millis(wait);
            let order = Rc::new(RefCell::new(Vec::new()));
            for wait in [30, 10, 20, 0] {
                let (order, at) = (order.clone(), then(wait));
                spawn(async move {
                    sleep_until(at).await;
                    order.borrow_mut().push(wait);
                });
            }
            sleep_until(then(40)).await;
            order.take()
        });
        assert_eq!(order.unwrap(), [0, 10, 20, 30]);
    }

    #[test]
    fn what_takes_too_long_is_given_up_and_what_is_ready_is_not() {
        run(Sending::Gathered, async {
            let never = timeout(Duration::from_millis(5), std::future::pending::<()>());
            assert_eq!(never.await, Err(Elapsed));
            let at_once = timeout(Duration::ZERO, std::future::ready(7));
            assert_eq!(at_once.await, Ok(7));
            let here = EventLoop::here();
            let before = here.timers.borrow().waiting.len();
            let in_time = timeout(Duration::from_secs(3600), sleep(Duration::from_millis(1)));
            assert_eq!(in_time.await, Ok(()));
            assert_eq!(here.timers.borrow().waiting.len(), before);
        })
        .unwrap();
    }

    #[test]
    fn beats_come_one_after_the_other_and_the_first_at_once() {
        const PERIOD: Duration = Duration::from_millis(20);
        run(Sending::Gathered, async {
            let started = Instant::now();
            let mut ticks = Ticks::each(PERIOD);
            for beat in 0..5 {
                poll_fn(|cx| ticks.poll(cx)).await;

                assert!(started.elapsed() >= PERIOD * beat);
            }
        })
        .unwrap();
    }
}
