//! The board and the alerts in `etc/` speak of metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Authority, FakeClient, FakeServer, Message, Prometheus, promtool};

use super::{Scrape, told};
use crate::support::alice;

fn etc(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name)
}

/// Every expression of the board, with its variables filled in.
fn of_the_board() -> Vec<String> {
    let board = fs::read_to_string(etc("grafana/pgusher.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|it| it["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|expression| {
            expression
                .replace("$instance", ".*")
                .replace("$database", ".*")
                .replace("$__rate_interval", "1m")
        })
        .collect()
}

/// Every expression of the alerts.
fn of_the_alerts() -> String {
    let rules = fs::read_to_string(etc("prometheus-alerts.yml")).unwrap();
    let lines = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.filter(|line| {
        let field = line.trim_start();
        !["summary", "description", "- alert", "- name"]
            .iter()
            .any(|other| field.starts_with(other))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The words in a text that look like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pgusher_") || word.starts_with("pgbouncer_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_board_and_the_alerts_ask_for_metrics_that_there_are() {
    let authority = Authority::new("ours");
    let certificate = authority.issue("pooler");
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1)
        .set("client_tls_sslmode", "allow")
        .set("client_tls_cert_file", certificate.cert.display())
        .set("client_tls_key_file", certificate.key.display())
        .start()
        .await;
    let mut stranger = FakeClient::connect(&pooler.address()).await;
    stranger
        .startup(&[("user", "alice"), ("database", "none")])
        .await;
    stranger.expect_closed().await;
    let mut client = alice(&pooler).await;
    client.send(Message::query("DIE")).await;
    client.expect_closed().await;
    let mut client = alice(&pooler).await;
    client.query_value("SELECT 1").await;

    let mut asked = metrics_in(&of_the_alerts());
    let board = of_the_board();
    asked.extend(board.iter().flat_map(|expression| metrics_in(expression)));
    assert!(asked.len() > 20, "{asked:?}");
    let scrape = Scrape::of(&pooler).await;
    let there: BTreeSet<_> = scrape.names().map(str::to_owned).collect();
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let prometheus = Prometheus::start(pooler.metrics_port()).await;
    for expression in board {
        let answer = prometheus.query(&expression).await;
        assert!(
            answer.contains("\"status\":\"success\""),
            "{expression}: {answer}"
        );
    }
}

#[tokio::test]
async fn certificates_tell_when_they_end() {
    let authority = Authority::new("ours");
    let certificate = authority.request("pooler").days(30).issue();
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1)
        .set("client_tls_sslmode", "allow")
        .set("client_tls_cert_file", certificate.cert.display())
        .set("client_tls_key_file", certificate.key.display())
        .start()
        .await;
    let scrape = Scrape::of(&pooler).await;
    let end = scrape.value("pgusher_tls_cert_expiry_timestamp_seconds{side=\"clients\"}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = (end - now.unwrap().as_secs_f64()) / 86400.0;
    assert!((29.0..=31.0).contains(&days), "{days}");
}

/// What each alert is to say, for `promtool test rules`: one that fires, and one that does not.
const CASES: &str = r#"
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'up{job="pgusher", instance="gone"}'
        values: '0x20'
      - series: 'up{job="pgusher", instance="here"}'
        values: '1x20'
      - series: 'pgusher_seats{database="full", user="u", state="active"}'
        values: '17x20'
      - series: 'pgusher_seats{database="full", user="u", state="idle"}'
        values: '3x20'
      - series: 'pgusher_seat_limit{database="full", user="u"}'
        values: '20x20'
      - series: 'pgusher_seats{database="calm", user="u", state="active"}'
        values: '3x20'
      - series: 'pgusher_seats{database="calm", user="u", state="idle"}'
        values: '17x20'
      - series: 'pgusher_seat_limit{database="calm", user="u"}'
        values: '20x20'
      - series: 'pgusher_oldest_wait_seconds{database="full", user="u"}'
        values: '9x20'
      - series: 'pgusher_oldest_wait_seconds{database="calm", user="u"}'
        values: '1x20'
      - series: 'pgusher_backend_up{database="full"}'
        values: '0x20'
      - series: 'pgusher_backend_up{database="calm"}'
        values: '1x20'
      - series: 'pgusher_config_reload_success{instance="bad"}'
        values: '0x20'
      - series: 'pgusher_config_reload_success{instance="good"}'
        values: '1x20'
      - series: 'pgusher_tls_cert_expiry_timestamp_seconds{side="clients"}'
        values: '86400x100'
      - series: 'pgusher_tls_cert_expiry_timestamp_seconds{side="servers"}'
        values: '8640000x100'
    promql_expr_test:
      - {expr: 'count(ALERTS{alertname="PgusherDown", alertstate="firing", instance="gone"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertname="PgusherPoolNearlyFull", alertstate="firing", database="full"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertname="PgusherClientsWait", alertstate="firing", database="full"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertname="PgusherBackendDown", alertstate="firing", database="full"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertname="PgusherReloadFailed", alertstate="firing", instance="bad"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertname="PgusherCertificateEnds", alertstate="firing", side="clients"})', eval_time: 80m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertstate="firing"})', eval_time: 10m, exp_samples: [{labels: '{}', value: 5}]}
"#;

#[tokio::test]
async fn each_alert_fires_when_it_should_and_only_then() {
    let scratch = testkit::Scratch::new("alerts").unwrap();
    let rules = etc("prometheus-alerts.yml");
    let rules = rules.to_str().unwrap();
    let (content, said) = promtool(&["check", "rules", rules], "");
    assert!(content, "{said}");
    let cases = format!("rule_files: ['{rules}']\n{CASES}");
    scratch.write("cases.yml", &cases).unwrap();
    let path = scratch.path().join("cases.yml");
    let (content, said) = promtool(&["test", "rules", path.to_str().unwrap()], "");
    assert!(content, "{said}");
}
