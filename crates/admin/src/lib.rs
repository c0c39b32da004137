//! What operators see and say.
//!
//! The console in three steps: [`Console::on_message`] reads what an operator said and either
//! replies by itself or yields a [`Command`]; whoever owns the pooler carries the command out;
//! [`Console::on_outcome`] words the [`Outcome`]. Tables are drawn by [`Show::table`] from a
//! [`Snapshot`](pool::snapshot::Snapshot). Nothing here waits, reads a clock or knows a socket.

mod command;
mod console;
mod denial;
mod health;
mod metrics;
mod outcome;
mod parse;
mod portal;
mod pretended;
mod request;
mod show;
mod status;
mod table;
#[cfg(test)]
mod transcript;

pub use crate::command::{Command, Privilege, ShutdownKind};
pub use crate::console::{Console, Reaction};
pub use crate::health::Readiness;
pub use crate::metrics::{Figures, METRICS_TYPE, Reload, Upkeep, Vitals};
pub use crate::outcome::{CommandError, Outcome};
pub use crate::show::{Difference, SERVER_VERSION, Show, VERSION, View};
pub use crate::status::{History, PERIOD, STATUS_PAGE, STATUS_POLICY, Status};
pub use crate::table::Table;
