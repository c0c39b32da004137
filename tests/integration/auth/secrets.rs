//! No secret reaches the log, however much is logged.

use testkit::{FakeServer, Login, Pooler, Signal, md5_secret, scram_secret};

use crate::support::{outcome, pgusher};

/// Everything that was ever in the log, once the process has ended.
async fn whole_log(mut pooler: Pooler) -> String {
    pooler.signal(Signal::SIGQUIT);
    pooler.wait_exit().await;
    pooler.log()
}

#[tokio::test]
async fn no_login_leaves_a_secret_in_the_log() {
    let server_verifier = scram_secret("wAsabi-server");
    let client_verifier = scram_secret("wAsabi-verified");
    let (md5_of_client, md5_of_server) = (
        md5_secret("mary", "wAsabi-hashed"),
        md5_secret("alice", "wAsabi-server-md5"),
    );
    let scram = FakeServer::setup().login(Login::Scram(server_verifier.clone()));
    let scram = scram.start().await;
    let md5 = FakeServer::setup().login(Login::Md5("wAsabi-server-md5".into()));
    let md5 = md5.start().await;
    let plain = FakeServer::setup().login(Login::Plain("wAsabi-server-plain".into()));
    let plain = plain.start().await;
    let with = |server: &FakeServer, rest: &str| format!("{} {rest}", server.conn_info("shop"));
    let mut pooler = pgusher(1)
        .arg("-vv")
        .set("verbose", 2)
        .set("auth_ldap_options", "ldapbindpasswd=wAsabi-ldap")
        .database("scram", &with(&scram, "user=clerk password=wAsabi-server"))
        .database(
            "md5",
            &with(&md5, &format!("user=alice password={md5_of_server}")),
        )
        .database(
            "plain",
            &with(&plain, "user=clerk password=wAsabi-server-plain"),
        )
        .database(
            "wrong",
            &with(&scram, "user=clerk password=wAsabi-wrong-there"),
        )
        .user("alice", "wAsabi-clear")
        .user("mary", &md5_of_client)
        .user("vera", &client_verifier)
        .start()
        .await;
    let console = pooler.console().await;
    for auth_type in ["scram-sha-256", "md5", "plain", "any"] {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for database in ["scram", "md5", "plain", "wrong", "nowhere"] {
            for (user, password) in [
                ("alice", "wAsabi-clear"),
                ("mary", "wAsabi-hashed"),
                ("vera", "wAsabi-verified"),
                ("alice", "wAsabi-mistyped"),
                ("nobody", "wAsabi-guessed"),
            ] {
                outcome(&pooler, user, password, database).await;
            }
        }
    }
    console.run("SET auth_type = trust").await;
    for setting in ["auth_ldap_options", "no_such_setting"] {
        let command = format!("SET {setting} = 'ldapbindpasswd=wAsabi-set'");
        let _ = console.try_run(&command).await;
    }
    pooler
        .reload(|setup| {
            setup
                .set("auth_ldap_options", "ldapbindpasswd=wAsabi-ldap-new")
                .set("verbose", 3)
                .database("plain", "user=clerk password=wAsabi-elsewhere")
                .user("alice", "wAsabi-clear-new")
        })
        .await;
    // Broken files are complained about without what stands in them.
    for (name, line) in [
        ("broken", "host=1 password='wAsabi-unclosed"),
        ("broken", "password=wAsabi and blanks"),
        ("broken", "password=wAsabi-unknown pasword=wAsabi-typo"),
    ] {
        pooler.rewrite(|setup| setup.database(name, line));
        assert!(console.try_run("RELOAD").await.is_err(), "{line}");
    }
    pooler.rewrite(|setup| {
        let setup = setup.without_database("broken");
        setup.file(
            "userlist.txt",
            "\"alice\" \"wAsabi-clear\"\n\"mary\" \"wAsabi-open\nx",
        )
    });
    console.run("RELOAD").await;

    let log = whole_log(pooler).await;
    assert!(log.contains("NOISE") || log.contains("DEBUG"), "{log}");
    assert!(log.contains("broken auth file"), "{log}");
    let keys = |verifier: &str| {
        let parts = verifier.rsplit(['$', ':']).map(str::to_owned);
        parts.take(2).collect::<Vec<_>>()
    };
    let secrets = [
        vec!["wAsabi".to_owned()],
        keys(&server_verifier),
        keys(&client_verifier),
        vec![md5_of_client[3..].to_owned(), md5_of_server[3..].to_owned()],
    ];
    for secret in secrets.concat() {
        let told: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(told.is_empty(), "{secret}:\n{}", told.join("\n"));
    }
}
