//! Logging in: clients to us, and us to servers.

mod admission;
mod clients;
mod hba;
mod hba_and_query;
mod hostile_clients;
mod hostile_servers;
mod ldap;
mod pam;
mod peer;
mod queries;
mod query_places;
mod query_storms;
mod secret_files;
mod secrets;
mod servers;
mod startup;
