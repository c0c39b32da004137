//! Clients die in every state, and in every way.

use testkit::{FakeClient, FakeServer, Gate, Login, Message, Side, eventually_async};

use super::Scene;
use crate::support::{WORKERS, before_postgres, client, clients, postgres, wait_for_waiting};

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Its process is killed, its machine unplugged, a firewall tired.
    Reset,
    /// It closes without a word.
    Fin,
    /// It says goodbye and closes.
    Terminate,
}

const DEATHS: [Death; 3] = [Death::Reset, Death::Fin, Death::Terminate];

impl Death {
    /// Kills it, and returns when the pooler has closed it.
    async fn comes_to(self, mut client: FakeClient, scene: &Scene) {
        let over = scene.ends();
        match self {
            Self::Reset => client.reset(),
            Self::Fin | Self::Terminate => {
                if matches!(self, Self::Terminate) {
                    client.send(Message::terminate()).await;
                }
                client.half_close();
                client.expect_closed().await;
            }
        }
        scene.wait_for_end(over).await;
    }
}

impl Scene {
    /// How many clients and newcomers have ended so far.
    fn ends(&self) -> usize {
        self.pooler
            .log()
            .lines()
            .filter(|line| is_clients_end(line))
            .count()
    }

    /// Waits until the pooler has a client that has not logged in yet.
    async fn notices_a_newcomer(&self) {
        let console = self.pooler.console().await;
        eventually_async("the newcomer to be noticed", async || {
            console
                .show_row("LISTS", "list", "login_clients")
                .await
                .number("items")
                == 1
        })
        .await;
    }

    async fn wait_for_end(&self, before: usize) {
        testkit::eventually("the pooler to let the client go", || self.ends() > before).await;
    }
}

fn is_clients_end(line: &str) -> bool {
    line.contains(" C-0x") && line.contains("closing because: ")
}

