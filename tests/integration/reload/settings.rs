//! Settings and users: what changes, what comes back, and that nothing does when a line is bad.

use testkit::{FakeServer, Login, Pooler, Signal, eventually_async};

use super::{alice, shop};
use crate::support::{WORKERS, outcome, pgusher, refusal};

#[tokio::test]
async fn a_bad_line_anywhere_changes_nothing_at_all() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let client = alice(&pooler).await;
        client.simple_query("BEGIN").await.unwrap();
        let seen = async || {
            let config = console.show("CONFIG").await;
            let mut databases = console.show("DATABASES").await;
            databases.retain(|row| row["name"] != *"pgbouncer");
            (config, databases)
        };
        let before = seen().await;
        pooler.rewrite(|setup| {
            setup
                .set("default_pool_size", 3)
                .set("admin_users", "")
                .without_database("shop")
                .database("till", "host=127.0.0.1")
                .user("bob", "b")
                .section("[users]\nalice = pool_mode=sesion\n")
        });
        let told = console.try_run("RELOAD").await.unwrap_err();
        assert_eq!(
            refusal(&told),
            "ERROR F0000 RELOAD failed, see logs for additional details"
        );
        let line = pooler.wait_for_log("pool_mode: expected session").await;
        assert!(line.contains(" ERROR "), "{line}");
        let places = line.contains("/pooler.ini:");
        assert!(places && line.contains(": alice: pool_mode: "), "{line}");

        assert_eq!(seen().await, before);
        client.simple_query("COMMIT").await.unwrap();
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, "in");
        let refused = "FATAL 08P01 SASL authentication failed";
        assert_eq!(outcome(&pooler, "bob", "b", "shop").await, refused);

        // The same file without its bad line.
        pooler
            .reload(|setup| {
                let setup = setup.set("admin_users", "testkit_admin");
                setup.section("alice = pool_mode=session\n")
            })
            .await;
    }
}

#[tokio::test]
async fn a_userlist_that_is_gone_fails_the_reload() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;
    pooler.rewrite(|setup| setup.set("auth_file", "gone.txt").set("max_client_conn", 3));
    let told = console.try_run("RELOAD").await.unwrap_err();
    assert!(refusal(&told).starts_with("ERROR F0000 "));
    pooler
        .wait_for_log("auth_file gone.txt: No such file")
        .await;
    assert_eq!(console.setting("max_client_conn").await, "100");
    assert_eq!(outcome(&pooler, "alice", "a", "shop").await, "in");
}

#[tokio::test]
async fn sighup_reloads_too() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;
    pooler.rewrite(|setup| setup.set("max_client_conn", 77));
    pooler.signal(Signal::SIGHUP);
    eventually_async("the new limit", async || {
        console.setting("max_client_conn").await == "77"
    })
    .await;
    pooler.rewrite(|setup| setup.set("max_client_con", 78));
    pooler.signal(Signal::SIGHUP);
    let words = "SIGHUP: RELOAD failed, see logs for additional details";
    pooler.wait_for_log(words).await;
    pooler.wait_for_log("did you mean max_client_conn?").await;
    assert_eq!(console.setting("max_client_conn").await, "77");
}

#[tokio::test]
async fn what_set_changed_and_what_left_the_file_goes_back() {
    let mut pooler = pgusher(1)
        .set("default_pool_size", 7)
        .set("query_timeout", 30)
        .set("auth_user", "asker")
        .start()
        .await;
    let console = pooler.console().await;
    let before = console.show("CONFIG").await;
    for command in [
        "SET default_pool_size = 9",
        "SET pool_mode = statement",
        "SET server_reset_query = ''",
        "SET verbose = 1",
        "SET auth_dbname = elsewhere",
        "SET stats_users = vera",
    ] {
        console.run(command).await;
    }
    assert_ne!(console.show("CONFIG").await, before);
    console.run("RELOAD").await;
    assert_eq!(console.show("CONFIG").await, before);

    pooler
        .reload(|setup| setup.unset("query_timeout").unset("auth_user"))
        .await;
    assert_eq!(console.setting("query_timeout").await, "0");
    let row = console.show_row("CONFIG", "key", "auth_user").await;
    assert_eq!(row.get("value"), None);
}

#[tokio::test]
async fn what_only_a_restart_changes_keeps_its_value() {
    let mut pooler = pgusher(1)
        .set("track_extra_parameters", "search_path")
        .start()
        .await;
    let console = pooler.console().await;
    let before = console.show("CONFIG").await;
    pooler
        .reload(|setup| {
            setup
                .set("workers", 3)
                .set("listen_port", 1)
                .set("unix_socket_dir", "/nowhere")
                .set("track_extra_parameters", "")
                .set("pidfile", "/nowhere/pid")
        })
        .await;
    assert_eq!(console.show("CONFIG").await, before);
}

