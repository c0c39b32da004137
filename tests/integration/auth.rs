//! Logging in: clients to us, and us to servers.

mod admission;
mod clients;
mod queries;
mod query_places;
mod query_storms;
mod secret_files;
mod secrets;
mod servers;
mod startup;
