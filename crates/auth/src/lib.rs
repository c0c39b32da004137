//! Who are you, and how is it proven.
//!
//! Nothing here waits, reads a clock or panics on what a peer sends. Work that takes milliseconds is
//! handed out as a [`Job`] for the caller to run where it holds nobody up.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used
    )
)]

pub mod acceptor;
pub mod derive;
pub mod hba;
pub mod ident;
pub mod initiator;
pub mod ldap;
pub mod lines;
pub mod md5;
pub mod random;
pub mod scram;
pub mod secret;
pub mod userlist;

#[cfg(test)]
extern crate self as auth;

#[cfg(test)]
mod corpus;

pub use acceptor::{
    Acceptor, Challenge, Identity, Known, Refusal, ScramPolicy, Step, read_password,
};
pub use derive::{Derived, Job};
pub use hba::{Hba, Method, Origin, Visitor};
pub use ident::Ident;
pub use initiator::{Credentials, Initiator, LoginError, Reply};
pub use ldap::LdapOptions;
pub use md5::Md5Secret;
pub use random::{Entropy, Nonce, SaltKey};
pub use scram::{ChannelBinding, ScramKeys, Verifier};
pub use secret::{Password, Secret};
pub use userlist::Userlist;
