//! No secret reaches the log, however much is logged; nor those who may only look.

use testkit::{Ask, FakeServer, Login, Pooler, Signal, Step, md5_secret, scram_secret};

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
        .arg("-vvv")
        .set("verbose", 3)
        .set("auth_ldap_options", "ldapbindpasswd=wAsabi-ldap ldaptls=1")
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
    assert!(log.contains("DEBUG"), "{log}");
    assert!(log.contains("broken auth file"), "{log}");
    let secrets = [
        vec!["wAsabi".to_owned()],
        keys(&server_verifier),
        keys(&client_verifier),
        vec![md5_of_client[3..].to_owned(), md5_of_server[3..].to_owned()],
    ];
    keeps(&log, &secrets.concat());
}

/// StoredKey and ServerKey.
fn keys(verifier: &str) -> Vec<String> {
    let parts = verifier.rsplit(['$', ':']).map(str::to_owned);
    parts.take(2).collect()
}

fn keeps(text: &str, secrets: &[String]) {
    for secret in secrets {
        let told: Vec<_> = text.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}:\n{}", told.join("\n"));
    }
}

#[tokio::test]
async fn no_login_through_auth_query_leaves_a_secret_in_the_log() {
    let md5 = md5_secret("mary", "wAsabi-hashed");
    let verifier = scram_secret("wAsabi-verified");
    let secrets = [
        ("alice", "wAsabi-clear".to_owned()),
        ("mary", md5.clone()),
        ("vera", verifier.clone()),
    ];
    let secret_of = move |user: &str| {
        let mut known = secrets.iter().filter(|(name, _)| *name == user);
        known.next().map(|(_, secret)| secret.clone())
    };
    let fake = FakeServer::setup()
        .login(Login::Scram(verifier.clone()))
        .answer(move |ask: Ask| {
            let user = ask.values.first().cloned().flatten().unwrap_or_default();
            let secret = secret_of(&user);
            async move {
                let row = [("rolname", Some(&*user)), ("secret", secret.as_deref())];
                ask.sql.contains("rolname").then(|| Step::one_row(&row))
            }
        });
    let fake = fake.start().await;
    let pooler = pgusher(1)
        .arg("-vvv")
        .env("PGUSHER_AUTH_LDAP_OPTIONS", "ldapbindpasswd=wAsabi-ldap")
        .env("CLERK_PASSWORD", "wAsabi-verified")
        .file("clerk", "wAsabi-in-file")
        .database("shop", &fake.conn_info("shop"))
        .database(
            "till",
            &format!(
                "{} user=clerk password_file={{dir}}/clerk",
                fake.conn_info("till")
            ),
        )
        .database(
            "safe",
            &format!(
                "{} user=clerk password_env=CLERK_PASSWORD",
                fake.conn_info("safe")
            ),
        )
        .user("usher", "wAsabi-verified")
        .set("auth_user", "usher")
        .start()
        .await;
    let console = pooler.console().await;
    let mut entered = 0;
    for auth_type in ["scram-sha-256", "md5", "plain", "trust"] {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for database in ["shop", "till", "safe"] {
            for (user, password) in [
                ("alice", "wAsabi-clear"),
                ("mary", "wAsabi-hashed"),
                ("vera", "wAsabi-verified"),
                ("vera", "wAsabi-mistyped"),
                ("nobody", "wAsabi-guessed"),
            ] {
                let told = outcome(&pooler, user, password, database).await;
                entered += usize::from(told == "in");
                keeps(&told, &["wAsabi".to_owned()]);
            }
        }
    }
    assert!(entered > 8, "{entered}");
    let log = whole_log(pooler).await;
    let secrets = [
        vec!["wAsabi".to_owned(), md5[3..].to_owned()],
        keys(&verifier),
    ];
    keeps(&log, &secrets.concat());
}

#[tokio::test]
async fn no_table_shows_a_secret_to_those_who_may_only_look() {
    let fake = FakeServer::start().await;
    let conn_info = format!(
        "{} user=clerk password=wAsabi-clerk",
        fake.conn_info("shop")
    );
    let pooler = pgusher(1)
        .database("shop", &conn_info)
        .user("alice", "wAsabi-alice")
        .user("vera", "wAsabi-vera")
        .set("stats_users", "vera")
        .set("auth_ldap_options", "ldapbindpasswd=wAsabi-ldap ldaptls=1")
        .start()
        .await;
    let _client = pooler.connect("alice", "wAsabi-alice", "shop").await;
    let vera = pooler.connect("vera", "wAsabi-vera", "pgbouncer").await;
    for table in [
        "CONFIG",
        "DATABASES",
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "USERS",
        "PEERS",
        "LISTS",
        "STATE",
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "TOTALS",
        "VERSION",
        "HELP",
    ] {
        let answer = vera.simple_query(&format!("SHOW {table}")).await;
        keeps(&format!("{:?}", answer.unwrap()), &["wAsabi".to_owned()]);
    }
    let options = pooler.console().await.setting("auth_ldap_options").await;
    assert_eq!(
        options, "ldapbindpasswd=wAsabi-ldap ldaptls=1",
        "admins see what they have set"
    );
}
