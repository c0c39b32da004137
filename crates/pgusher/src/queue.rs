//! Work that takes its time, off the workers: so many at once, and the others in line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::process::Counted;

/// Threads that one kind of work may hold at a time.
const AT_ONCE: usize = 32;

/// The line for one kind of work. Who stands in it is a login, and there are never more of those
/// than `max_client_conn`, nor for longer than `client_login_timeout`.
pub(crate) struct Queue {
    name: &'static str,
    free: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
}

impl Queue {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            free: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::default(),
        }
    }

    /// Does the work on a thread of its own as soon as there is one. Who gives up meanwhile leaves
    /// the line; but work that has begun keeps its thread to the end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        let work = move || {
            let _permit = permit;
            work()
        };
        spawn_blocking(work).await.map_err(io::Error::other)
    }

    async fn wait(&self) -> io::Result<OwnedSemaphorePermit> {
        let _place = Counted::new(self.waiting.clone());
        let waiting = self.waiting.load(Ordering::SeqCst);
        // Once for each doubling: a storm of logins is not to become one of log lines.
        if waiting.is_power_of_two() {
            tracing::warn!("{} queue is full, {waiting} logins wait", self.name);
        }
        let permit = self.free.clone().acquire_owned();
        permit.await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn no_more_work_runs_at_once_than_there_are_places() {
        let queue = Arc::new(Queue::new("test"));
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        let mut tasks = Vec::new();
        for _ in 0..AT_ONCE + 2 {
            let (queue, begun, ends) = (queue.clone(), begun.clone(), ends.clone());
            tasks.push(tokio::spawn(async move {
                let work = move || {
                    begun.send(()).unwrap();
                    ends.lock().unwrap().recv().unwrap();
                };
                queue.run(work).await.unwrap();
            }));
        }
        // All that can are running, or about to, once the others stand in line.
        while queue.waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        for _ in 0..AT_ONCE {
            begins.recv().unwrap();
        }
        assert!(begins.try_recv().is_err());

        // Whoever gives up leaves the line, and whoever is left has its turn.
        tasks.pop().unwrap().abort();
        while queue.waiting.load(Ordering::SeqCst) > 1 {
            tokio::task::yield_now().await;
        }
        for _ in 0..=AT_ONCE {
            end.send(()).unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(begins.try_iter().count(), 1);
        assert_eq!(queue.waiting.load(Ordering::SeqCst), 0);
    }
}
