//! Logging in: clients to us, and us to servers.

mod admission;
mod clients;
mod hba;
mod ldap;
mod pam;
mod peer;
mod secrets;
mod servers;
mod startup;
