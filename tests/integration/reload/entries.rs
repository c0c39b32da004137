//! What entries of databases and users do when RELOAD brings them, or takes them away.

use testkit::FakeServer;

use super::effects::{Scene, knowing};
use crate::support::{alice, before};

/// How an entry is seen to act.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// How many servers four clients get.
    Seats,
    /// How many there are for a client who asks for nothing.
    Minimum,
    /// How many a client keeps between two transactions.
    Kept,
    /// How a login goes while another client is there.
    SecondLogin,
    /// What is asked about somebody unknown.
    AuthQuery,
    /// By whom.
    AuthUser,
    /// And where.
    AuthDbname,
    /// What a new server hears first.
    FirstQuery,
    /// What this was at a new server's login.
    Parameter(&'static str),
}

/// What may be said of a database, and what is seen without and with it.
const DATABASE: [(&str, Look, [&str; 2]); 14] = [
    (
        "application_name=till",
        Look::Parameter("application_name"),
        ["none", "till"],
    ),
    ("auth_dbname=aside", Look::AuthDbname, ["app", "aside"]),
    (
        "auth_query='LOOK AGAIN $1'",
        Look::AuthQuery,
        ["LOOK $1", "LOOK AGAIN $1"],
    ),
    ("auth_user=bob", Look::AuthUser, ["alice", "bob"]),
    (
        "client_encoding=LATIN1",
        Look::Parameter("client_encoding"),
        ["none", "LATIN1"],
    ),
    (
        "connect_query='SELECT open'",
        Look::FirstQuery,
        ["SELECT 1", "SELECT open"],
    ),
    (
        "datestyle=German",
        Look::Parameter("datestyle"),
        ["none", "German"],
    ),
    (
        "max_db_client_connections=1",
        Look::SecondLogin,
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_db_client_connections)",
        ],
    ),
    ("max_db_connections=2", Look::Seats, ["3", "2"]),
    ("min_pool_size=3", Look::Minimum, ["1", "3"]),
    ("pool_mode=session", Look::Kept, ["0", "1"]),
    ("pool_size=2", Look::Seats, ["3", "2"]),
    ("reserve_pool_size=1", Look::Seats, ["3", "4"]),
    (
        "timezone=Asia/Tokyo",
        Look::Parameter("timezone"),
        ["none", "Asia/Tokyo"],
    ),
];

/// The same of a user.
const USER: [(&str, Look, [&str; 2]); 5] = [
    (
        "max_user_client_connections=1",
        Look::SecondLogin,
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_user_client_connections)",
        ],
    ),
    ("max_user_connections=2", Look::Seats, ["3", "2"]),
    ("pool_mode=session", Look::Kept, ["0", "1"]),
    ("pool_size=2", Look::Seats, ["3", "2"]),
    ("reserve_pool_size=1", Look::Seats, ["3", "4"]),
];

async fn scene() -> Scene {
    let fake = knowing().await;
    let pooler = before(&fake, 3)
        .database("aside", &fake.conn_info("aside"))
        .set("auth_query", "LOOK $1")
        .set("auth_user", "alice")
        .set("default_pool_size", 3)
        .set("reserve_pool_timeout", 0.1)
        .start()
        .await;
    let console = pooler.console().await;
    Scene {
        pooler,
        fake,
        console,
    }
}

/// The last server that was opened for the database `app`.
fn newest(fake: &FakeServer) -> std::sync::Arc<testkit::Connection> {
    let mut servers = fake.connections();
    servers.retain(|server| server.parameter("database") == Some("app"));
    servers.pop().unwrap()
}

/// What is seen, by clients who are gone afterwards, if it is to be this.
async fn seen(scene: &Scene, look: Look, expected: &str) -> String {
    let number = || expected.parse().unwrap();
    let seen = match look {
        Look::Seats => scene.seats(number()).await,
        Look::Minimum => scene.minimum(number()).await,
        Look::Kept => scene.kept().await,
        Look::SecondLogin => scene.second_login().await,
        Look::AuthQuery => scene.question("auth_query").await,
        Look::AuthUser => scene.question("auth_user").await,
        Look::AuthDbname => scene.question("auth_dbname").await,
        Look::FirstQuery => {
            alice(&scene.pooler).await.query("SELECT 1").await;
            newest(&scene.fake).queries()[0].clone()
        }
        Look::Parameter(name) => {
            alice(&scene.pooler).await.query("SELECT 1").await;
            let server = newest(&scene.fake);
            server.parameter(name).unwrap_or("none").to_owned()
        }
    };
    scene.are_gone().await;
    seen
}

#[tokio::test]
async fn what_is_said_of_a_database_holds_from_the_reload_on() {
    for (words, look, [without, with]) in DATABASE {
        let mut scene = scene().await;
        let bare = scene.fake.conn_info("app");
        let full = format!("{bare} {words}");
        for (conn_info, expected) in [(&bare, without), (&full, with), (&bare, without)] {
            scene
                .pooler
                .rewrite(|setup| setup.database("app", conn_info));
            scene.console.run("RELOAD").await;
            assert_eq!(seen(&scene, look, expected).await, expected, "{conn_info}");
        }
    }
}

#[tokio::test]
async fn what_is_said_of_a_user_holds_from_the_reload_on() {
    for (words, look, [without, with]) in USER {
        let mut scene = scene().await;
        assert_eq!(
            seen(&scene, look, without).await,
            without,
            "without {words}"
        );
        let section = format!("[users]\nalice = {words}\n");
        scene.pooler.rewrite(|setup| setup.section(&section));
        scene.console.run("RELOAD").await;
        assert_eq!(seen(&scene, look, with).await, with, "{words}");
    }
}
