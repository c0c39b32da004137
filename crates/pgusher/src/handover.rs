//! What follows a take-over: clients and servers go over to the new process, one by one, and the
//! limits of the new one hold for both as long as the old one is there.
//!
//! ```text
//! old  pools, guests, census        all that it has; from now on the heir counts it
//! new  (takes clients in)
//! old  client, its socket           when it is idle, or waits for a server; it is not read any more
//! new  answer                       yes: it is the heir's. No: it stays, and is read again
//! old  server, its socket           when no client there can use it, or one is needed
//! old  left, closed                 what the heir counted is gone
//! old  wanted … new  grant          a client that stays needs one more server
//! new  needed                       the heir's clients wait, and the old process may have idle ones
//! old  enter … new  answer          a client that was logging in when all this began
//! ```
//!
//! When either of them is gone, the other goes on alone.

pub(crate) mod arrival;
pub(crate) mod giving;
mod link;
pub(crate) mod origin;
mod record;
pub(crate) mod successor;
pub(crate) mod taking;
pub(crate) mod visits;

pub(crate) use self::record::VERSION;