#[tokio::test]
async fn users_come_go_and_change_their_passwords() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).user("bob", "b").start().await;
        let (alice, bob) = (
            alice(&pooler).await,
            pooler.connect("bob", "b", "shop").await,
        );
        pooler
            .reload(|setup| {
                // Without bob.
                let users = "\"alice\" \"new\"\n\"carol\" \"c\"\n\
                             \"testkit_admin\" \"testkit_admin\"\n";
                setup.file("userlist.txt", users)
            })
            .await;
        let refused = "FATAL 08P01 SASL authentication failed";
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, refused);
        assert_eq!(outcome(&pooler, "alice", "new", "shop").await, "in");
        assert_eq!(outcome(&pooler, "bob", "b", "shop").await, refused);
        assert_eq!(outcome(&pooler, "carol", "c", "shop").await, "in");
        // Sessions that stand are not asked again.
        for client in [alice, bob] {
            client.simple_query("SELECT 1").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_changed_password_serves_the_next_login_to_the_server() {
    for workers in WORKERS {
        let fake = FakeServer::setup().login(Login::Plain("a".into()));
        let fake = fake.start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let client = alice(&pooler).await;
        client.simple_query("SELECT 1").await.unwrap();

        fake.set_login(Login::Plain("new".into()));
        pooler.reload(|setup| setup.user("alice", "new")).await;
        // It is no reason to reconnect,
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(fake.connections().len(), 1);
        // but when that happens it is used.
        pooler.console().await.run("RECONNECT").await;
        fake.wait_for_logged_in(0).await;
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(fake.connections().len(), 2);
    }
}

#[tokio::test]
async fn a_users_own_settings_change_at_once() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let client = alice(&pooler).await;
        client.simple_query("SELECT 1").await.unwrap();
        let pool = async || console.pool("shop", "alice").await;
        pooler
            .reload(|setup| {
                setup.section(
                    "[users]\nalice = pool_mode=session max_user_client_connections=1 \
                     max_user_connections=5",
                )
            })
            .await;
        assert_eq!(&pool().await["pool_mode"], "session");
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(pool().await.number("sv_active"), 1);
        let full = "FATAL 08P01 client connections exceeded (max_user_client_connections)";
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, full);
        let row = console.show_row("USERS", "name", "alice").await;
        assert_eq!(row.number("max_user_connections"), 5);
    }
}

#[tokio::test]
async fn conffile_names_the_file_that_the_next_reload_reads() {
    let mut pooler = pgusher(1)
        .file(
            "other.ini",
            "[pgbouncer]\nadmin_users = testkit_admin\nmax_client_conn = 66\n",
        )
        .start()
        .await;
    let console = pooler.console().await;
    let other = pooler.dir().join("other.ini");
    for in_the_file in [false, true] {
        if in_the_file {
            pooler
                .reload(|setup| setup.set("conffile", "{dir}/other.ini"))
                .await;
        } else {
            console
                .run(&format!("SET conffile = '{}'", other.display()))
                .await;
        }
        assert_eq!(console.setting("max_client_conn").await, "100");
        console.run("RELOAD").await;
        assert_eq!(console.setting("max_client_conn").await, "66");
        // The other file names none, so that it is read until another one is.
        let first = pooler.dir().join("pooler.ini");
        console
            .run(&format!("SET conffile = '{}'", first.display()))
            .await;
        console.run("RELOAD").await;
        assert_eq!(console.setting("max_client_conn").await, "100");
    }
}

/// What `--check` says of the file that the pooler runs with.
fn check(pooler: &Pooler) -> Vec<String> {
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_pgusher"));
    let check = check.arg("--check").arg(pooler.dir().join("pooler.ini"));
    let said = check.output().unwrap();
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn check_finds_what_a_reload_finds() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;

    pooler.rewrite(|setup| {
        setup
            .set("pkt_buff", 1)
            .set("query_timeout", "soon")
            .database("till", "prot=1")
            .section("[users]\nalice = pool_mode=often\n")
    });
    console.try_run("RELOAD").await.unwrap_err();
    let found = check(&pooler);
    assert_eq!(found.len(), 4, "{found:?}");
    for line in &found {
        let line = line.strip_prefix("pgusher: ").unwrap();
        pooler.wait_for_log(&format!(" ERROR {line}")).await;
    }
    assert_eq!(pooler.log_count(" ERROR "), found.len());

    let users = "\"alice\" \"a\"\n\"testkit_admin\" \"testkit_admin\"\nbroken\n";
    pooler.rewrite(|_| {
        shop(1, &fake)
            .set("syslog_ident", "usher")
            .file("userlist.txt", users)
    });
    console.run("RELOAD").await;
    let found = check(&pooler);
    let (ok, warnings) = found.split_last().unwrap();
    assert!(ok.ends_with("pooler.ini: ok"), "{found:?}");
    assert!(warnings.len() >= 2, "{found:?}");
    for line in warnings {
        let line = line.strip_prefix("warning: ").unwrap();
        pooler.wait_for_log(&format!(" WARNING {line}")).await;
    }
}

#[tokio::test]
async fn the_log_tells_which_entries_changed() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(1, &fake)
        .database("till", &fake.conn_info("till"))
        .section("[users]\nalice = pool_size=1\nbob = pool_size=1\n")
        .start()
        .await;
    let moved = fake.conn_info("annex");
    pooler.rewrite(|_| {
        shop(1, &fake)
            .database("shop", &(fake.conn_info("shop") + " pool_size=1"))
            .database("till", &moved)
            .database("new", &moved)
            .section("[users]\nalice = pool_size=2\ncarol = pool_size=1\n")
    });
    pooler.console().await.run("RELOAD").await;
    for line in [
        "[databases] new added",
        "[databases] shop changed, its servers stay",
        "[databases] till changed, its servers are to be replaced",
        "[users] alice changed",
        "[users] bob removed",
        "[users] carol added",
    ] {
        pooler.wait_for_log(&format!("RELOAD: {line}")).await;
    }
    pooler.reload(|setup| setup.without_database("new")).await;
    pooler.wait_for_log("RELOAD: [databases] new removed").await;
}
