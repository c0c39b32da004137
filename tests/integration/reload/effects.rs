//! What settings do when RELOAD brings them, to clients who are there and to those who come.

mod looks;

use testkit::{Ask, Console, FakeServer, Pooler, PoolerSetup, Step};

use self::looks::account;
use crate::support::{before, number};

/// Settings with two values each, and what is seen with the one and the other.
const ROWS: [(&str, [&str; 2], [&str; 2]); 41] = [
    (
        "admin_users",
        ["testkit_admin", "testkit_admin, alice"],
        ["FATAL 08P01 not allowed", "in"],
    ),
    (
        "application_name_add_host",
        ["0", "1"],
        ["till", "till - 127.0.0.1"],
    ),
    ("auth_dbname", ["app", "aside"], ["app", "aside"]),
    (
        "auth_file",
        ["{dir}/userlist.txt", "{dir}/few.txt"],
        ["in", NO_TRUST],
    ),
    (
        "auth_hba_file",
        ["{dir}/open.conf", "{dir}/shut.conf"],
        ["in", "FATAL 08P01 login rejected"],
    ),
    (
        "auth_ident_file",
        ["{dir}/ours.conf", "{dir}/theirs.conf"],
        ["in", "FATAL 08P01 unix socket login rejected"],
    ),
    (
        "auth_query",
        ["LOOK $1", "LOOK AGAIN $1"],
        ["LOOK $1", "LOOK AGAIN $1"],
    ),
    (
        "auth_type",
        ["trust", "scram-sha-256"],
        ["in", "asked to prove it"],
    ),
    ("auth_user", ["alice", "bob"], ["alice", "bob"]),
    ("default_pool_size", ["1", "3"], ["1", "3"]),
    (
        "ignore_startup_parameters",
        ["", "hue"],
        ["FATAL 08P01 unsupported startup parameter: hue", "in"],
    ),
    ("log_format", ["pgbouncer", "json"], ["text", "JSON"]),
    ("log_connections", ["1", "0"], ["1", "0"]),
    ("log_disconnections", ["0", "1"], ["0", "1"]),
    ("log_pooler_errors", ["1", "0"], ["1", "0"]),
    ("logfile", ["", "{dir}/new.log"], ["no file", "a file"]),
    (
        "login_notify_message",
        ["", "closed at ten"],
        ["in", "closed at ten"],
    ),
    (
        "max_client_conn",
        ["100", "2"],
        [
            "in",
            "FATAL 08P01 no more connections allowed (max_client_conn)",
        ],
    ),
    (
        "max_db_client_connections",
        ["0", "1"],
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_db_client_connections)",
        ],
    ),
    ("max_db_connections", ["0", "2"], ["4", "2"]),
    (
        "max_packet_size",
        ["65536", "50"],
        [
            "CommandComplete \"SELECT 1\"",
            "FATAL 08P01 bad packet header: '510000006e'",
        ],
    ),
    (
        "max_prepared_statements",
        ["200", "0"],
        ["renamed", "as it is"],
    ),
    (
        "max_user_client_connections",
        ["0", "1"],
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_user_client_connections)",
        ],
    ),
    ("max_user_connections", ["3", "2"], ["3", "2"]),
    ("metrics_old_names", ["1", "0"], ["told", "not told"]),
    ("min_pool_size", ["0", "3"], ["1", "3"]),
    ("peer_id", ["3", "5"], ["3", "5"]),
    ("pool_mode", ["session", "transaction"], ["1", "0"]),
    (
        "prepared_statement_errors",
        ["pgbouncer", "postgres"],
        [
            "FATAL 08P01 prepared statement did not exist",
            "ERROR 26000 prepared statement \"gone\" does not exist",
        ],
    ),
    (
        "prepared_statement_memory",
        ["0", "1000"],
        ["ParseComplete", "ErrorResponse 53200"],
    ),
    ("scram_iterations", ["4096", "5000"], ["i=4096", "i=5000"]),
    ("server_check_delay", ["30", "0"], ["nothing", "\"\""]),
    (
        "server_check_query",
        ["<empty>", "SELECT 'well'"],
        ["\"\"", "\"SELECT 'well'\""],
    ),
    (
        "server_fast_close",
        ["0", "1"],
        ["stays", "FATAL 08P01 database configuration changed"],
    ),
    ("server_lifetime", ["3600", "0"], ["the same", "another"]),
    (
        "server_reset_query",
        ["DISCARD ALL", "RESET ALL"],
        ["DISCARD ALL", "RESET ALL"],
    ),
    (
        "server_reset_query_always",
        ["0", "1"],
        ["SELECT 1", "DISCARD ALL"],
    ),
    ("server_round_robin", ["0", "1"], ["the same", "another"]),
    ("session_backend_pid", ["0", "1"], ["0", "1"]),
    (
        "stats_users",
        ["", "alice"],
        ["FATAL 08P01 not allowed", "in"],
    ),
    ("verbose", ["0", "1"], ["silent", "talks"]),
];

