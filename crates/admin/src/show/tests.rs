//! Each table as a list of its columns: name, type OID, and the value in each row.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use expect_test::{Expect, expect};
use pool::snapshot::{
    Averages, Backend, ClientRow, ClientState, Counters, DatabaseRow, Endpoint, KnownHost,
    KnownZone, LeaseRow, LeaseState, Lists, MemoryRow, PeerPoolRow, PeerRow, PoolRow, PoolerState,
    ServerRow, ServerState, SocketRow, UserRow, WaiterRow,
};
use settings::{LoadBalanceHosts, PoolMode};
use wire::Replication;

use super::*;

fn check(show: Show, expected: Expect) {
    let settings = [
        Row {
            name: "pool_mode",
            value: Some("transaction".to_owned()),
            public: Some("transaction".to_owned()),
            default: Some("session"),
            changeable: true,
        },
        Row {
            name: "user",
            value: None,
            public: None,
            default: None,
            changeable: false,
        },
        Row {
            name: "auth_ldap_options",
            value: Some("ldapbindpasswd=hush".to_owned()),
            public: Some("ldapbindpasswd=…".to_owned()),
            default: None,
            changeable: true,
        },
    ];
    let view = View {
        snapshot: &snapshot(),
        settings: &settings,
        differences: &[
            Difference {
                section: "pgbouncer",
                key: "default_pool_size".to_owned(),
                running: Some("9".to_owned()),
                file: Some("20".to_owned()),
                takes: "RELOAD",
            },
            Difference {
                section: "databases",
                key: "shop".to_owned(),
                running: Some("defined".to_owned()),
                file: None,
                takes: "RELOAD",
            },
        ],
        local_time: &|time| {
            format!(
                "second {}",
                time.duration_since(UNIX_EPOCH).unwrap().as_secs()
            )
        },
    };
    expected.assert_eq(&show.table(&view).turned());
}

fn snapshot() -> Snapshot {
    Snapshot {
        state: PoolerState::Paused,
        clients: vec![linked_client(), lost_cancel()],
        servers: vec![leased_server(), left_server()],
        pools: vec![pool()],
        databases: vec![database(), console()],
        users: vec![limited_user(), plain_user()],
        peers: vec![PeerRow {
            id: 2,
            host: "10.0.0.2".to_owned(),
            port: 6432,
            pool_size: 20,
        }],
        peer_pools: vec![PeerPoolRow {
            id: 2,
            cl_active_cancel_req: 1,
            cl_waiting_cancel_req: 3,
            sv_active_cancel: 4,
            sv_login: 5,
        }],
        dns_hosts: vec![KnownHost {
            name: "db.example.com".to_owned(),
            ttl: Duration::from_secs(12),
            addresses: vec!["10.0.0.5".parse().unwrap(), "::1".parse().unwrap()],
        }],
        dns_zones: vec![KnownZone {
            name: "example.com".to_owned(),
            serial: 2_026_112_100,
            hosts: 1,
        }],
        waiters: vec![waiter(17, 3), waiter(19, 2), waiter(99, 1)],
        memory: vec![MemoryRow {
            name: "client",
            size: 400,
            used: 2,
        }],
        totals: BTreeMap::from([("shop".to_owned(), totals())]),
        averages: Averages {
            databases: BTreeMap::from([("shop".to_owned(), averages())]),
            overall: averages(),
        },
        lists: Lists {
            peer_pools: 0,
            free_clients: 3,
            used_clients: 4,
            login_clients: 1,
            waiting_logins: 0,
            free_servers: 5,
            used_servers: 6,
            dns_names: 7,
            dns_zones: 8,
            dns_queries: 9,
        },
        ..Snapshot::default()
    }
}

fn waiter(client: u64, seconds: u64) -> WaiterRow {
    WaiterRow {
        database: "shop".to_owned(),
        user: "alice".to_owned(),
        client,
        waited: Duration::from_micros(seconds * 1_000_000 + 7),
    }
}

