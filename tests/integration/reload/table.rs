//! Every setting of the table, changed in the file and taken out again while the process runs.

use settings::{NOT_YET, SETTINGS, Setting, When};
use testkit::{Authority, FakeServer};

use super::shop;
use crate::support::refusal;

/// Another value for each setting than it has here.
fn another(setting: &Setting) -> &'static str {
    match setting.name {
        "admin_users" => "testkit_admin,somebody",
        "auth_file" => "{dir}/users.txt",
        "auth_ldap_options" => "ldapserver=127.0.0.1",
        "auth_type" => "md5",
        "client_tls_ciphers" | "server_tls_ciphers" => "secure",
        "client_tls_dheparams" | "client_tls_ecdhcurve" => "none",
        "client_tls_protocols" | "server_tls_protocols" => "tlsv1.3",
        "logfile" => "{dir}/other.log",
        // These have other values here than by default.
        "pool_mode" => "statement",
        "server_tls_sslmode" => "allow",
        "max_packet_size" => "65536",
        "scram_iterations" => "5000",
        "workers" => "2",
        "conffile" => "{dir}/pooler.ini",
        name if name.contains("_tls13_ciphers") => "TLS_AES_128_GCM_SHA256",
        _ => match (setting.expects, setting.default) {
            ("0 or 1", Some("1")) => "0",
            ("0 or 1", _) => "1",
            ("text" | "words separated by commas", _) => "something",
            ("a path" | "a directory, @name, or nothing", _) => "/nowhere",
            ("a query, <empty>, or nothing", _) => "SELECT 1",
            (expects, _) if expects.contains("number") => "123",
            (expects, _) if expects.starts_with("a database name") => "elsewhere",
            (choices, default) => another_word(choices, default),
        },
    }
}

/// The first of some words that is not the default.
fn another_word(choices: &'static str, default: Option<&str>) -> &'static str {
    let words = choices.split([' ', ',']);
    let mut words = words.filter(|word| !["", "or"].contains(word));
    words.find(|word| Some(*word) != default).unwrap()
}

/// What else must be in the file for the value to make sense.
fn along_with(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "server_tls_negotiation").then_some(("server_tls_sslmode", "require"))
}

#[tokio::test]
async fn every_setting_is_followed_at_once_or_named_as_waiting_for_a_restart() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let fake = FakeServer::start().await;
    let setup = shop(1, &fake)
        .set("server_tls_sslmode", "disable")
        .set("client_tls_cert_file", certificate.cert.display())
        .set("client_tls_key_file", certificate.key.display())
        .file("users.txt", "\"testkit_admin\" \"testkit_admin\"\n");
    let mut pooler = setup.clone().start().await;
    let console = pooler.console().await;
    let config = async || console.show("CONFIG").await;
    let at_first = config().await;
    for setting in SETTINGS {
        let (name, value) = (setting.name, another(setting));
        pooler.rewrite(|_| {
            let changed = setup.clone().set(name, value);
            along_with(name)
                .into_iter()
                .fold(changed, |setup, (key, value)| setup.set(key, value))
        });
        if let Err(error) = console.try_run("RELOAD").await {
            panic!("{name} = {value}: {}\n{}", refusal(&error), pooler.log());
        }
        let line = match setting.when {
            When::AtBoot => format!("RELOAD: {name} acts at the next start only"),
            // It is where it was.
            When::OnReload if name == "conffile" => "RELOAD: 0 settings changed".to_owned(),
            When::OnReload => format!("RELOAD: {name} = "),
        };
        pooler.wait_for_log(&line).await;
        let rests = NOT_YET.iter().any(|row| row.key == name);
        if rests && setting.when == When::OnReload {
            let resting = format!("these settings do not act yet: {name}");
            pooler.wait_for_log(&resting).await;
        }
        let changed = config().await;
        let others = |row: &&testkit::Row| {
            let along = along_with(name).is_some_and(|(key, _)| row["key"] == *key);
            row["key"] != *name && !along
        };
        assert!(
            changed
                .iter()
                .filter(others)
                .eq(at_first.iter().filter(others)),
            "{name} changed another setting"
        );
        let same = changed == at_first;
        let follows = setting.when == When::OnReload && name != "conffile";
        assert_eq!(same, !follows, "{name} = {value}");

        pooler.rewrite(|_| setup.clone());
        console.run("RELOAD").await;
        assert_eq!(config().await, at_first, "{name} was taken out of the file");
    }
}
