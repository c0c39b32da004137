//! `ldap`: passwords that an LDAP server checks, a real one.

use std::fmt::Write;

use expect_test::expect;
use testkit::{FakeServer, Pooler, PoolerSetup, Slapd};

use super::typed_passwords_count;
use crate::support::{WORKERS, outcome, pgusher, postgres};

mod slow;

const REFUSED: &str = "FATAL 08P01 LDAP authentication failed";

/// Alice and bob, each called so in one way or another, and two who share an address.
fn people() -> String {
    let person = |place: &str, uid: &str, mail: &str| {
        format!(
            "dn: uid={uid},{place},dc=example,dc=net\nobjectClass: inetOrgPerson\ncn: {uid}\n\
             sn: {uid}\nuid: {uid}\nmail: {mail}\nuserPassword: secret\n\n"
        )
    };
    let unit =
        |place: &str| format!("dn: {place},dc=example,dc=net\nobjectClass: organizationalUnit\n\n");
    let [outer, inner] = foreign();
    [
        unit("ou=people"),
        person("ou=people", "alice", "alice@example.net"),
        person("ou=people", "bob", "both@example.net"),
        person("ou=people", "carol", "both@example.net"),
        unit("ou=closed"),
        person("ou=closed", "mallory", "m@example.net"),
        unit(&outer),
        unit(&inner),
        person(&inner, "zoë", "z@example.net"),
    ]
    .concat()
}

/// Two places, one in the other, whose name takes more bytes than fit into one byte of a length.
fn foreign() -> [String; 2] {
    let name = "Länder-und-Völker-例え".repeat(7);
    let outer = format!("ou={name}");
    let inner = format!("ou={name},{outer}");
    [outer, inner]
}

/// A pooler that asks LDAP in this way about everybody but its administrator.
fn asking(fake: &FakeServer, options: &str) -> PoolerSetup {
    pgusher(1)
        .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .file("hba.conf", &rules(options))
}

fn rules(options: &str) -> String {
    format!("host pgbouncer testkit_admin all scram-sha-256\nhost all all all ldap {options}\n")
}

async fn ask_instead(pooler: &mut Pooler, options: &str) {
    let rules = rules(options);
    pooler.reload(|setup| setup.file("hba.conf", &rules)).await;
}

#[tokio::test]
async fn a_password_that_ldap_takes_opens_the_server_too() {
    let slapd = Slapd::start(&people()).await;
    let postgres = postgres().await;
    let port = slapd.port();
    let options = format!(
        r#"ldapserver=127.0.0.1 ldapport={port} ldapprefix="uid=" ldapsuffix=",ou=people,dc=example,dc=net""#
    );
    for workers in WORKERS {
        let pooler = pgusher(workers)
            .database("app", &postgres.conn_info("app"))
            .set("auth_type", "ldap")
            .set("auth_ldap_options", &options)
            .start()
            .await;
        typed_passwords_count(&pooler, "alice", REFUSED).await;
    }
}

#[tokio::test]
async fn who_changes_the_password_everywhere_gets_in_with_the_new_one() {
    let postgres = postgres().await;
    // LDAP takes either password: only the last one typed opens the server.
    let two = "dn: uid=dora,dc=example,dc=net\nobjectClass: account\nobjectClass: simpleSecurityObject\n\
               uid: dora\nuserPassword: old\nuserPassword: new\n";
    let slapd = Slapd::start(&format!("{}{two}", people())).await;
    let port = slapd.port();
    postgres.create_user("dora", "old").await;
    let options = format!(
        "ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid= ldapsuffix=,dc=example,dc=net"
    );
    let mut pooler = pgusher(1)
        .database("app", &postgres.conn_info("app"))
        .set("auth_type", "ldap")
        .set("auth_ldap_options", &options)
        .set("server_lifetime", 0)
        .set("server_login_retry", 1)
        .start()
        .await;
    let says = async |pooler: &Pooler, password| {
        let client = pooler.connect("dora", password, "app").await;
        client.simple_query("SELECT 1").await.is_ok()
    };
    assert!(says(&pooler, "old").await);
    // RELOAD knows no password, and takes none away.
    pooler.rewrite(|setup| setup.set("query_timeout", 7));
    pooler.signal(testkit::Signal::SIGHUP);
    pooler.wait_for_log("settings changed").await;
    assert!(says(&pooler, "old").await);

    postgres.run("ALTER USER dora PASSWORD 'new'").await;
    assert!(says(&pooler, "new").await);
}