/// What else must be set for the setting to show what it does.
fn along_with(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "auth_dbname" => &[("auth_user", "alice"), ("auth_query", "LOOK $1")],
        "auth_hba_file" => &[("auth_type", "hba")],
        "auth_ident_file" => &[("auth_type", "hba"), ("auth_hba_file", "{dir}/peer.conf")],
        "auth_query" => &[("auth_user", "alice")],
        "auth_user" => &[("auth_query", "LOOK $1")],
        "scram_iterations" | "verbose" => &[("auth_type", "scram-sha-256")],
        "server_check_query" => &[("server_check_delay", "0")],
        "server_fast_close" | "server_reset_query" | "session_backend_pid" => {
            &[("pool_mode", "session")]
        }
        _ => &[],
    }
}

/// Files that settings may name.
fn with_files(setup: PoolerSetup) -> PoolerSetup {
    let me = account();
    setup
        .file("few.txt", "\"testkit_admin\" \"testkit_admin\"\n")
        .file("open.conf", "host all all all trust\n")
        .file(
            "shut.conf",
            "host pgbouncer all all trust\nhost all all all reject\n",
        )
        .file(
            "peer.conf",
            "local all all peer map=staff\nhost all all all trust\n",
        )
        .file("ours.conf", &format!("staff \"{me}\" alice\n"))
        .file("theirs.conf", "staff nobody_at_all alice\n")
}

/// A server that knows of everybody's password, and which connection answers `SELECT server`.
pub(super) async fn knowing() -> FakeServer {
    let script = async |ask: Ask| {
        if !ask.sql.starts_with("LOOK") {
            return number(&ask);
        }
        let user = ask.values.first()?.as_deref();
        Some(Step::one_row(&[("name", user), ("secret", Some("secret"))]))
    };
    FakeServer::setup().answer(script).start().await
}

const NO_TRUST: &str = "FATAL 08P01 \"trust\" authentication failed";

/// A pooler, with `app` and `aside` on a fake server.
pub(super) struct Scene {
    pub(super) pooler: Pooler,
    pub(super) fake: FakeServer,
    pub(super) console: Console,
}

#[tokio::test]
async fn what_a_setting_does_it_does_from_the_reload_on_and_from_the_set_on() {
    let mut wrong = Vec::new();
    for (key, [old, new], [with_old, with_new]) in ROWS {
        let fake = knowing().await;
        // Servers take turns within a worker.
        let workers = if key == "server_round_robin" { 1 } else { 3 };
        let setup = with_files(before(&fake, workers))
            .database("aside", &fake.conn_info("aside"))
            .metrics();
        let along = along_with(key).iter();
        let setup = along.fold(setup, |setup, (key, value)| setup.set(key, value));
        let pooler = setup.set(key, old).start().await;
        let console = pooler.console().await;
        let mut scene = Scene {
            pooler,
            fake,
            console,
        };
        scene.sees(&mut wrong, key, with_old).await;
        scene.pooler.rewrite(|setup| setup.set(key, new));
        scene.console.run("RELOAD").await;
        scene.sees(&mut wrong, key, with_new).await;
        if key == "logfile" {
            // It is there for good.
            continue;
        }
        scene.set(key, old).await;
        scene.sees(&mut wrong, key, with_old).await;
        scene.console.run("RELOAD").await;
        scene.sees(&mut wrong, key, with_new).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
