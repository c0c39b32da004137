//! One process after the other on the same port, under the load of tills.

use std::net::TcpListener;

use testkit::{Address, Pooler, PoolerSetup, Postgres, Signal};

use crate::support::{Stay, Tills, Trouble, before_postgres, postgres};

const RESTARTS: usize = 20;

fn setup(postgres: &Postgres, drain: u32) -> PoolerSetup {
    before_postgres(postgres, 2)
        .set("default_pool_size", 3)
        .set("log_connections", 0)
        .set("log_disconnections", 0)
        .set("shutdown_drain_timeout", drain)
}

async fn stop(mut pooler: Pooler) {
    pooler.signal(Signal::SIGTERM);
    assert!(pooler.wait_exit().await.success());
    assert_eq!(pooler.log_count("did not leave in time"), 0);
}

/// Has one process after the other take over on a shared port; returns what the tills complain of.
async fn troubles_on_a_shared_port(drain: u32) -> Vec<Trouble> {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    let setup = setup(&postgres, drain).set("so_reuseport", 1);
    // It keeps the port, and takes no clients of its own.
    let mut first = setup.clone().start().await;
    let mut pooler = setup.clone().shared_port(first.port()).start().await;
    first.signal(Signal::SIGTERM);
    assert!(first.wait_exit().await.success());
    let tills = Tills::open(8, &pooler.address(), Stay::OneSale);
    for _ in 0..RESTARTS {
        tills.sell(20).await;
        let next = setup.clone().shared_port(first.port()).start().await;
        stop(std::mem::replace(&mut pooler, next)).await;
    }
    tills.sell(20).await;
    tills.close(&postgres).await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "how many it were is for the reader")]
async fn twenty_restarts_on_a_shared_port_fail_no_sale_and_no_login() {
    for drain in [0, 5] {
        let troubles = troubles_on_a_shared_port(drain).await;
        let refused = troubles.iter().filter(|it| **it == Trouble::Refused);
        let refused = refused.count();
        println!("{RESTARTS} restarts, shutdown_drain_timeout {drain}: {refused} refused");
        assert_eq!(troubles.len(), refused, "{troubles:?}");
    }
}

#[tokio::test]
async fn twenty_restarts_behind_a_socket_that_others_hold_fail_nothing() {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    for drain in [0, 5] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let given = || {
            let listener = listener.try_clone().unwrap();
            setup(&postgres, drain).given(listener, address.clone())
        };
        let mut pooler = given().start().await;
        let tills = Tills::open(8, &pooler.address(), Stay::OneSale);
        for _ in 0..RESTARTS {
            tills.sell(20).await;
            // As a service manager restarts: one ends, then the next begins.
            stop(pooler).await;
            pooler = given().start().await;
        }
        tills.sell(20).await;
        assert_eq!(tills.close(&postgres).await, []);
    }
}
