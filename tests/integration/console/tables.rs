//! The SHOW tables over the wire: columns, types, and every key of the settings.

use std::{collections::BTreeSet, fmt::Write, process::Command};

use expect_test::expect;
use testkit::{FakeServer, Message, Pooler, client_program, transcript};

use super::{alice, operator, shop};
use crate::support::{WORKERS, before, client, pgusher};

fn type_name(oid: i32) -> &'static str {
    match oid {
        17 => "bytea",
        20 => "int8",
        23 => "int4",
        25 => "text",
        1700 => "numeric",
        other => panic!("a column of type {other}"),
    }
}

/// `database:text user:text …`, and that all of it is a proper answer.
fn columns(answer: &[Message]) -> String {
    let [description, rows @ .., complete, ready] = answer else {
        panic!("no table: {}", transcript(answer));
    };
    assert!(rows.iter().all(|row| row.values().is_some()));
    assert_eq!(complete.command_tag().as_deref(), Some("SHOW"));
    assert_eq!(ready.to_string(), "ReadyForQuery idle");
    let names = description.columns().unwrap().into_iter();
    let types = description.column_types().unwrap();
    let told = names
        .zip(types)
        .map(|(name, oid)| format!("{name}:{}", type_name(oid)));
    told.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn every_table_has_its_columns_in_order_and_of_the_right_types() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let _alice = alice(&pooler).await;
    let mut operator = operator(&pooler).await;
    let mut told = String::new();
    for what in [
        "VERSION",
        "STATE",
        "CONFIG",
        "DATABASES",
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "USERS",
        "LISTS",
        "PEERS",
        "PEER_POOLS",
        "SOCKETS",
        "ACTIVE_SOCKETS",
        "FDS",
        "MEM",
        "DNS_HOSTS",
        "DNS_ZONES",
        "WAITERS",
        "BLOCKERS",
        "CONFIG_DIFF",
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "TOTALS",
    ] {
        let answer = operator.query(&format!("SHOW {what}")).await;
        writeln!(told, "{what}: {}", columns(&answer)).unwrap();
        // In any letter case, and as psql sends it.
        let lower = format!(" select {};\n", what.to_lowercase());
        let again = operator.query(&lower).await;
        assert_eq!(columns(&again), columns(&answer), "{lower}");
    }
    expect![[r#"
        VERSION: version:text
        STATE: key:text value:text
        CONFIG: key:text value:text default:text changeable:text
        DATABASES: name:text host:text port:int4 database:text force_user:text pool_size:int4 min_pool_size:int4 reserve_pool_size:int4 server_lifetime:int4 pool_mode:text load_balance_hosts:text max_connections:int4 current_connections:int4 max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4
        POOLS: database:text user:text cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode:text load_balance_hosts:text
        CLIENTS: type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4
        SERVERS: type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4
        USERS: name:text pool_size:text reserve_pool_size:text pool_mode:text max_user_connections:int4 current_connections:int4 max_user_client_connections:int4 current_client_connections:int4
        LISTS: list:text items:int4
        PEERS: peer_id:int4 host:text port:int4 pool_size:int4
        PEER_POOLS: peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 sv_login:int4
        SOCKETS: type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4 recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 send_avail:int4
        ACTIVE_SOCKETS: type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4 recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 send_avail:int4
        FDS: fd:int4 task:text user:text database:text addr:text port:int4 cancel:int8 link:int4 client_encoding:text std_strings:text datestyle:text timezone:text password:text scram_client_key:bytea scram_server_key:bytea
        MEM: name:text size:int4 used:int4 free:int4 memtotal:int4
        DNS_HOSTS: hostname:text ttl:int8 addrs:text
        DNS_ZONES: zonename:text serial:int8 count:int4
        WAITERS: database:text user:text place:int4 wait:int4 wait_us:int4 since:text id:int4 client_user:text addr:text port:int4 application_name:text
        BLOCKERS: database:text user:text waiting:int4 maxwait:int4 state:text state_age:int4 xact_age:int4 id:int4 client_user:text addr:text port:int4 application_name:text server_id:int4 remote_pid:int4
        CONFIG_DIFF: section:text key:text running:text file:text takes:text
        STATS: database:text total_server_assignment_count:numeric total_xact_count:numeric total_query_count:numeric total_received:numeric total_sent:numeric total_xact_time:numeric total_query_time:numeric total_wait_time:numeric total_client_parse_count:numeric total_server_parse_count:numeric total_bind_count:numeric total_client_login_count:numeric avg_server_assignment_count:numeric avg_xact_count:numeric avg_query_count:numeric avg_recv:numeric avg_sent:numeric avg_xact_time:numeric avg_query_time:numeric avg_wait_time:numeric avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric avg_client_login_count:numeric
        STATS_TOTALS: database:text server_assignment_count:numeric xact_count:numeric query_count:numeric bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric client_parse_count:numeric server_parse_count:numeric bind_count:numeric client_login_count:numeric
        STATS_AVERAGES: database:text server_assignment_count:numeric xact_count:numeric query_count:numeric bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric avg_client_login_count:numeric
        TOTALS: name:text value:numeric
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn the_welcome_and_the_help_are_the_consoles_own() {
    let pooler = pgusher(1).start().await;
    let mut client = testkit::FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[
            ("user", "testkit_admin"),
            ("database", "pgbouncer"),
            ("application_name", "eyes"),
            ("extra_float_digits", "3"),
        ])
        .await;
    client.answer_scram("testkit_admin").await;
    client.read_auth_ok().await;
    let mut welcome = client.read_welcome().await;
    welcome.retain(|message| message.tag != b'K');
    let help = client.query("SHOW HELP").await;
    let notice = help[0].error_fields().unwrap();
    let told = transcript(&welcome) + notice.text() + notice.get('D') + "\n";
    expect![[r#"
        < ParameterStatus server_version=1.25.2/bouncer
        < ParameterStatus client_encoding=UTF8
        < ParameterStatus server_encoding=UTF8
        < ParameterStatus DateStyle=ISO
        < ParameterStatus TimeZone=GMT
        < ParameterStatus standard_conforming_strings=on
        < ParameterStatus is_superuser=on
        < ParameterStatus application_name=eyes
        < ReadyForQuery idle
        Console usage
        	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
        	SHOW PEERS|PEER_POOLS
        	SHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
        	SHOW DNS_HOSTS|DNS_ZONES
        	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
        	SHOW WAITERS|BLOCKERS|CONFIG_DIFF
        	SET key = arg
        	RELOAD
        	PAUSE [<db>]
        	RESUME [<db>]
        	DISABLE <db>
        	ENABLE <db>
        	RECONNECT [<db>]
        	KILL [<db>]
        	KILL_CLIENT <client_id>
        	SUSPEND
        	SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]
        	WAIT_CLOSE [<db>]
        < CommandComplete "SHOW"
        < ReadyForQuery idle
    "#]]
    .assert_eq(&(told + &transcript(&help[1..])));
}

#[tokio::test]
async fn show_config_has_every_key_and_whether_it_can_be_changed() {
    let pooler = pgusher(1).start().await;
    let rows = pooler.console().await.show("CONFIG").await;
    let key = |row: &testkit::Row| row["key"].to_owned();
    let (changeable, fixed): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| &row["changeable"] == "yes");
    assert!(fixed.iter().all(|row| &row["changeable"] == "no"));
    let names: Vec<_> = fixed.into_iter().map(key).collect();
    expect![[r#"
        disable_pqexec
        job_name
        listen_addr
        listen_backlog
        listen_port
        pidfile
        pkt_buf
        resolv_conf
        so_reuseport
        track_extra_parameters
        unix_socket_dir
        unix_socket_group
        unix_socket_mode
        user
        io_uring
        metrics_label_limit
        metrics_listen_addr
        metrics_port
        workers
    "#]]
    .assert_eq(&(names.join("\n") + "\n"));
    let names: Vec<_> = changeable.into_iter().map(key).collect();
    expect![[r#"
        admin_users
        application_name_add_host
        auth_dbname
        auth_file
        auth_hba_file
        auth_ident_file
        auth_ldap_options
        auth_query
        auth_type
        auth_user
        autodb_idle_timeout
        cancel_wait_timeout
        client_idle_timeout
        client_login_timeout
        client_tls13_ciphers
        client_tls_ca_file
        client_tls_cert_file
        client_tls_ciphers
        client_tls_dheparams
        client_tls_ecdhcurve
        client_tls_key_file
        client_tls_protocols
        client_tls_sslmode
        conffile
        default_pool_size
        dns_max_ttl
        dns_nxdomain_ttl
        dns_zone_check_period
        idle_transaction_timeout
        ignore_startup_parameters
        log_connections
        log_disconnections
        log_pooler_errors
        log_stats
        logfile
        login_notify_message
        max_client_conn
        max_db_client_connections
        max_db_connections
        max_packet_size
        max_prepared_statements
        max_user_client_connections
        max_user_connections
        min_pool_size
        peer_id
        pool_mode
        pool_idle_timeout
        query_timeout
        query_wait_notify
        query_wait_timeout
        reserve_pool_size
        reserve_pool_timeout
        sbuf_loopcnt
        scram_iterations
        server_check_delay
        server_check_query
        server_connect_timeout
        server_fast_close
        server_idle_timeout
        server_lifetime
        server_login_retry
        server_reset_query
        server_reset_query_always
        server_round_robin
        server_tls13_ciphers
        server_tls_ca_file
        server_tls_cert_file
        server_tls_ciphers
        server_tls_key_file
        server_tls_protocols
        server_tls_sslmode
        stats_period
        stats_users
        suspend_timeout
        syslog
        syslog_facility
        syslog_ident
        tcp_defer_accept
        tcp_keepalive
        tcp_keepcnt
        tcp_keepidle
        tcp_keepintvl
        tcp_socket_buffer
        tcp_user_timeout
        transaction_timeout
        verbose
        log_format
        metrics_old_names
        prepared_statement_errors
        prepared_statement_memory
        server_tls_negotiation
        session_backend_pid
        shutdown_drain_timeout
        shutdown_listen_delay
    "#]]
    .assert_eq(&(names.join("\n") + "\n"));
    // Values are as they would be written, but for the mode, which PgBouncer prints in decimal.
    let row = |name: &str| rows.iter().find(|row| row["key"] == *name).unwrap();
    assert_eq!(&row("unix_socket_mode")["value"], "511");
    assert_eq!(row("auth_user").get("value"), None);
    assert_eq!(row("verbose").get("default"), None);
}

/// Runs psql against the console, and returns what it printed.
fn psql(pooler: &Pooler, input: &[&str]) -> String {
    let mut psql = Command::new(client_program("psql"));
    psql.args(["-X", "-h", "127.0.0.1", "-p", &pooler.port().to_string()]);
    psql.args(["-U", "testkit_admin", "-d", "pgbouncer"]);
    psql.env("PGPASSWORD", "testkit_admin");
    for command in input {
        psql.args(["-c", command]);
    }
    let output = psql.output().expect("psql");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[tokio::test]
async fn psql_is_at_home_at_the_console() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let _alice = alice(&pooler).await;
    let pools = psql(&pooler, &["SHOW POOLS;"]);
    let pools: String = pools
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    expect![[r#"
         database  |   user    | cl_active | cl_waiting | cl_active_cancel_req | cl_waiting_cancel_req | sv_active | sv_active_cancel | sv_being_canceled | sv_idle | sv_used | sv_tested | sv_login | maxwait | maxwait_us |  pool_mode  | load_balance_hosts
        -----------+-----------+-----------+------------+----------------------+-----------------------+-----------+------------------+-------------------+---------+---------+-----------+----------+---------+------------+-------------+--------------------
         pgbouncer | pgbouncer |         1 |          0 |                    0 |                     0 |         0 |                0 |                 0 |       0 |       0 |         0 |        0 |       0 |          0 | statement   |
         shop      | alice     |         1 |          0 |                    0 |                     0 |         0 |                0 |                 0 |       1 |       0 |         0 |        0 |       0 |          0 | transaction |
        (2 rows)

    "#]]
    .assert_eq(&pools);

    let said = psql(
        &pooler,
        &[
            "\\conninfo",
            "select version;",
            "show help",
            "SET default_pool_size = 5",
            "RELOAD",
        ],
    );
    let address = format!("on host \"127.0.0.1\" at port \"{}\"", pooler.port());
    let conninfo =
        format!("You are connected to database \"pgbouncer\" as user \"testkit_admin\" {address}.");
    let version = &pooler.console().await.show("VERSION").await[0]["version"].to_owned();
    for expected in [
        conninfo.as_str(),
        version,
        "NOTICE:  Console usage",
        "SET default_pool_size=5",
        "RELOAD",
    ] {
        assert!(said.contains(expected), "{expected:?} not in {said}");
    }
}

#[tokio::test]
async fn a_list_that_is_gathered_in_parts_is_whole() {
    let fake = FakeServer::start().await;
    for workers in WORKERS {
        let pooler = before(&fake, workers).set("max_client_conn", 1000);
        let pooler = pooler.start().await;
        let mut everybody = Vec::new();
        for _ in 0..450 {
            everybody.push(client(&pooler, "alice").await);
        }
        let console = pooler.console().await;
        let rows = console.show("CLIENTS").await;
        let alices = rows.iter().filter(|row| &row["user"] == "alice");
        let ids: BTreeSet<_> = alices.map(|row| row.number("id")).collect();
        assert_eq!(ids.len(), everybody.len());
        assert_eq!(console.show("SOCKETS").await.len(), rows.len() + 1);
    }
}
