//! JDBC, on a normal day.

use std::path::Path;

use crate::{
    programs::{Place, Running, Script},
    support::{WORKERS, pgusher},
};

/// Where Debian's libpostgresql-jdbc-java puts it.
const JDBC: &str = "/usr/share/java/postgresql.jar";

fn script() -> Script {
    script_of("Jdbc.java")
}

fn script_of(name: &str) -> Script {
    assert!(Path::new(JDBC).exists(), "no JDBC: .ci/install java");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("tests/drivers/jdbc").join(name);
    // It ends before a better compiler would have paid.
    let options = ["-XX:TieredStopAtLevel=1", "-cp", JDBC].map(Into::into);
    Script {
        program: "java".into(),
        args: options.into_iter().chain([source]).collect(),
    }
}

#[tokio::test]
async fn jdbc_shares_servers() {
    script().holds_on_three_servers().await;
}

#[tokio::test]
async fn jdbc_shares_servers_that_forget_statements() {
    script().holds_on_forgetful_servers().await;
}

#[tokio::test]
async fn jdbc_heals_after_ddl_by_its_own_retry() {
    let check = "statementsHealAfterDdl";
    script().holds_on_one_server(check).await;
}

#[tokio::test]
async fn jdbc_finds_in_a_session_what_it_finds_without_a_pooler() {
    script().holds_directly_and_in_sessions().await;
}

#[tokio::test]
async fn jdbc_uses_the_console() {
    let Script { program, args } = script_of("Console.java");
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
    for workers in WORKERS {
        let pooler = pgusher(workers).start().await;
        let running = Running::start(&program, &Place::tcp(pooler.port()), &args);
        let said = running.end().await.well();
        assert!(said.contains("checks hold"), "{said}");
    }
}