/// Lets clients die in every way from the state that `prepare` brings them to, with all workers;
/// after each death the pool is whole.
async fn survives(prepare: impl AsyncFn(&Scene) -> FakeClient) {
    for workers in WORKERS {
        let scene = Scene::start(workers).await;
        scene.is_whole().await;
        for death in DEATHS {
            let client = prepare(&scene).await;
            death.comes_to(client, &scene).await;
            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn a_client_may_die_before_its_first_word() {
    survives(async |scene| {
        let client = FakeClient::connect(&scene.pooler.address()).await;
        scene.notices_a_newcomer().await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_within_its_startup_packet() {
    survives(async |scene| {
        let mut client = FakeClient::connect(&scene.pooler.address()).await;
        client
            .send_raw(&[0, 0, 0, 50, 0, 3, 0, 0, b'u', b's'])
            .await;
        scene.notices_a_newcomer().await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_when_it_is_asked_for_its_password() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let scene = Scene::with(server, workers, |setup| setup.set("auth_type", "trust")).await;
        scene.is_whole().await;
        for auth_type in ["plain", "md5", "scram-sha-256"] {
            for death in DEATHS {
                scene
                    .pooler
                    .console()
                    .await
                    .run(&format!("SET auth_type = '{auth_type}'"))
                    .await;
                let mut client = FakeClient::connect(&scene.pooler.address()).await;
                client
                    .startup(&[("user", "alice"), ("database", "app")])
                    .await;
                assert_eq!(client.read().await.tag, b'R');
                death.comes_to(client, &scene).await;
                scene
                    .pooler
                    .console()
                    .await
                    .run("SET auth_type = 'trust'")
                    .await;
                scene.is_whole().await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_may_die_at_login_while_it_waits_for_the_first_server() {
    for workers in WORKERS {
        for death in DEATHS {
            let door = Gate::closed();
            let server = FakeServer::setup()
                .login(Login::Behind(door.clone()))
                .start()
                .await;
            let scene = Scene::with(server, workers, |setup| setup).await;
            let mut client = FakeClient::connect(&scene.pooler.address()).await;
            client
                .startup(&[("user", "alice"), ("database", "app")])
                .await;
            door.wait_for_waiting(1).await;

            match death {
                Death::Reset => client.reset(),
                Death::Fin => drop(client),
                Death::Terminate => client.close().await,
            }
            door.open();

            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn a_client_may_die_while_it_is_idle() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.query("SELECT 1").await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_in_line() {
    for workers in WORKERS {
        let scene = Scene::start(workers).await;
        for death in DEATHS {
            let mut holders = [scene.client().await, scene.client().await];
            for holder in &mut holders {
                holder.query("BEGIN").await;
            }
            let mut waits = scene.client().await;
            waits.send(Message::query("SELECT 'asked in line'")).await;
            wait_for_waiting(&scene.pooler, 1).await;

            match death {
                // Unread requests hide it behind them: it is served first, and then gone.
                Death::Terminate => waits.send(Message::terminate()).await,
                Death::Fin => waits.half_close(),
                Death::Reset => waits.reset(),
            }
            if !matches!(death, Death::Terminate) {
                wait_for_waiting(&scene.pooler, 0).await;
            }
            for holder in &mut holders {
                holder.query("COMMIT").await;
            }
            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn a_client_may_die_in_a_transaction() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.query("BEGIN").await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_in_a_failed_transaction() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.query("BEGIN").await;
        client.query("FAIL 22012 division by zero").await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_while_its_query_runs() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.send(Message::query("HOLD never")).await;
        scene.server.gate("never").wait_for_waiting(1).await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_in_copy_in() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.send(Message::query("COPY t FROM STDIN")).await;
        client.read_until(b'G').await;
        client
            .send(Message::copy_data(Side::Client, b"half of a ta"))
            .await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_in_copy_out() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client
            .send(Message::query("COPY t TO STDOUT 1000000 1000"))
            .await;
        client.read_until(b'd').await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_within_its_first_message() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client
            .send_raw(&Message::query("SELECT 'cut short'").encode()[..9])
            .await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_within_a_large_message() {
    survives(async |scene| {
        let mut client = scene.client().await;
        let large = Message::query(&"x".repeat(1 << 20)).encode();
        client.send_raw(&large[..large.len() / 2]).await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_between_the_messages_of_a_pipeline() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.query("BEGIN").await;
        client
            .send_all(&[
                Message::parse("", "SELECT 'never run'"),
                Message::bind("", "", &[]),
            ])
            .await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_with_answers_unread() {
    survives(async |scene| {
        let mut client = scene.client().await;
        client.send(Message::query("STREAM 1000000 1000")).await;
        client.read_until(b'D').await;
        client
    })
    .await;
}

#[tokio::test]
async fn a_client_may_die_in_its_session() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let scene = Scene::with(server, workers, |setup| setup.set("pool_mode", "session")).await;
        for death in DEATHS {
            let mut client = scene.client().await;
            client.query("SELECT 1").await;
            death.comes_to(client, &scene).await;
            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn who_dies_in_a_transaction_takes_its_work_and_its_locks_along() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        postgres
            .run_in("app", "DROP TABLE IF EXISTS t; CREATE TABLE t (n int)")
            .await;
        postgres.run_in("app", "GRANT ALL ON t TO alice").await;
        let [mut dies, mut lives] = clients(&pooler).await;
        for sql in [
            "BEGIN",
            "LOCK TABLE t",
            "INSERT INTO t VALUES (1)",
            "SET LOCAL work_mem = '77MB'",
        ] {
            dies.query(sql).await;
        }

        lives.send(Message::query("SELECT count(*) FROM t")).await;
        dies.reset();
        let answer = lives.read_until_ready().await;

        assert_eq!(
            answer.iter().find_map(Message::values),
            Some(vec![Some("0".into())])
        );
        assert_eq!(lives.query_value("SHOW work_mem").await, "4MB");
    }
}

#[tokio::test]
async fn the_query_of_a_dead_client_ends_soon() {
    let postgres = postgres().await;
    let admin = postgres.admin_client().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        for death in DEATHS {
            let mut sleeper = client(&pooler, "alice").await;
            sleeper.send(Message::query("SELECT pg_sleep(1000)")).await;
            let sleeping =
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
            let sleepers = async || {
                admin
                    .query_one(sleeping, &[])
                    .await
                    .unwrap()
                    .get::<_, i64>(0)
            };
            eventually_async("the sleeper to sleep", async || sleepers().await == 1).await;

            match death {
                Death::Reset => sleeper.reset(),
                Death::Fin => drop(sleeper),
                Death::Terminate => sleeper.close().await,
            }

            eventually_async("the sleeper to end", async || sleepers().await == 0).await;
            let mut next = client(&pooler, "alice").await;
            assert_eq!(next.query_value("SELECT 'next'").await, "next");
        }
    }
}
