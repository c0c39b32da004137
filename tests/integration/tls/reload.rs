//! Certificates and settings that change while clients are there.

use testkit::{Authority, FakeClient, FakeServer, Pooler, Signal, TlsTunnel};

use super::{asking, assert_refused, believes, psql, serving, shows};
use crate::support::{WORKERS, alice, before, refusal, servers_opened};

/// What psql does that believes this authority alone.
pub(super) async fn strict(pooler: &Pooler, authority: &Authority) -> Result<String, String> {
    let how = format!("host=localhost sslmode=verify-full {}", believes(authority));
    psql(pooler, &how, "SELECT 1").await
}

/// The ways to have files read again.
#[derive(Debug, Clone, Copy)]
enum Way {
    Reload,
    Sighup,
    Set,
}

impl Way {
    async fn go(self, pooler: &mut Pooler, nth: usize) {
        let done = "RELOAD: 0 settings changed";
        match self {
            Self::Reload => pooler.console().await.run("RELOAD").await,
            Self::Sighup => {
                pooler.signal(Signal::SIGHUP);
                pooler.wait_for_log_count(done, nth).await;
            }
            Self::Set => {
                let command = "SET client_tls_sslmode = 'allow'";
                pooler.console().await.run(command).await;
            }
        }
    }
}

#[tokio::test]
async fn new_certificates_are_shown_from_then_on_and_nobody_is_dropped() {
    for workers in WORKERS {
        for way in [Way::Reload, Way::Sighup, Way::Set] {
            let (old, new) = (Authority::new("old"), Authority::new("new"));
            let certificate = old.issue("localhost");
            let server = FakeServer::start().await;
            let setup = before(&server, workers);
            let mut pooler = serving(setup, "allow", &certificate).start().await;
            let tunnel = TlsTunnel::to(&pooler.address()).await;
            let mut client = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
            client.query("BEGIN").await;
            assert_eq!(strict(&pooler, &old).await.as_deref(), Ok("1"));
            let opened = servers_opened(&pooler).await;

            new.issue("localhost").replace(&certificate);
            assert_eq!(strict(&pooler, &old).await.as_deref(), Ok("1"), "not yet");
            way.go(&mut pooler, 1).await;
            assert_eq!(strict(&pooler, &new).await.as_deref(), Ok("1"), "{way:?}");
            assert_refused(strict(&pooler, &old).await, "certificate verify failed");
            assert_eq!(client.query_value("SELECT 'here'").await, "here");
            client.query("COMMIT").await;
            assert_eq!(servers_opened(&pooler).await, opened, "servers stay");
        }
    }
}

#[tokio::test]
async fn new_authorities_judge_those_who_come_from_then_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = FakeServer::start().await;
    let mut pooler = asking(before(&server, 1), &old.issue("localhost"), &old)
        .set("client_tls_sslmode", "verify-ca")
        .start()
        .await;
    let how = |authority: &Authority| format!("sslmode=require {}", shows(&authority.issue("a")));
    let (of_old, of_new) = (how(&old), how(&new));
    assert_eq!(psql(&pooler, &of_old, "SELECT 1").await.as_deref(), Ok("1"));
    assert_refused(psql(&pooler, &of_new, "SELECT 1").await, "alert unknown ca");

    new.certificate().replace(old.certificate());
    pooler.signal(Signal::SIGHUP);
    pooler.wait_for_log("RELOAD: 0 settings changed").await;
    assert_eq!(psql(&pooler, &of_new, "SELECT 1").await.as_deref(), Ok("1"));
    assert_refused(psql(&pooler, &of_old, "SELECT 1").await, "alert unknown ca");
}

#[tokio::test]
async fn a_bad_file_leaves_everything_as_it_was_and_says_why() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let server = FakeServer::start().await;
    let setup = before(&server, 1);
    let mut pooler = serving(setup, "allow", &certificate).start().await;
    for (key, value, reason) in [
        (
            "client_tls_cert_file",
            "'/nowhere'",
            "failed to load certificate file \"/nowhere\": No such file or directory",
        ),
        (
            "client_tls_key_file",
            "'/nowhere'",
            "failed to load private key file \"/nowhere\": No such file or directory",
        ),
        (
            "client_tls_ciphers",
            "blah",
            "invalid client_tls_ciphers: blah",
        ),
        (
            "client_tls_protocols",
            "bogus",
            "invalid client_tls_protocols: bogus",
        ),
        (
            "server_tls13_ciphers",
            "blah",
            "failed to set the TLSv1.3 cipher suites",
        ),
    ] {
        let mut console = console(&pooler).await;
        let answer = console.query(&format!("SET {key} = {value}")).await;
        let told = testkit::transcript(&answer);
        let notice = "TLS settings could not be applied, still using old configuration";
        assert!(
            told.contains(notice) && told.contains(&format!("SET {key}=")),
            "{told}"
        );
        pooler
            .wait_for_log(&format!("TLS setup failed: {reason}"))
            .await;
        assert_eq!(strict(&pooler, &authority).await.as_deref(), Ok("1"));
        pooler.console().await.run("RELOAD").await;
    }
    // The files themselves go bad.
    std::fs::write(&certificate.cert, "gone").unwrap();
    pooler.rewrite(|setup| setup.set("query_timeout", 100));
    let console = pooler.console().await;
    let failed = pooler.log_count("TLS setup failed: ");
    let told = console.try_run("RELOAD").await.unwrap_err();
    assert_eq!(
        refusal(&told),
        "ERROR F0000 RELOAD failed, see logs for additional details"
    );
    pooler
        .wait_for_log_count("TLS setup failed: ", failed + 1)
        .await;
    assert_eq!(strict(&pooler, &authority).await.as_deref(), Ok("1"));
    assert_eq!(console.setting("query_timeout").await, "0");
    // And are mended.
    authority.issue("localhost").replace(&certificate);
    pooler.reload(|setup| setup).await;
    assert_eq!(strict(&pooler, &authority).await.as_deref(), Ok("1"));
    assert_eq!(console.setting("query_timeout").await, "100");
}