#[tokio::test]
async fn a_reload_has_ldap_asked_in_another_way() {
    let slapd = Slapd::start(&people()).await;
    let fake = FakeServer::start().await;
    let options = |unit: &str| {
        let port = slapd.port();
        let suffix = format!("ldapsuffix=,ou={unit},dc=example,dc=net");
        format!("ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid= {suffix}")
    };
    let mut pooler = pgusher(1)
        .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
        .set("auth_type", "ldap")
        .set("auth_ldap_options", options("people"))
        .start()
        .await;
    for (user, unit, other) in [
        ("alice", "people", "closed"),
        ("mallory", "closed", "people"),
    ] {
        assert_eq!(outcome(&pooler, user, "secret", "shop").await, "in");
        let reloads = pooler.log_count("settings changed");
        pooler.rewrite(|setup| setup.set("auth_ldap_options", options(other)));
        // Nobody gets in to the console.
        pooler.signal(testkit::Signal::SIGHUP);
        pooler
            .wait_for_log_count("settings changed", reloads + 1)
            .await;
        let told = outcome(&pooler, user, "secret", "shop").await;
        assert_eq!(told, REFUSED, "{user} is of {unit}");
    }
}

#[tokio::test]
async fn a_search_finds_who_is_to_be_asked_for_the_password() {
    let slapd = Slapd::start(&people()).await;
    let fake = FakeServer::start().await;
    let port = slapd.port();
    let server = format!("ldapserver=127.0.0.1 ldapport={port}");
    let base = "ldapbasedn=dc=example,dc=net";
    let mut pooler = asking(&fake, &format!("{server} {base}")).start().await;

    let mut table = String::new();
    for (options, user) in [
        (base.to_owned(), "alice"),
        (base.to_owned(), "nobody"),
        (base.to_owned(), "a*"),
        (base.to_owned(), "alice)(uid=bob"),
        (
            format!("{base} ldapsearchattribute=mail"),
            "alice@example.net",
        ),
        (
            format!("{base} ldapsearchattribute=mail"),
            "both@example.net",
        ),
        (
            format!(r#"{base} ldapsearchfilter="(|(uid=$username)(mail=$username))""#),
            "alice",
        ),
        (format!("{base} ldapsearchfilter=broken("), "alice"),
        (
            "ldapbasedn=ou=nowhere,dc=example,dc=net".to_owned(),
            "alice",
        ),
        (
            format!("ldapurl=ldap://127.0.0.1:{port}/dc=example,dc=net?uid?sub"),
            "alice",
        ),
        (
            format!("ldapurl=ldap://127.0.0.1:{port}/dc=example,dc=net?uid?one"),
            "alice",
        ),
        (base.to_owned(), "mallory"),
        (
            format!(r#"{base} ldapbinddn="cn=reader,dc=example,dc=net" ldapbindpasswd=reading"#),
            "mallory",
        ),
        (
            format!(r#"{base} ldapbinddn="cn=reader,dc=example,dc=net" ldapbindpasswd=wrong"#),
            "mallory",
        ),
    ] {
        ask_instead(&mut pooler, &format!("{server} {options}")).await;
        let right = outcome(&pooler, user, "secret", "shop").await;
        let options = options.replace(&port.to_string(), "PORT");
        writeln!(table, "{user} by {options}: {right}").unwrap();
        assert_eq!(outcome(&pooler, user, "wrong", "shop").await, REFUSED);
    }
    expect![[r#"
        alice by ldapbasedn=dc=example,dc=net: in
        nobody by ldapbasedn=dc=example,dc=net: FATAL 08P01 LDAP authentication failed
        a* by ldapbasedn=dc=example,dc=net: FATAL 08P01 LDAP authentication failed
        alice)(uid=bob by ldapbasedn=dc=example,dc=net: FATAL 08P01 LDAP authentication failed
        alice@example.net by ldapbasedn=dc=example,dc=net ldapsearchattribute=mail: in
        both@example.net by ldapbasedn=dc=example,dc=net ldapsearchattribute=mail: FATAL 08P01 LDAP authentication failed
        alice by ldapbasedn=dc=example,dc=net ldapsearchfilter="(|(uid=$username)(mail=$username))": in
        alice by ldapbasedn=dc=example,dc=net ldapsearchfilter=broken(: FATAL 08P01 LDAP authentication failed
        alice by ldapbasedn=ou=nowhere,dc=example,dc=net: FATAL 08P01 LDAP authentication failed
        alice by ldapurl=ldap://127.0.0.1:PORT/dc=example,dc=net?uid?sub: in
        alice by ldapurl=ldap://127.0.0.1:PORT/dc=example,dc=net?uid?one: FATAL 08P01 LDAP authentication failed
        mallory by ldapbasedn=dc=example,dc=net: FATAL 08P01 LDAP authentication failed
        mallory by ldapbasedn=dc=example,dc=net ldapbinddn="cn=reader,dc=example,dc=net" ldapbindpasswd=reading: in
        mallory by ldapbasedn=dc=example,dc=net ldapbinddn="cn=reader,dc=example,dc=net" ldapbindpasswd=wrong: FATAL 08P01 LDAP authentication failed
    "#]].assert_eq(&table);
    // The password with which entries are looked up stands in no log.
    assert_eq!(pooler.log_count("reading"), 0);
}

#[tokio::test]
async fn names_may_be_long_and_foreign() {
    let slapd = Slapd::start(&people()).await;
    let fake = FakeServer::start().await;
    let (port, [_, place]) = (slapd.port(), foreign());
    let server = format!("ldapserver=127.0.0.1 ldapport={port}");
    let direct = format!("{server} ldapprefix=uid= ldapsuffix=,{place},dc=example,dc=net");
    let search = format!("{server} ldapbasedn={place},dc=example,dc=net");
    let mut pooler = asking(&fake, &direct).start().await;
    for options in [&direct, &search] {
        ask_instead(&mut pooler, options).await;
        assert_eq!(outcome(&pooler, "zoë", "secret", "shop").await, "in");
        assert_eq!(outcome(&pooler, "zoë", "wrong", "shop").await, REFUSED);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over() {
    let slapd = Slapd::start(&people()).await;
    let fake = FakeServer::start().await;
    let name = "ldapprefix=uid= ldapsuffix=,ou=people,dc=example,dc=net";
    let port = slapd.port();
    let two = format!("ldapserver=\"127.0.0.9 127.0.0.1\" ldapport={port} {name}");
    let mut pooler = asking(&fake, &two).start().await;
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, "in");

    let none = format!("ldapserver=127.0.0.9 ldapport={port} {name}");
    ask_instead(&mut pooler, &none).await;
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, REFUSED);
    let line = pooler
        .wait_for_log(&format!("LDAP: 127.0.0.9:{port}"))
        .await;
    assert!(line.contains("Connection refused"), "{line}");
}

/// How alice fares with each way of encrypting, and what the log has against it.
async fn encrypted(setup: PoolerSetup, slapd: &Slapd) -> String {
    let mut pooler = setup.start().await;
    let (port, tls_port) = (slapd.port(), slapd.tls_port());
    let name = "ldapprefix=uid= ldapsuffix=,ou=people,dc=example,dc=net";
    let mut table = String::new();
    for options in [
        format!("ldapserver=localhost ldapscheme=ldaps ldapport={tls_port} {name}"),
        format!("ldapserver=localhost ldaptls=1 ldapport={port} {name}"),
        format!("ldapurl=ldaps://localhost:{tls_port}/dc=example,dc=net?uid?sub"),
        format!("ldapserver=127.0.0.1 ldapscheme=ldaps ldapport={tls_port} {name}"),
    ] {
        ask_instead(&mut pooler, &options).await;
        let before = pooler.log_count("LDAP: ");
        let login = outcome(&pooler, "alice", "secret", "shop").await;
        let mut why = login.clone();
        if login == REFUSED {
            let line = pooler.wait_for_log_count("LDAP: ", before + 1).await;
            let (_, told) = line.split_once("LDAP: ").unwrap();
            why = told.replace(&port.to_string(), "PORT");
            why = why.replace(&tls_port.to_string(), "PORT");
        }
        writeln!(table, "{why}").unwrap();
    }
    table
}

#[tokio::test]
async fn tls_wants_a_certificate_that_an_authority_of_ours_vouches_for() {
    let slapd = Slapd::start(&people()).await;
    let fake = FakeServer::start().await;
    let setup = asking(&fake, "ldapserver=localhost ldapprefix=uid=");

    let named = setup
        .clone()
        .file("ca.pem", slapd.ca())
        .file("ldap.conf", "TLS_CACERT {dir}/ca.pem\n")
        .env("LDAPCONF", "{dir}/ldap.conf");
    expect![[r#"
        in
        in
        in
        127.0.0.1:PORT: I/O error: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost")
    "#]].assert_eq(&encrypted(named, &slapd).await);

    let other = Slapd::start("").await;
    let strangers = setup.clone().file("other.pem", other.ca());
    let strangers = strangers.env("LDAPTLS_CACERT", "{dir}/other.pem");
    expect![[r#"
        localhost:PORT: I/O error: invalid peer certificate: BadSignature
        localhost:PORT: I/O error: invalid peer certificate: BadSignature
        localhost:PORT: I/O error: invalid peer certificate: BadSignature
        127.0.0.1:PORT: I/O error: invalid peer certificate: BadSignature
    "#]]
    .assert_eq(&encrypted(strangers, &slapd).await);

    let whoever = setup.env("LDAPTLS_REQCERT", "never");
    expect![[r#"
        in
        in
        in
        in
    "#]]
    .assert_eq(&encrypted(whoever, &slapd).await);
    // Over TLS is over TLS.
    assert!(slapd.log_count("TLS established") >= 6);
}
