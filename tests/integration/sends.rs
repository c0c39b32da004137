//! How bytes leave the pooler: gathered by io_uring, or each send by a call of its own.

use std::fs;

use testkit::{FakeClient, FakeServer, Gate, Login, Pooler, quick_scram_secret};

use crate::support::{alice, before_postgres, client, pgusher, postgres};

/// Rings that a process has.
fn rings(pooler: &Pooler) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", pooler.pid())).unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let is_ring = |target: &std::path::PathBuf| target.to_string_lossy().contains("[io_uring]");
    targets.filter(is_ring).count()
}

#[tokio::test]
async fn workers_send_by_io_uring_where_the_kernel_and_the_setting_allow_it() {
    let postgres = postgres().await;
    let allowed = io_uring::IoUring::new(2).is_ok();
    for (setting, wanted) in [("0", 0), ("1", if allowed { 2 } else { 0 })] {
        let pooler = before_postgres(&postgres, 2).set("io_uring", setting);
        let pooler = pooler.set("verbose", "1").start().await;
        let mut client = alice(&pooler).await;
        assert_eq!(client.query_value("SELECT 6 * 7").await, "42");
        assert_eq!(rings(&pooler), wanted, "io_uring = {setting}");
        let told = if wanted > 0 {
            "io_uring: on"
        } else {
            "io_uring: off"
        };
        pooler.wait_for_log_count(told, 2).await;
    }
}

#[tokio::test]
async fn answers_and_questions_of_every_size_arrive_whole_whichever_way_they_are_sent() {
    let postgres = postgres().await;
    for setting in ["0", "1"] {
        let pooler = before_postgres(&postgres, 2).set("io_uring", setting);
        let pooler = pooler.start().await;
        let talks = ["alice", "bob", "carol", "alice"].map(async |user| {
            let mut client = client(&pooler, user).await;
            for len in [1, 100, 4_000, 4_096, 4_200, 70_000, 3_000_000, 5] {
                let letter = &user[..1];
                let told = client
                    .query_value(&format!("SELECT repeat('{letter}', {len})"))
                    .await;
                assert!(told == letter.repeat(len), "{user} {len}");
                let said = format!("SELECT length('{}')", letter.repeat(len));
                assert_eq!(client.query_value(&said).await, len.to_string());
            }
            client.close().await;
        });
        let [one, two, three, four] = talks;
        tokio::join!(one, two, three, four);
    }
}

#[tokio::test]
async fn a_client_hears_our_proof_before_it_waits_for_a_server() {
    for setting in ["0", "1"] {
        let door = Gate::closed();
        let fake = FakeServer::start().await;
        fake.set_login(Login::Behind(door.clone()));
        let pooler = pgusher(2)
            .database("shop", &format!("{} user=usher", fake.conn_info("shop")))
            .user("alice", &quick_scram_secret("right"))
            .set("auth_type", "scram-sha-256")
            .set("io_uring", setting)
            .start()
            .await;
        let mut waiting = FakeClient::connect(&pooler.address()).await;
        let hello = [("user", "alice"), ("database", "shop")];
        waiting.startup(&hello).await;
        waiting.answer_scram("right").await;
        door.open();
        waiting.read_auth_ok().await;
        waiting.read_welcome().await;

        // And before it is told that there is nothing for it.
        let mut lost = FakeClient::connect(&pooler.address()).await;
        lost.startup(&[("user", "alice"), ("database", "nowhere")])
            .await;
        lost.answer_scram("right").await;
        let error = lost.expect_error().await;
        assert_eq!(error.text(), "no such database: nowhere");
    }
}