fn linked_client() -> ClientRow {
    ClientRow {
        state: ClientState::Active,
        socket: SocketRow {
            id: 17,
            user: Some("alice".into()),
            database: Some("shop".into()),
            replication: Replication::None,
            addr: Endpoint::Tcp("[::1]:50000".parse().unwrap()),
            local_addr: Endpoint::Tcp("[::1]:6432".parse().unwrap()),
            connected_at: UNIX_EPOCH + Duration::from_secs(100),
            requested_at: UNIX_EPOCH + Duration::from_secs(200),
            waited: Duration::from_micros(2_000_003),
            close_needed: false,
            link: Some(18),
            remote_pid: 0,
            tls: "TLSv1.3/TLS_AES_256_GCM_SHA384".to_owned(),
            application_name: "psql".into(),
            prepared_statements: 4,
            fd: Some(7),
            held: 0,
            unsent: 0,
        },
    }
}

fn lost_cancel() -> ClientRow {
    let client = linked_client();
    ClientRow {
        state: ClientState::WaitingCancelReq,
        socket: SocketRow {
            id: 19,
            user: None,
            database: None,
            addr: Endpoint::Unix { port: 6432 },
            local_addr: Endpoint::Unix { port: 6432 },
            waited: Duration::ZERO,
            link: None,
            remote_pid: 4321,
            tls: String::new(),
            application_name: "".into(),
            prepared_statements: 0,
            held: 5,
            ..client.socket
        },
    }
}

fn leased_server() -> ServerRow {
    ServerRow {
        state: ServerState::Active,
        socket: SocketRow {
            id: 18,
            addr: Endpoint::Tcp("10.0.0.5:5432".parse().unwrap()),
            local_addr: Endpoint::Tcp("10.0.0.1:40000".parse().unwrap()),
            waited: Duration::ZERO,
            close_needed: true,
            link: Some(17),
            remote_pid: 999,
            tls: String::new(),
            unsent: 6,
            ..linked_client().socket
        },
        lease: Some(LeaseRow {
            state: LeaseState::IdleInTransaction,
            since: Duration::from_secs(8),
            xact: Some(Duration::from_secs(9)),
        }),
    }
}

fn left_server() -> ServerRow {
    let server = leased_server();
    ServerRow {
        socket: SocketRow {
            id: 20,
            replication: Replication::Logical,
            link: None,
            tls: "TLSv1.3/TLS_AES_256_GCM_SHA384".to_owned(),
            ..server.socket
        },
        lease: None,
        ..server
    }
}

fn pool() -> PoolRow {
    PoolRow {
        database: "shop".to_owned(),
        user: "alice".to_owned(),
        cl_active: 1,
        cl_waiting: 2,
        cl_active_cancel_req: 3,
        cl_waiting_cancel_req: 4,
        sv_active: 5,
        sv_active_cancel: 6,
        sv_being_canceled: 7,
        sv_idle: 8,
        sv_used: 9,
        sv_tested: 10,
        sv_login: 11,
        maxwait: Duration::from_micros(12_000_013),
        pool_mode: PoolMode::Transaction,
        load_balance_hosts: None,
        pool_size: Some(20),
        reserve_pool_size: 5,
    }
}

fn database() -> DatabaseRow {
    DatabaseRow {
        name: "shop".to_owned(),
        host: Some("db1,db2".to_owned()),
        port: 5432,
        database: "shop_v2".to_owned(),
        force_user: None,
        pool_size: 1,
        min_pool_size: 2,
        reserve_pool_size: 3,
        server_lifetime: Duration::from_secs(3600),
        pool_mode: None,
        load_balance_hosts: Some(LoadBalanceHosts::RoundRobin),
        max_connections: 4,
        current_connections: 5,
        max_client_connections: 6,
        current_client_connections: 7,
        paused: true,
        disabled: false,
        backend: Backend::Up,
    }
}

fn console() -> DatabaseRow {
    DatabaseRow {
        name: "pgbouncer".to_owned(),
        host: None,
        port: 6432,
        database: "pgbouncer".to_owned(),
        force_user: Some("pgbouncer".to_owned()),
        pool_mode: Some(PoolMode::Statement),
        load_balance_hosts: None,
        paused: false,
        ..database()
    }
}

fn limited_user() -> UserRow {
    UserRow {
        name: "alice".to_owned(),
        pool_size: Some(30),
        reserve_pool_size: Some(0),
        pool_mode: Some(PoolMode::Session),
        max_user_connections: 1,
        current_connections: 2,
        max_user_client_connections: 3,
        current_client_connections: 4,
    }
}

