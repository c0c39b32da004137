//! What still comes for a COPY that failed takes no server from others, and none too long.

use testkit::{Ask, FakeServer, FakeServerSetup, Gate, Message, Step, Tx, transcript};

use super::{INTO, data, done, extended, postgres_with_numbers, query, sync};
use crate::support::{
    WORKERS, Witnesses, alice, before, before_postgres, converse, servers_opened, wait_for_waiting,
};

/// A server whose COPY fails when the gate opens, whatever it was sent.
fn failing_copy(gate: &Gate) -> FakeServerSetup {
    let gate = gate.clone();
    FakeServer::setup().answer(move |ask: Ask| {
        let fails = (ask.sql == INTO).then(|| {
            let begins = Step::Send(Message::copy_in_response());
            let error = Message::error("ERROR", "22P02", "no number");
            vec![begins, Step::Wait(gate.clone()), Step::Send(error)]
        });
        async { fails }
    })
}

#[tokio::test]
async fn what_comes_late_for_a_failed_copy_takes_no_server() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let server = failing_copy(&gate).start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut late, mut next) = (alice(&pooler).await, alice(&pooler).await);
        late.send(query(INTO)).await;
        late.read_until(b'G').await;
        gate.open();
        assert_eq!(late.expect_error().await.code(), "22P02");
        late.read_until_ready().await;

        next.query("BEGIN").await;
        late.send_all(&[data("1\n"), data("2\n"), done()]).await;
        late.send(Message::copy_fail("enough")).await;
        late.send(query("SELECT late")).await;
        next.query("COMMIT").await;
        let answer = late.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("late".into())]));
        let said = transcript(&server.connection(0).await.received());
        assert!(!said.contains("Copy"), "{said}");
    }
}

#[tokio::test]
async fn what_comes_late_in_a_session_goes_nowhere() {
    for workers in WORKERS {
        let gate = Gate::closed();
        gate.open();
        let server = failing_copy(&gate).start().await;
        let pooler = before(&server, workers)
            .set("pool_mode", "session")
            .start()
            .await;
        let mut late = alice(&pooler).await;
        late.query(INTO).await;
        late.send_all(&[data("1\n"), Message::flush(), done()])
            .await;
        assert_eq!(late.query_value("SELECT late").await, "late");
        let said = transcript(&server.connection(0).await.received());
        assert!(!said.contains("Copy") && !said.contains("Flush"), "{said}");
    }
}

#[tokio::test]
async fn half_a_message_for_a_failed_copy_keeps_the_server_until_it_is_whole() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let server = failing_copy(&gate).start().await;
        let pooler = before(&server, workers)
            .database("aside", &server.conn_info("app"))
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut late, mut next) = (alice(&pooler).await, alice(&pooler).await);
        let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;
        let piece = data("12345678\n").encode();
        late.send(query(INTO)).await;
        late.read_until(b'G').await;
        late.send_raw(&piece[..8]).await;
        gate.wait_for_waiting(1).await;
        witnesses.look().await;
        gate.open();
        late.read_until_ready().await;

        next.send(query("SELECT next")).await;
        wait_for_waiting(&pooler, 1).await;
        late.send_raw(&piece[8..]).await;
        let answer = next.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("next".into())]));
    }
}

#[tokio::test]
async fn an_error_of_an_extended_copy_keeps_the_server_until_the_sync() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let server = failing_copy(&gate).start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        copying.send_all(&extended(INTO)).await;
        copying.send(Message::flush()).await;
        gate.open();
        assert_eq!(copying.expect_error().await.code(), "22P02");
        next.send(query("SELECT next")).await;
        wait_for_waiting(&pooler, 1).await;

        copying.send_all(&[data("2\n"), done(), sync()]).await;
        assert_eq!(copying.read().await, Message::ready(Tx::Idle));
        let answer = next.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("next".into())]));
    }
}

#[tokio::test]
async fn a_server_that_may_owe_more_than_we_know_is_asked_before_it_is_lent() {
    // From outside nobody can tell whether the COPY took the first Sync, or failed before it.
    let bad = || data("x\n");
    let ends = [
        (vec![sync(), bad(), done(), sync()], 1),
        (vec![bad(), sync(), done(), sync()], 2),
        (vec![bad(), sync(), Message::copy_fail("enough"), sync()], 2),
    ];
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        for (end, readies) in &ends {
            let pooler = before_postgres(&postgres, workers)
                .set("default_pool_size", 1)
                .start()
                .await;
            let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
            copying.send_all(&extended(INTO)).await;
            copying.send(Message::flush()).await;
            copying.read_until(b'G').await;
            let answer = converse(&mut copying, end, *readies).await;
            assert!(transcript(&answer).contains("22P02"));

            assert_eq!(next.query_value("SELECT 'next'").await, "next");
            assert_eq!(copying.query_value("SELECT 'goes on'").await, "goes on");
            assert_eq!(servers_opened(&pooler).await, 1);
        }
    }
}

#[tokio::test]
async fn a_copy_that_fails_before_it_reads_has_both_its_syncs_answered() {
    let postgres = postgres_with_numbers().await;
    let refuses = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON numbers EXECUTE FUNCTION refuse()";
    postgres.run_in("app", refuses).await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        let mut all = extended(INTO).to_vec();
        all.extend([sync(), data("1\n"), done(), sync()]);
        let answer = converse(&mut copying, &all, 2).await;
        assert!(transcript(&answer).contains("not today"));

        assert_eq!(next.query_value("SELECT 'next'").await, "next");
        assert_eq!(copying.query_value("SELECT 'goes on'").await, "goes on");
    }
}
