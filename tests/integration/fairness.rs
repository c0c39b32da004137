//! Who waits longer is served earlier, and nobody is forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{FakeServer, Message, Pooler};

use crate::support::{WORKERS, before, client, clients, wait_for_waiting};

/// How much earlier a client of another worker must have come to go first.
const PATIENCE: Duration = Duration::from_millis(5);

/// When a client asked: not before the one, and not after the other.
type Came = (Instant, Instant);

/// Has twenty clients wait for one seat, one after the other, with a pause in the middle, and returns
/// in which order they got it: 0 is who came first; and when each came.
async fn order_of_service(workers: u32) -> (Vec<usize>, Vec<Came>) {
    let server = FakeServer::start().await;
    let pooler = before(&server, workers)
        .set("default_pool_size", 1)
        .start()
        .await;
    let [mut holder] = clients(&pooler).await;
    let mut waiters = clients::<20>(&pooler).await;
    let door = server.gate("door");

    holder.send(Message::query("HOLD door")).await;
    door.wait_for_waiting(1).await;
    let mut came = Vec::new();
    for (place, waiter) in waiters.iter_mut().enumerate() {
        if place == 10 {
            // It is this time itself that tells the ones from the others.
            tokio::time::sleep(2 * PATIENCE).await;
        }
        let sent = Instant::now();
        waiter
            .send(Message::query(&format!("SELECT {place}")))
            .await;
        wait_for_waiting(&pooler, place as i64 + 1).await;
        came.push((sent, Instant::now()));
    }
    door.open();
    for waiter in &mut waiters {
        waiter.read_until_ready().await;
    }

    let queries = server.connection(0).await.queries();
    let served = queries[1..]
        .iter()
        .map(|sql| sql["SELECT ".len()..].parse().unwrap());
    (served.collect(), came)
}

/// Who was served before somebody who came earlier: both, the one who overtook first.
fn overtakes(order: &[usize]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (place, &who) in order.iter().enumerate() {
        let overtaken = order[place + 1..].iter().filter(|&&later| later < who);
        pairs.extend(overtaken.map(|&overtaken| (who, overtaken)));
    }
    pairs
}

#[test]
fn overtakes_are_found_pair_by_pair() {
    assert_eq!(overtakes(&[0, 1, 2, 3]), []);
    assert_eq!(overtakes(&[1, 0, 2, 3]), [(1, 0)]);
    assert_eq!(overtakes(&[2, 1, 0]), [(2, 1), (2, 0), (1, 0)]);
}

#[tokio::test]
async fn one_worker_serves_clients_exactly_in_the_order_they_came() {
    assert_eq!(order_of_service(1).await.0, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn three_workers_let_nobody_overtake_who_came_much_earlier() {
    let (order, came) = order_of_service(3).await;

    let mut served = order.clone();
    served.sort_unstable();
    assert_eq!(served, (0..20).collect::<Vec<_>>());
    for (who, overtaken) in overtakes(&order) {
        let earlier = came[who].0.saturating_duration_since(came[overtaken].1);
        assert!(earlier <= PATIENCE, "{who} before {overtaken}: {order:?}");
    }
    assert!(order[..10].iter().all(|&who| who < 10), "{order:?}");
}

/// Has so many clients ask without a pause until so many queries are answered, and returns how
/// many of them each client had.
async fn shares(pooler: &Pooler, clients: usize, queries: usize) -> Vec<usize> {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut crowd = Vec::new();
    for _ in 0..clients {
        crowd.push(client(pooler, "alice").await);
    }
    let busy = crowd.into_iter().map(|mut client| {
        let answered = answered.clone();
        tokio::spawn(async move {
            let mut own = 0;
            while answered.fetch_add(1, Ordering::Relaxed) < queries {
                client.query("SELECT 1").await;
                own += 1;
            }
            own
        })
    });
    let mut shares = Vec::new();
    for client in busy.collect::<Vec<_>>() {
        shares.push(client.await.unwrap());
    }
    shares
}

#[tokio::test]
async fn sixty_clients_on_three_seats_are_served_alike() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 3)
            .start()
            .await;

        let shares = shares(&pooler, 60, 6_000).await;

        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most <= &(2 * least), "{workers} workers: {shares:?}");
        assert_eq!(server.logged_in_max(), 3);
    }
}

#[tokio::test]
async fn a_worker_without_a_server_of_its_own_gets_its_turns() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 3).set("default_pool_size", 1).start().await;

    // Three clients, each on its own worker, want the only seat all the time.
    let shares = shares(&pooler, 3, 600).await;

    let least = shares.iter().min().unwrap();
    assert!(*least >= 100, "{shares:?}");
}

#[tokio::test]
async fn who_leaves_the_line_is_passed_over() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut holder, mut leaves, mut stays] = clients(&pooler).await;
        holder.query("BEGIN").await;
        leaves.send(Message::query("SELECT 'left'")).await;
        wait_for_waiting(&pooler, 1).await;
        stays.send(Message::query("SELECT 'stayed'")).await;
        wait_for_waiting(&pooler, 2).await;

        leaves.reset();
        wait_for_waiting(&pooler, 1).await;
        holder.query("COMMIT").await;
        stays.read_until_ready().await;

        let queries = server.connection(0).await.queries();
        assert_eq!(queries, ["BEGIN", "COMMIT", "SELECT 'stayed'"]);
    }
}
