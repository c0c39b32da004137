//! LDAP servers that say nothing: who asks them waits, and nobody else.

use testkit::{FakeClient, FakeServer, Message, Pooler};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{WORKERS, outcome, pgusher};

/// Takes connections and says nothing; tells of each.
async fn silence() -> (u16, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            let _ = tell.send(());
        }
    });
    (port, told)
}

#[tokio::test]
async fn a_silent_server_holds_up_only_those_who_need_it() {
    const AT_ONCE: usize = 32;
    let fake = FakeServer::start().await;
    for workers in WORKERS {
        let (port, mut connections) = silence().await;
        let rules = format!(
            "host pgbouncer all all scram-sha-256
            host all bob all scram-sha-256
            host all all all ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid="
        );
        let pooler = pgusher(workers)
            .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
            .user("bob", "secret")
            .set("auth_type", "hba")
            .set("auth_hba_file", "{dir}/hba.conf")
            .file("hba.conf", &rules)
            .set("client_login_timeout", 3)
            .start()
            .await;
        let pooler = std::rc::Rc::new(pooler);
        let local = tokio::task::LocalSet::new();
        let mut logins = Vec::new();
        let login =
            async |pooler: std::rc::Rc<Pooler>| outcome(&pooler, "alice", "secret", "shop").await;
        for _ in 0..AT_ONCE + 2 {
            logins.push(local.spawn_local(login(pooler.clone())));
        }
        local
            .run_until(async {
                for _ in 0..AT_ONCE {
                    connections.recv().await.unwrap();
                }
                pooler
                    .wait_for_log("LDAP queue is full, 2 logins wait")
                    .await;
                assert_eq!(outcome(&pooler, "bob", "secret", "shop").await, "in");
                assert_eq!(
                    outcome(&pooler, "bob", "wrong", "shop").await,
                    "FATAL 08P01 SASL authentication failed"
                );
                for login in logins {
                    let told = login.await.unwrap();
                    assert_eq!(told, "FATAL 08P01 client_login_timeout");
                }
            })
            .await;
    }
}

#[tokio::test]
async fn who_leaves_while_ldap_thinks_is_not_waited_for() {
    let fake = FakeServer::start().await;
    for workers in WORKERS {
        let (port, mut connections) = silence().await;
        let options = format!("ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid=");
        let pooler = pgusher(workers)
            .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
            .set("auth_type", "hba")
            .set("auth_hba_file", "{dir}/hba.conf")
            .file("hba.conf", &format!("host all all all ldap {options}"))
            .start()
            .await;
        let mut alice = FakeClient::connect(&pooler.address()).await;
        alice
            .startup(&[("user", "alice"), ("database", "shop")])
            .await;
        alice.read_auth(3).await;
        alice.send(Message::password("secret")).await;
        connections.recv().await.unwrap();
        alice.close().await;
        // Long before client_login_timeout.
        let line = pooler.wait_for_log("closing because").await;
        assert!(line.contains("client unexpected eof"), "{line}");
    }
}
