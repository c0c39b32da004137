//! The loop of a thread that tokio runs: its turns are those of one of tokio's tasks.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep};

use crate::event_loop::EventLoop;
use crate::outbox::Sending;
use crate::time::Instant;

/// Gives the thread an event loop beside tokio's, for as long as its local tasks run.
pub fn attach() -> io::Result<()> {
    let guest = Guest::new()?;
    spawn_local(guest.stay());
    Ok(())
}

struct Guest {
    here: Rc<EventLoop>,
    news: AsyncFd<OwnedFd>,
    timer: Pin<Box<Sleep>>,
}

impl Guest {
    fn new() -> io::Result<Self> {
        // What tokio's tasks say would wait for a turn of ours.
        let here = EventLoop::enter(Sending::AtOnce)?;
        let epoll = here.epoll_copy()?;
        #[expect(
            unsafe_code,
            reason = "tokio is told a number, which must stay the same file's"
        )]
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
        let news = unsafe { AsyncFd::register(epoll) }?;
        let timer = Box::pin(sleep(Duration::ZERO));
        Ok(Self { here, news, timer })
    }

    async fn stay(mut self) {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    /// Never ready.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.here.host.replace(Some(cx.waker().clone()));
        // Who wakes a task of ours has to ring: nobody knows when the other loop sleeps.
        if !self.here.mailbox.sleep() {
            cx.waker().wake_by_ref();
        }
        let turn = self.here.turn(false);
        // What runs between two turns has a time of its own.
        Instant::end_turn();
        let Ok(more) = turn else {
            // The kernel does not know its own file any more.
            return Poll::Pending;
        };
        // What has come by now is seen by the turn after this.
        let news = match self.news.poll_read_ready(cx) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                true
            }
            Poll::Ready(Err(_)) | Poll::Pending => false,
        };
        if more || news {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(at) = self.here.next_timer() {
            self.timer.set(sleep(at - Instant::now()));
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        EventLoop::leave();
    }
}
