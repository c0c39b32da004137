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

use testkit::Pooler;

use self::clients::asked;
use crate::support::{outcome, outcome_over_unix};

/// Somebody other than us judges what clients type, and servers hear it, too.
async fn typed_passwords_count(pooler: &Pooler, over_unix: &str, refused: &str) {
    assert_eq!(asked(&pooler.address(), "alice", "app").await, "password");
    // No file knows alice, and PostgreSQL wants to see a password.
    let alice = pooler.connect("alice", "secret", "app").await;
    let row = alice.simple_query("SELECT current_user").await;
    assert!(format!("{row:?}").contains("alice"));
    let over_unix = outcome_over_unix(pooler, over_unix, "secret", "app").await;
    assert_eq!(over_unix, "in");

    let login = async |user, password, database| outcome(pooler, user, password, database).await;
    assert_eq!(login("alice", "wrong", "app").await, refused);
    assert_eq!(login("nobody", "secret", "app").await, refused);
    // Servers let those without a password in, as nobody in particular.
    let empty = "FATAL 08P01 empty password returned by client";
    assert_eq!(login("alice", "", "app").await, empty);
    // What does not exist is told behind the door only.
    assert_eq!(login("alice", "wrong", "nowhere").await, refused);
    let told = login("alice", "secret", "nowhere").await;
    assert_eq!(told, "FATAL 08P01 no such database: nowhere");
}
