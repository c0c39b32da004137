//! Logging in: clients to us, and us to servers.

mod admission;
mod clients;
mod queries;
mod secrets;
mod servers;
mod startup;
