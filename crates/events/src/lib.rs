//! The event loop of one thread: its tasks, its timers, and which of its sockets are ready.
//!
//! A worker has one of its own ([`run`]): there is one call of the kernel's for all that happens,
//! and between that and a session stand no lock and no second scheduler. Tasks never leave their
//! thread; whoever wakes one from another thread puts it into a mailbox. On a thread that tokio runs,
//! the loop is tokio's [`attach`]ed guest.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod event_loop;
mod guest;
mod mailbox;
mod outbox;
mod socket;
mod source;
mod tasks;
pub mod time;

pub use event_loop::{busy_time, run};
pub use guest::attach;
pub use outbox::{Sending, sends_gathered};
pub use socket::Socket;
pub use source::Watch;
pub use tasks::{spawn, spawn_patient, yield_now};
