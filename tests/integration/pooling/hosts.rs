//! Servers on several hosts, and on unix sockets.

use testkit::{Gate, Login, Message};

use crate::support::{TwoHosts, WORKERS, before_postgres, client, clients, postgres, trusting};

#[tokio::test]
async fn the_hosts_of_a_list_take_turns() {
    for workers in WORKERS {
        let hosts = TwoHosts::start().await;
        let pooler = trusting(workers)
            .database("app", &hosts.conn_info())
            .start()
            .await;

        let mut clients = clients::<6>(&pooler).await;
        for client in &mut clients {
            client.query("BEGIN").await;
        }

        assert_eq!(hosts.connections(), [3, 3]);
    }
}

#[tokio::test]
async fn without_load_balancing_the_first_host_serves_alone() {
    for workers in WORKERS {
        let hosts = TwoHosts::start().await;
        let info = format!("{} load_balance_hosts=disable", hosts.conn_info());
        let pooler = trusting(workers).database("app", &info).start().await;

        let mut clients = clients::<4>(&pooler).await;
        for client in &mut clients {
            client.query("BEGIN").await;
        }

        assert_eq!(hosts.connections(), [4, 0]);
    }
}

#[tokio::test]
async fn when_the_first_host_is_down_the_next_one_serves_at_once() {
    for balance in ["round-robin", "disable"] {
        for workers in WORKERS {
            let hosts = TwoHosts::start().await;
            hosts.servers[0].stop_listening().await;
            let info = format!("{} load_balance_hosts={balance}", hosts.conn_info());
            let pooler = trusting(workers)
                .database("app", &info)
                .set("server_login_retry", 1000)
                .set("query_wait_timeout", 5)
                .start()
                .await;

            let mut clients = clients::<3>(&pooler).await;
            for client in &mut clients {
                client.query("BEGIN").await;
            }

            assert_eq!(hosts.connections(), [0, 3]);
            assert_eq!(pooler.log_count("connect failed: "), 1);
        }
    }
}

#[tokio::test]
async fn without_load_balancing_whoever_took_over_stays_until_it_fails() {
    for workers in WORKERS {
        let hosts = TwoHosts::start().await;
        let info = format!("{} load_balance_hosts=disable", hosts.conn_info());
        let pooler = trusting(workers)
            .database("app", &info)
            .set("server_login_retry", 1)
            .start()
            .await;
        let [mut first, mut second, mut third] = clients(&pooler).await;
        first.query("BEGIN").await;
        hosts.servers[0].set_login(Login::Close);
        second.query("BEGIN").await;
        let [left, _] = hosts.connections();
        hosts.servers[0].set_login(Login::Trust);

        // Long enough for the failure to be forgotten.
        pooler
            .console()
            .await
            .run("SET server_login_retry = 0")
            .await;
        third.query("BEGIN").await;
        assert_eq!(hosts.connections(), [left, 2]);

        hosts.servers[1].stop_listening().await;
        client(&pooler, "alice").await.query("BEGIN").await;
        assert_eq!(hosts.connections(), [left + 1, 2]);
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_asked_last_for_a_while() {
    for workers in WORKERS {
        let hosts = TwoHosts::start().await;
        let pooler = trusting(workers)
            .database("app", &hosts.conn_info())
            .set("server_connect_timeout", 1)
            .set("server_login_retry", 1000)
            .start()
            .await;
        hosts.servers[0].set_login(Login::Behind(Gate::closed()));

        let mut clients = clients::<4>(&pooler).await;
        for client in &mut clients {
            client.query("BEGIN").await;
        }

        assert_eq!(hosts.connections(), [1, 4]);
    }
}

#[tokio::test]
async fn when_no_host_answers_clients_are_told_what_happened_at_each() {
    for workers in WORKERS {
        let hosts = TwoHosts::start().await;
        let pooler = trusting(workers)
            .database("app", &hosts.conn_info())
            .set("server_login_retry", 2)
            .start()
            .await;
        let [mut waits, mut comes_later] = clients(&pooler).await;
        for (server, login) in hosts.servers.iter().zip([Login::Trust, Login::Close]) {
            server.set_login(login);
            for connection in server.connections() {
                connection.close();
            }
        }
        hosts.servers[0].stop_listening().await;
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        waits.send(Message::query("SELECT 1")).await;
        pooler.wait_for_log("closing because: login failed").await;
        comes_later.send(Message::query("SELECT 2")).await;

        let mut told = Vec::new();
        for client in [&mut waits, &mut comes_later] {
            told.push(client.expect_error().await.to_string());
            client.expect_closed().await;
        }
        let lasted: Vec<u64> = told.iter().map(|text| told_age(text, &hosts)).collect();
        // Nobody waits for longer than server_login_retry, and who comes then does not wait at all.
        assert!((2..10).contains(&lasted[0]), "{told:?}");
    }
}

/// For how long logins are said to have failed, in a text that must name both hosts and the causes.
#[track_caller]
fn told_age(text: &str, hosts: &TwoHosts) -> u64 {
    let front = "FATAL 08P01: server login has been failing, cached error: ";
    let rest = text.strip_prefix(front).unwrap_or_else(|| panic!("{text}"));
    let rest = rest.strip_suffix(" s (server_login_retry)");
    let (causes, lasted) = rest
        .unwrap_or_else(|| panic!("{text}"))
        .rsplit_once(", for ")
        .unwrap();
    for (cause, socket) in ["connect failed: ", "server login failed: "]
        .iter()
        .zip(hosts.sockets())
    {
        let place = format!(" at unix:{socket}");
        let is_told = |told: &str| told.starts_with(cause) && told.ends_with(&place);
        assert!(causes.split("; ").any(is_told), "{text}");
    }
    lasted.parse().unwrap()
}

#[tokio::test]
async fn a_server_on_a_unix_socket_serves_like_any_other() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .database("app", &postgres.unix_conn_info("app"))
            .start()
            .await;
        let mut alice = client(&pooler, "alice").await;

        assert_eq!(alice.query_value("SELECT current_user").await, "alice");
        let over_tcp = "SELECT count(*) FROM pg_stat_activity WHERE client_port > 0";
        assert_eq!(alice.query_value(over_tcp).await, "0");
    }
}
