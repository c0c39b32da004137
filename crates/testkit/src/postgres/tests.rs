//! PostgreSQL starts, answers, breaks and comes back as asked.

use super::*;
use crate::{FakeClient, eventually};

#[tokio::test]
async fn a_server_asks_for_what_each_user_has() {
    let postgres = Postgres::start().await;
    postgres.create_database("app").await;
    postgres.create_user("scram", "secret").await;
    postgres.create_md5_user("md5", "secret").await;
    postgres.create_plain_user("plain", "secret").await;
    postgres.create_trusted_user("trusted").await;
    let at = postgres.address();

    let mut clients = [
        FakeClient::login_scram(&at, "scram", "secret", "app").await,
        FakeClient::login_md5(&at, "md5", "secret", "app").await,
        FakeClient::login_plain(&at, "plain", "secret", "app").await,
        FakeClient::login_trust(&at, "trusted", "app").await,
    ];
    for client in &mut clients {
        assert_eq!(client.query_value("SELECT current_database()").await, "app");
    }
    assert_eq!(postgres.sessions_of("md5").await, 1);
}

#[tokio::test]
async fn a_server_comes_back_on_its_port_with_its_data() {
    let mut postgres = Postgres::start().await;
    postgres
        .run("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        .await;

    postgres.restart().await;
    postgres.kill_9().await;
    postgres.start_again().await;
    postgres.stop_fast().await;
    postgres.start_again().await;

    let admin = postgres.admin_client().await;
    assert_eq!(
        admin
            .query_one("SELECT n FROM kept", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        1
    );
}

#[tokio::test]
async fn a_paused_server_answers_after_it_goes_on() {
    let mut postgres = Postgres::start().await;
    let admin = postgres.admin_client().await;
    let family = postgres.family();

    postgres.pause();
    eventually("all processes to stand still", || {
        // A session of before may have ended meanwhile.
        family
            .iter()
            .all(|&pid| matches!(state(pid), None | Some('T' | 'Z')))
    })
    .await;
    let asked = tokio::spawn(async move { admin.query_one("SELECT 1", &[]).await.is_ok() });
    postgres.cont();

    assert!(asked.await.unwrap());
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn nothing_is_left_of_a_server() {
    let postgres = Postgres::start().await;
    let (dir, pid) = (postgres.socket_dir().to_owned(), postgres.process.pid());

    drop(postgres);

    assert!(!dir.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
