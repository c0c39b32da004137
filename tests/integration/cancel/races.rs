//! Cancel requests that race with the queries they are meant for.

use testkit::{Address, FakeClient, Message};
use tokio::task::JoinSet;

use super::CANCELED;
use crate::support::{WORKERS, alice, before_postgres, postgres, servers_opened};

/// Cancel requests at short queries, per client, and such clients.
const RACES: usize = 25;
const RACERS: usize = 5;

#[tokio::test]
async fn racing_cancels_never_hit_a_query_that_nobody_cancelled() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 3)
            .start()
            .await;
        let mut racers = JoinSet::new();
        for number in 0..RACERS {
            racers.spawn(race(pooler.address(), alice(&pooler).await, number));
        }
        let mut bystanders = JoinSet::new();
        for number in 0..10 {
            bystanders.spawn(stand_by(alice(&pooler).await, number));
        }
        let hits: usize = tokio::select! {
            hits = racers.join_all() => hits.into_iter().sum(),
            Some(harmed) = bystanders.join_next() => panic!("{harmed:?}"),
        };
        assert!(hits >= RACERS);
        assert!(servers_opened(&pooler).await <= 3);
    }
}

/// Runs queries that nobody cancels, for ever: each must bring its own tag.
async fn stand_by(mut client: FakeClient, number: usize) {
    for round in 0.. {
        let tag = format!("bystander {number}, {round}");
        let sql = format!("SELECT '{tag}' FROM pg_sleep(0.001)");
        assert_eq!(client.query_value(&sql).await, tag);
    }
}

/// Runs short queries, cancelled at any moment, and a long one, cancelled until it is hit.
/// Returns how many were hit.
async fn race(address: Address, mut client: FakeClient, number: usize) -> usize {
    let key = client.cancel_key().clone();
    // Servers that change hands are given each client's own name first: not for cancels to hit.
    let own_name = format!("SET application_name = 'racer {number}'");
    client.query(&own_name).await;
    let mut hits = 0;
    for round in 0..RACES {
        let tag = format!("racer {number}, {round}");
        let sql = format!("SELECT '{tag}' FROM pg_sleep(0.002)");
        let (answer, ()) = tokio::join!(client.query(&sql), FakeClient::cancel(&address, &key));
        hits += usize::from(was_hit(&answer, &tag));
    }
    client
        .send(Message::query("SELECT 'long' FROM pg_sleep(600)"))
        .await;
    let cancels = async {
        loop {
            FakeClient::cancel(&address, &key).await;
        }
    };
    let answer = tokio::select! {
        answer = client.read_until_ready() => answer,
        () = cancels => unreachable!("it goes on for ever"),
    };
    hits + usize::from(was_hit(&answer, "long"))
}

/// Was the query cancelled? If not, it brings its tag, and any other error is one too many.
fn was_hit(answer: &[Message], tag: &str) -> bool {
    let error = answer.iter().filter(|message| message.tag == b'E');
    match error.filter_map(Message::error_fields).next() {
        Some(error) if error.code() == CANCELED => true,
        Some(error) => panic!("{error}"),
        None => {
            let values = answer.iter().find_map(Message::values);
            assert_eq!(values, Some(vec![Some(tag.to_owned())]));
            false
        }
    }
}