pub(super) async fn console(pooler: &Pooler) -> FakeClient {
    let mut console = FakeClient::connect(&pooler.address()).await;
    let login = [("user", "testkit_admin"), ("database", "pgbouncer")];
    console.startup(&login).await;
    console.read_auth_ok().await;
    console.read_welcome().await;
    console
}

#[tokio::test]
async fn a_bad_file_at_the_start_is_the_end_and_check_says_so_too() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let bad = || {
        serving(crate::support::trusting(1), "require", &certificate)
            .set("client_tls_key_file", "/nowhere")
    };
    for setup in [bad(), bad().arg("--check")] {
        let exit = setup.run_to_exit().await;
        assert!(!exit.status.success());
        let expected = "TLS setup failed: failed to load private key file \"/nowhere\": No such";
        assert!(exit.log.contains(expected), "{}", exit.log);
    }
}

#[tokio::test]
async fn tls_is_switched_on_and_off_by_set() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let server = FakeServer::start().await;
    let pooler = before(&server, 1).start().await;
    assert!(psql(&pooler, "sslmode=require", "SELECT 1").await.is_err());
    let console = pooler.console().await;
    // Each alone can't be followed yet.
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    console.run("SET client_tls_sslmode = 'require'").await;
    assert!(psql(&pooler, "sslmode=disable", "SELECT 1").await.is_ok());
    console
        .run(&format!("SET client_tls_cert_file = '{cert}'"))
        .await;
    console
        .run(&format!("SET client_tls_key_file = '{key}'"))
        .await;
    assert_eq!(
        psql(&pooler, "sslmode=require", "SELECT 1")
            .await
            .as_deref(),
        Ok("1")
    );
    assert_refused(
        psql(&pooler, "sslmode=disable", "SELECT 1").await,
        "SSL required",
    );
    console.run("SET client_tls_sslmode = 'disable'").await;
    assert!(psql(&pooler, "sslmode=require", "SELECT 1").await.is_err());
    assert!(psql(&pooler, "sslmode=disable", "SELECT 1").await.is_ok());
}

#[tokio::test]
async fn changed_tls_with_servers_replaces_them_and_unchanged_does_not() {
    for workers in WORKERS {
        let authority = Authority::new("authority");
        let certificate = authority.issue("us");
        let server = FakeServer::start().await;
        let mut pooler = before(&server, workers)
            .set("server_tls_cert_file", certificate.cert.display())
            .set("server_tls_key_file", certificate.key.display())
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query_value("SELECT 1").await;
        let opened = servers_opened(&pooler).await;
        let mut seen = async |pooler: &Pooler| {
            client.query_value("SELECT 1").await;
            servers_opened(pooler).await - opened
        };
        pooler.reload(|setup| setup).await;
        pooler.reload(|setup| setup.set("query_timeout", 100)).await;
        pooler
            .console()
            .await
            .run("SET client_tls_ciphers = 'HIGH'")
            .await;
        assert_eq!(seen(&pooler).await, 0, "nothing changed");

        pooler
            .console()
            .await
            .run("SET server_tls_protocols = 'tlsv1.3'")
            .await;
        assert_eq!(seen(&pooler).await, 1);
        pooler
            .wait_for_log("closing because: database configuration changed")
            .await;
        // RELOAD undoes what was SET.
        pooler.reload(|setup| setup).await;
        assert_eq!(seen(&pooler).await, 2);
        // A file changed, though its name did not.
        authority.issue("us").replace(&certificate);
        pooler.reload(|setup| setup).await;
        assert_eq!(seen(&pooler).await, 3);
        // What can't be followed changes nothing.
        pooler
            .console()
            .await
            .run("SET server_tls_protocols = 'bogus'")
            .await;
        assert_eq!(seen(&pooler).await, 3);
    }
}
