#![expect(
    clippy::disallowed_methods,
    reason = "any moment will do to begin with"
)]
use std::time::{Duration, Instant, SystemTime};

use pool::snapshot::{PoolRow, PoolerState, Snapshot};
use settings::{PoolMode, Row};

use super::{History, STATUS_PAGE, Status};
use crate::metrics::{Reload, Upkeep, Vitals};

fn json(snapshot: &Snapshot, settings: &[Row]) -> serde_json::Value {
    let mut history = History::default();
    let now = Instant::now();
    history.sample(snapshot, now);
    history.sample(snapshot, now + Duration::from_secs(5));
    let upkeep = Upkeep {
        reload: Reload {
            succeeded: true,
            last_success: SystemTime::UNIX_EPOCH,
        },
        certificates: [None, None],
        vitals: Vitals {
            cpu_seconds: 1.5,
            resident_bytes: 4096,
            virtual_bytes: 8192,
            open_files: 7,
            max_files: 1024,
            started: SystemTime::UNIX_EPOCH,
        },
    };
    let status = Status {
        snapshot,
        history: &history,
        settings,
        upkeep: &upkeep,
        warnings: &["x.ini:3: odd".to_owned()],
        draining: false,
        time: SystemTime::UNIX_EPOCH,
    };
    serde_json::from_str(&status.json()).unwrap()
}

fn pool(database: &str, waiting: usize) -> PoolRow {
    PoolRow {
        database: database.to_owned(),
        user: "alice".to_owned(),
        cl_active: 3,
        cl_waiting: waiting,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active: 2,
        sv_active_cancel: 0,
        sv_being_canceled: 0,
        sv_idle: 1,
        sv_used: 0,
        sv_tested: 0,
        sv_login: 0,
        maxwait: Duration::from_millis(1500),
        pool_mode: PoolMode::Transaction,
        load_balance_hosts: None,
        pool_size: Some(4),
        reserve_pool_size: 1,
    }
}

#[test]
fn pools_are_told_with_their_seats_and_their_line() {
    let snapshot = Snapshot {
        state: PoolerState::Paused,
        pools: vec![pool("pgbouncer", 0), pool("shop", 2)],
        ..Snapshot::default()
    };
    let page = json(&snapshot, &[]);
    assert_eq!(page["state"], "paused");
    let pools = page["pools"].as_array().unwrap();
    assert_eq!(pools.len(), 1, "the console is no pool");
    let keys = [
        "database",
        "active",
        "idle",
        "limit",
        "reserve",
        "waiting",
        "oldest_wait",
    ];
    let told = keys.map(|key| pools[0][key].to_string());
    assert_eq!(told, ["\"shop\"", "2", "1", "4", "1", "2", "1.5"]);
    assert_eq!(page["history"][0]["busy"], 4);
    assert_eq!(page["warnings"][0], "x.ini:3: odd");
}

#[test]
fn of_very_many_pools_those_with_a_line_are_told() {
    let mut pools: Vec<_> = (0..300).map(|nth| pool(&format!("db{nth}"), 0)).collect();
    pools[250].cl_waiting = 7;
    let snapshot = Snapshot {
        pools,
        ..Snapshot::default()
    };
    let page = json(&snapshot, &[]);
    let pools = page["pools"].as_array().unwrap();
    assert_eq!(pools.len(), 100);
    assert!(pools.iter().any(|pool| pool["database"] == "db250"));
}

#[test]
fn settings_are_told_that_differ_from_their_defaults_and_secrets_never() {
    let row = |name, value: &str, public: &str, default| Row {
        name,
        value: Some(value.to_owned()),
        public: Some(public.to_owned()),
        default,
        changeable: true,
    };
    let rows = [
        row("pool_mode", "transaction", "transaction", Some("session")),
        row("max_client_conn", "100", "100", Some("100")),
        row(
            "auth_ldap_options",
            "ldapbindpasswd=hush",
            "ldapbindpasswd=…",
            None,
        ),
    ];
    let page = json(&Snapshot::default(), &rows);
    let names = page["settings"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pool_mode", "auth_ldap_options"]);
    assert_eq!(page["max_clients"], "100");
    assert!(!page.to_string().contains("hush"));
}

#[test]
fn the_page_holds_all_that_it_needs_and_writes_texts_as_texts_only() {
    for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
        let foreign = STATUS_PAGE.match_indices(elsewhere);
        let foreign: Vec<_> = foreign
            .filter(|&(at, _)| !STATUS_PAGE[at..].starts_with("http://www.w3.org/2000/svg"))
            .collect();
        assert!(foreign.is_empty(), "{elsewhere}: {foreign:?}");
    }
    for markup in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
    ] {
        assert!(!STATUS_PAGE.contains(markup), "{markup}");
    }
}
