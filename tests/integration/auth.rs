//! Logging in: clients to us, and us to servers.

mod admission;
mod clients;
mod hba;
mod peer;
mod secrets;
mod servers;
mod startup;
