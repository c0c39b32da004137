//! Servers on several hosts, and on unix sockets.

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
async fn when_the_first_host_is_down_the_next_one_serves() {
    for balance in ["round-robin", "disable"] {
        for workers in WORKERS {
            let hosts = TwoHosts::start().await;
            hosts.servers[0].stop_listening().await;
            let info = format!("{} load_balance_hosts={balance}", hosts.conn_info());
            let pooler = trusting(workers)
                .database("app", &info)
                .set("server_login_retry", 1)
                .start()
                .await;

            client(&pooler, "alice").await.query("SELECT 1").await;

            assert_eq!(hosts.connections(), [0, 1]);
        }
    }
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
