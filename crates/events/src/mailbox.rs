//! How other threads wake a thread's tasks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::tasks::Job;

/// Tasks that were woken from elsewhere.
#[derive(Debug)]
pub(crate) struct Mailbox {
    jobs: Mutex<Vec<Job>>,
    /// Whether there may be some.
    full: AtomicBool,
    /// Whether the thread sleeps, or is about to: then the bell has to be rung.
    asleep: AtomicBool,
    bell: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            jobs: Mutex::default(),
            full: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// What rings; nobody reads it, since each ring is an event.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// From any thread.
    pub(crate) fn send(&self, job: Job) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push(job);
        self.full.store(true, Ordering::SeqCst);
        drop(jobs);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It can't fail but for a count that is full, which rings as well.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Takes all that is there.
    pub(crate) fn empty(&self) -> Vec<Job> {
        if !self.full.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::SeqCst);
        std::mem::take(&mut *jobs)
    }

    /// The thread is about to sleep; false if it may not.
    pub(crate) fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever came before that did not ring.
        let may = !self.full.load(Ordering::SeqCst);
        if !may {
            self.wake();
        }
        may
    }

    /// The thread is awake.
    pub(crate) fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
