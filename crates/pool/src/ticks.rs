//! A beat that wakes its task once each time.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Beats that come as long as it lives.
pub(crate) enum Ticks {
    /// From the kernel's timer. A runtime's own wakes twice for everything that is further ahead than
    /// 64 ms, first to look more closely: a process at rest would wake twice as often as it must.
    Kernel(AsyncFd<OwnedFd>),
    /// From the runtime's, where the kernel has no timer for us.
    Runtime(Interval),
}

impl Ticks {
    /// A beat each `period`, the first at once.
    pub(crate) fn each(period: Duration) -> Self {
        kernel_timer(period).map_or_else(
            |_| {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Self::Runtime(ticks)
            },
            Self::Kernel,
        )
    }

    /// Ready once for all beats that came since the last time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Kernel(timer) => poll_timer(timer, cx),
            Self::Runtime(ticks) => ticks.poll_tick(cx).map(drop),
        }
    }
}

fn kernel_timer(period: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    const AT_ONCE: Duration = Duration::from_nanos(1);
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    let (first, then) = (TimeSpec::from(AT_ONCE), TimeSpec::from(period));
    timer.set(
        Expiration::IntervalDelayed(first, then),
        TimerSetTimeFlags::empty(),
    )?;
    #[expect(unsafe_code, reason = "tokio has no other way to watch a timer")]
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    let registered = unsafe { AsyncFd::register(OwnedFd::from(timer)) };
    Ok(registered?)
}

fn poll_timer(timer: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        // Without its runtime nobody beats any more.
        let Ok(mut ready) = ready!(timer.poll_read_ready(cx)) else {
            return Poll::Pending;
        };
        let mut count = [0; size_of::<u64>()];
        match read(timer, &mut count) {
            Ok(_) => return Poll::Ready(()),
            Err(Errno::EINTR) => {}
            Err(_) => ready.clear_ready(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn beats_come_one_after_the_other_and_the_first_at_once() {
        const PERIOD: Duration = Duration::from_millis(20);
        let started = Instant::now();
        let mut ticks = Ticks::each(PERIOD);
        assert!(matches!(ticks, Ticks::Kernel(_)));
        for beat in 0..5 {
            poll_fn(|cx| ticks.poll(cx)).await;

            assert!(started.elapsed() >= PERIOD * beat);
        }
    }
}