fn plain_user() -> UserRow {
    UserRow {
        name: "bob".to_owned(),
        pool_size: None,
        reserve_pool_size: None,
        pool_mode: None,
        ..limited_user()
    }
}

fn totals() -> Counters {
    Counters {
        server_assignment_count: 101,
        xact_count: 102,
        query_count: 103,
        bytes_received: 104,
        bytes_sent: 105,
        xact_time: 106,
        query_time: 107,
        wait_time: 108,
        client_parse_count: 109,
        server_parse_count: 110,
        bind_count: 111,
        client_login_count: 112,
        prepared_hit_count: 113,
    }
}

fn averages() -> Counters {
    Counters {
        server_assignment_count: 1,
        xact_count: 2,
        query_count: 3,
        bytes_received: 4,
        bytes_sent: 5,
        xact_time: 6,
        query_time: 7,
        wait_time: 8,
        client_parse_count: 9,
        server_parse_count: 10,
        bind_count: 11,
        client_login_count: 12,
        prepared_hit_count: 13,
    }
}

#[test]
fn show_state() {
    check(
        Show::State,
        expect![[r#"
        key:25 | active | paused | suspended
        value:25 | no | yes | no
    "#]],
    );
}

#[test]
fn show_config() {
    check(
        Show::Config,
        expect![[r#"
        key:25 | pool_mode | user | auth_ldap_options
        value:25 | transaction | NULL | ldapbindpasswd=hush
        default:25 | session | NULL | NULL
        changeable:25 | yes | no | yes
    "#]],
    );
}

#[test]
fn show_config_to_those_who_may_only_look() {
    check(
        Show::Config.seen_by(Privilege::Stats),
        expect![[r#"
        key:25 | pool_mode | user | auth_ldap_options
        value:25 | transaction | NULL | ldapbindpasswd=…
        default:25 | session | NULL | NULL
        changeable:25 | yes | no | yes
    "#]],
    );
}

#[test]
fn show_databases() {
    check(
        Show::Databases,
        expect![[r#"
        name:25 | shop | pgbouncer
        host:25 | db1,db2 | NULL
        port:23 | 5432 | 6432
        database:25 | shop_v2 | pgbouncer
        force_user:25 | NULL | pgbouncer
        pool_size:23 | 1 | 1
        min_pool_size:23 | 2 | 2
        reserve_pool_size:23 | 3 | 3
        server_lifetime:23 | 3600 | 3600
        pool_mode:25 | NULL | statement
        load_balance_hosts:25 | round-robin | NULL
        max_connections:23 | 4 | 4
        current_connections:23 | 5 | 5
        max_client_connections:23 | 6 | 6
        current_client_connections:23 | 7 | 7
        paused:23 | 1 | 0
        disabled:23 | 0 | 0
    "#]],
    );
}

#[test]
fn show_pools() {
    check(
        Show::Pools,
        expect![[r#"
        database:25 | shop
        user:25 | alice
        cl_active:23 | 1
        cl_waiting:23 | 2
        cl_active_cancel_req:23 | 3
        cl_waiting_cancel_req:23 | 4
        sv_active:23 | 5
        sv_active_cancel:23 | 6
        sv_being_canceled:23 | 7
        sv_idle:23 | 8
        sv_used:23 | 9
        sv_tested:23 | 10
        sv_login:23 | 11
        maxwait:23 | 12
        maxwait_us:23 | 13
        pool_mode:25 | transaction
        load_balance_hosts:25 | NULL
    "#]],
    );
}

#[test]
fn show_clients() {
    check(
        Show::Clients,
        expect![[r#"
        type:25 | C | C
        user:25 | alice | (nouser)
        database:25 | shop | (nodb)
        replication:25 | none | none
        state:25 | active | waiting_cancel_req
        addr:25 | ::1 | unix
        port:23 | 50000 | 6432
        local_addr:25 | ::1 | unix
        local_port:23 | 6432 | 6432
        connect_time:25 | second 100 | second 100
        request_time:25 | second 200 | second 200
        wait:23 | 2 | 0
        wait_us:23 | 3 | 0
        close_needed:23 | 0 | 0
        ptr:25 | 0x11 | 0x13
        link:25 | 0x12 | 
        remote_pid:23 | 0 | 4321
        tls:25 | TLSv1.3/TLS_AES_256_GCM_SHA384 | 
        application_name:25 | psql | 
        prepared_statements:23 | 4 | 0
        id:23 | 17 | 19
    "#]],
    );
}

#[test]
fn show_servers() {
    check(
        Show::Servers,
        expect![[r#"
            type:25 | S | S
            user:25 | alice | alice
            database:25 | shop | shop
            replication:25 | none | logical
            state:25 | active | idle
            addr:25 | 10.0.0.5 | 10.0.0.5
            port:23 | 5432 | 5432
            local_addr:25 | 10.0.0.1 | 10.0.0.1
            local_port:23 | 40000 | 40000
            connect_time:25 | second 100 | second 100
            request_time:25 | second 200 | second 200
            wait:23 | 0 | 0
            wait_us:23 | 0 | 0
            close_needed:23 | 1 | 1
            ptr:25 | 0x12 | 0x14
            link:25 | 0x11 | 
            remote_pid:23 | 999 | 999
            tls:25 |  | TLSv1.3/TLS_AES_256_GCM_SHA384
            application_name:25 | psql | psql
            prepared_statements:23 | 4 | 4
            id:23 | 18 | 20
        "#]],
    );
}

#[test]
fn show_users() {
    check(
        Show::Users,
        expect![[r#"
        name:25 | alice | bob
        pool_size:25 |        30 | 
        reserve_pool_size:25 |         0 | 
        pool_mode:25 | session | NULL
        max_user_connections:23 | 1 | 1
        current_connections:23 | 2 | 2
        max_user_client_connections:23 | 3 | 3
        current_client_connections:23 | 4 | 4
    "#]],
    );
}

#[test]
fn show_lists() {
    check(
        Show::Lists,
        expect![[r#"
        list:25 | databases | users | peers | pools | peer_pools | free_clients | used_clients | login_clients | free_servers | used_servers | dns_names | dns_zones | dns_queries | dns_pending
        items:23 | 2 | 2 | 1 | 1 | 0 | 3 | 4 | 1 | 5 | 6 | 7 | 8 | 9 | 0
    "#]],
    );
}

#[test]
fn show_peers() {
    check(
        Show::Peers,
        expect![[r#"
        peer_id:23 | 2
        host:25 | 10.0.0.2
        port:23 | 6432
        pool_size:23 | 20
    "#]],
    );
}

#[test]
fn show_stats() {
    check(
        Show::Stats,
        expect![[r#"
        database:25 | shop
        total_server_assignment_count:1700 | 101
        total_xact_count:1700 | 102
        total_query_count:1700 | 103
        total_received:1700 | 104
        total_sent:1700 | 105
        total_xact_time:1700 | 106
        total_query_time:1700 | 107
        total_wait_time:1700 | 108
        total_client_parse_count:1700 | 109
        total_server_parse_count:1700 | 110
        total_bind_count:1700 | 111
        total_client_login_count:1700 | 112
        avg_server_assignment_count:1700 | 1
        avg_xact_count:1700 | 2
        avg_query_count:1700 | 3
        avg_recv:1700 | 4
        avg_sent:1700 | 5
        avg_xact_time:1700 | 6
        avg_query_time:1700 | 7
        avg_wait_time:1700 | 8
        avg_client_parse_count:1700 | 9
        avg_server_parse_count:1700 | 10
        avg_bind_count:1700 | 11
        avg_client_login_count:1700 | 12
    "#]],
    );
}

#[test]
fn show_stats_totals() {
    check(
        Show::StatsTotals,
        expect![[r#"
        database:25 | shop
        server_assignment_count:1700 | 101
        xact_count:1700 | 102
        query_count:1700 | 103
        bytes_received:1700 | 104
        bytes_sent:1700 | 105
        xact_time:1700 | 106
        query_time:1700 | 107
        wait_time:1700 | 108
        client_parse_count:1700 | 109
        server_parse_count:1700 | 110
        bind_count:1700 | 111
        client_login_count:1700 | 112
    "#]],
    );
}

#[test]
fn show_stats_averages() {
    check(
        Show::StatsAverages,
        expect![[r#"
        database:25 | shop
        server_assignment_count:1700 | 1
        xact_count:1700 | 2
        query_count:1700 | 3
        bytes_received:1700 | 4
        bytes_sent:1700 | 5
        xact_time:1700 | 6
        query_time:1700 | 7
        wait_time:1700 | 8
        avg_client_parse_count:1700 | 9
        avg_server_parse_count:1700 | 10
        avg_bind_count:1700 | 11
        avg_client_login_count:1700 | 12
    "#]],
    );
}

#[test]
fn show_totals() {
    check(
        Show::Totals,
        expect![[r#"
        name:25 | total_server_assignment_count | total_xact_count | total_query_count | total_client_bytes | total_server_bytes | total_xact_time | total_query_time | total_wait_time | total_ps_client_parse_count | total_ps_server_parse_count | total_ps_bind_count | total_client_login_count | avg_server_assignment_count | avg_xact_count | avg_query_count | avg_client_bytes | avg_server_bytes | avg_xact_time | avg_query_time | avg_wait_time | avg_ps_client_parse_count | avg_ps_server_parse_count | avg_ps_bind_count | avg_client_login_count
        value:1700 | 101 | 102 | 103 | 104 | 105 | 106 | 107 | 108 | 109 | 110 | 111 | 112 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12
    "#]],
    );
}

#[test]
fn show_sockets() {
    check(
        Show::Sockets,
        expect![[r#"
            type:25 | C | C | S | S
            user:25 | alice | (nouser) | alice | alice
            database:25 | shop | (nodb) | shop | shop
            replication:25 | none | none | none | logical
            state:25 | cl_active | cl_waiting_cancel_req | sv_active | sv_active
            addr:25 | ::1 | unix | 10.0.0.5 | 10.0.0.5
            port:23 | 50000 | 6432 | 5432 | 5432
            local_addr:25 | ::1 | unix | 10.0.0.1 | 10.0.0.1
            local_port:23 | 6432 | 6432 | 40000 | 40000
            connect_time:25 | second 100 | second 100 | second 100 | second 100
            request_time:25 | second 200 | second 200 | second 200 | second 200
            wait:23 | 2 | 0 | 0 | 0
            wait_us:23 | 3 | 0 | 0 | 0
            close_needed:23 | 0 | 0 | 1 | 1
            ptr:25 | 0x11 | 0x13 | 0x12 | 0x14
            link:25 | 0x12 |  | 0x11 | 
            remote_pid:23 | 0 | 4321 | 999 | 999
            tls:25 | TLSv1.3/TLS_AES_256_GCM_SHA384 |  |  | TLSv1.3/TLS_AES_256_GCM_SHA384
            application_name:25 | psql |  | psql | psql
            prepared_statements:23 | 4 | 0 | 4 | 4
            id:23 | 17 | 19 | 18 | 20
            recv_pos:23 | 0 | 5 | 0 | 0
            pkt_pos:23 | 0 | 0 | 0 | 0
            pkt_remain:23 | 0 | 0 | 0 | 0
            send_pos:23 | 0 | 0 | 0 | 0
            send_remain:23 | 0 | 0 | 0 | 0
            pkt_avail:23 | 0 | 5 | 0 | 0
            send_avail:23 | 0 | 0 | 6 | 6
        "#]],
    );
}

#[test]
fn show_active_sockets() {
    check(
        Show::ActiveSockets,
        expect![[r#"
            type:25 | C | S | S
            user:25 | (nouser) | alice | alice
            database:25 | (nodb) | shop | shop
            replication:25 | none | none | logical
            state:25 | cl_waiting_cancel_req | sv_active | sv_active
            addr:25 | unix | 10.0.0.5 | 10.0.0.5
            port:23 | 6432 | 5432 | 5432
            local_addr:25 | unix | 10.0.0.1 | 10.0.0.1
            local_port:23 | 6432 | 40000 | 40000
            connect_time:25 | second 100 | second 100 | second 100
            request_time:25 | second 200 | second 200 | second 200
            wait:23 | 0 | 0 | 0
            wait_us:23 | 0 | 0 | 0
            close_needed:23 | 0 | 1 | 1
            ptr:25 | 0x13 | 0x12 | 0x14
            link:25 |  | 0x11 | 
            remote_pid:23 | 4321 | 999 | 999
            tls:25 |  |  | TLSv1.3/TLS_AES_256_GCM_SHA384
            application_name:25 |  | psql | psql
            prepared_statements:23 | 0 | 4 | 4
            id:23 | 19 | 18 | 20
            recv_pos:23 | 5 | 0 | 0
            pkt_pos:23 | 0 | 0 | 0
            pkt_remain:23 | 0 | 0 | 0
            send_pos:23 | 0 | 0 | 0
            send_remain:23 | 0 | 0 | 0
            pkt_avail:23 | 5 | 0 | 0
            send_avail:23 | 0 | 6 | 6
        "#]],
    );
}

#[test]
fn show_fds() {
    check(
        Show::Fds,
        expect![[r#"
            fd:23 | 7 | 7
            task:25 | client | server
            user:25 | NULL | alice
            database:25 | NULL | shop
            addr:25 | unix | 10.0.0.5
            port:23 | 6432 | 5432
            cancel:20 | NULL | NULL
            link:23 | 0 | 7
            client_encoding:25 | NULL | NULL
            std_strings:25 | NULL | NULL
            datestyle:25 | NULL | NULL
            timezone:25 | NULL | NULL
            password:25 | NULL | NULL
            scram_client_key:17 | NULL | NULL
            scram_server_key:17 | NULL | NULL
        "#]],
    );
}

#[test]
fn show_mem() {
    check(
        Show::Mem,
        expect![[r#"
            name:25 | client
            size:23 | 400
            used:23 | 2
            free:23 | 0
            memtotal:23 | 800
        "#]],
    );
}

#[test]
fn show_dns_hosts() {
    check(
        Show::DnsHosts,
        expect![[r#"
            hostname:25 | db.example.com
            ttl:20 | 12
            addrs:25 | 10.0.0.5,::1
        "#]],
    );
}

#[test]
fn show_dns_zones() {
    check(
        Show::DnsZones,
        expect![[r#"
            zonename:25 | example.com
            serial:20 | 2026112100
            count:23 | 1
        "#]],
    );
}

#[test]
fn show_peer_pools() {
    check(
        Show::PeerPools,
        expect![[r#"
            peer_id:23 | 2
            cl_active_cancel_req:23 | 1
            cl_waiting_cancel_req:23 | 3
            sv_active_cancel:23 | 4
            sv_login:23 | 5
        "#]],
    );
}

#[test]
fn show_waiters() {
    check(
        Show::Waiters,
        expect![[r#"
            database:25 | shop | shop | shop
            user:25 | alice | alice | alice
            place:23 | 1 | 2 | 3
            wait:23 | 3 | 2 | 1
            wait_us:23 | 7 | 7 | 7
            since:25 | second 200 | second 200 | NULL
            id:23 | 17 | 19 | 99
            client_user:25 | alice | NULL | NULL
            addr:25 | ::1 | unix | NULL
            port:23 | 50000 | 6432 | NULL
            application_name:25 | psql |  | NULL
        "#]],
    );
}

#[test]
fn show_blockers() {
    check(
        Show::Blockers,
        expect![[r#"
            database:25 | shop
            user:25 | alice
            waiting:23 | 2
            maxwait:23 | 12
            state:25 | idle in transaction
            state_age:23 | 8
            xact_age:23 | 9
            id:23 | 17
            client_user:25 | alice
            addr:25 | ::1
            port:23 | 50000
            application_name:25 | psql
            server_id:23 | 18
            remote_pid:23 | 999
        "#]],
    );
}

#[test]
fn show_config_diff() {
    check(
        Show::ConfigDiff,
        expect![[r#"
            section:25 | pgbouncer | databases
            key:25 | default_pool_size | shop
            running:25 | 9 | defined
            file:25 | 20 | NULL
            takes:25 | RELOAD | RELOAD
        "#]],
    );
}

#[test]
fn every_cell_can_be_written_in_binary() {
    let snapshot = snapshot();
    let view = View {
        snapshot: &snapshot,
        settings: &[],
        differences: &[],
        local_time: &|_| String::new(),
    };
    for (name, topic) in TOPICS.iter().copied().flatten() {
        if let Topic::Table(show) = topic {
            assert!(show.table(&view).is_binary(), "{name}");
        }
    }
}
