//! One process after the other on the same port, under the load of tills.

use testkit::{Pooler, Postgres, Signal};

use crate::support::{Stay, Tills, Trouble, before_postgres, postgres};

const RESTARTS: usize = 20;

async fn start(postgres: &Postgres, port: Option<u16>, drain: u32) -> Pooler {
    let mut setup = before_postgres(postgres, 2)
        .set("so_reuseport", 1)
        .set("default_pool_size", 3)
        .set("log_connections", 0)
        .set("log_disconnections", 0)
        .set("shutdown_drain_timeout", drain);
    if let Some(port) = port {
        setup = setup.shared_port(port);
    }
    setup.start().await
}

/// Has one process after the other take over, and returns what the tills complain of.
async fn troubles_of_restarts(drain: u32) -> Vec<Trouble> {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    let mut pooler = start(&postgres, None, drain).await;
    let mut gone = Vec::new();
    let tills = Tills::open(8, &pooler.address(), Stay::OneSale);
    for _ in 0..RESTARTS {
        tills.sell(20).await;
        let mut old = pooler;
        pooler = start(&postgres, Some(old.port()), drain).await;
        old.signal(Signal::SIGTERM);
        assert!(old.wait_exit().await.success());
        assert_eq!(old.log_count("did not leave in time"), 0);
        // The first has claimed the port for all of them.
        gone.push(old);
    }
    tills.sell(20).await;
    tills.close(&postgres).await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "how many it were is for the reader")]
async fn twenty_restarts_on_a_shared_port_fail_no_sale_and_no_login() {
    for drain in [0, 5] {
        let troubles = troubles_of_restarts(drain).await;
        let refused = troubles.iter().filter(|it| **it == Trouble::Refused);
        let refused = refused.count();
        println!("{RESTARTS} restarts, shutdown_drain_timeout {drain}: {refused} refused");
        assert_eq!(troubles.len(), refused, "{troubles:?}");
    }
}
