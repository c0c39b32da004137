//! What is shipped beside the program: examples are true, and files for containers lead to a
//! pooler that starts.

use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Yaml};
use testkit::{Exit, PoolerSetup};

use crate::support::pgusher;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Vec<Yaml<'_>> {
    Yaml::load_from_str(text).unwrap()
}

/// A scalar as a container gets it in its environment.
fn scalar(value: &Yaml) -> String {
    let number = || value.as_integer().map(|number| number.to_string());
    let text = value.as_str().map(str::to_owned).or_else(number);
    text.unwrap_or_else(|| panic!("{value:?}"))
}

/// The files below a directory.
fn files(dir: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(path)
            } else {
                vec![path]
            }
        })
        .collect()
}

async fn passes(check: PoolerSetup) -> Exit {
    let exit = check.arg("--check").run_to_exit().await;
    assert!(exit.status.success(), "{}", exit.log);
    exit
}

#[test]
fn files_for_containers_are_yaml_without_tabs_or_surprises() {
    let all = files(root().join("docker"));
    let is_yaml = |path: &&PathBuf| {
        path.extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml")
    };
    let mut count = 0;
    for path in all.iter().filter(is_yaml) {
        let text = fs::read_to_string(path).unwrap();
        let documents = Yaml::load_from_str(&text);
        let documents = documents.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(documents.iter().all(Yaml::is_mapping), "{}", path.display());
        count += 1;
    }
    assert!(count >= 6, "{count} files");
}

#[tokio::test]
async fn the_pooler_of_compose_starts_from_its_environment() {
    let text = text("docker/compose.yaml").replace("${POSTGRES_PASSWORD:-app}", "app");
    let documents = yaml(&text);
    let services = &documents[0]["services"];
    let pgusher_service = &services["pgusher"];
    let environment = pgusher_service["environment"].as_mapping().unwrap();
    let setup = pgusher(1).without_ini().arg("--entrypoint");
    let setup = environment.iter().fold(setup, |setup, (name, value)| {
        setup.env(&scalar(name), &scalar(value))
    });

    let exit = passes(setup).await;
    assert!(
        exit.log
            .contains("app = host=postgres port=5432 auth_user=app"),
        "{}",
        exit.log
    );
    assert!(!pgusher_service["build"]["dockerfile"].is_badvalue());
    assert!(
        services["postgres"]["image"]
            .as_str()
            .unwrap()
            .contains("timescaledb")
    );
}

#[test]
fn what_compose_mounts_and_prometheus_scrapes_is_there() {
    let compose = text("docker/compose.yaml");
    let documents = yaml(&compose);
    let services = documents[0]["services"].as_mapping().unwrap();
    let volumes = services
        .values()
        .filter_map(|service| service.as_mapping_get("volumes"));
    let volumes: Vec<_> = volumes
        .flat_map(|list| list.as_sequence().unwrap())
        .collect();
    for volume in volumes {
        let source = volume.as_str().unwrap().split(':').next().unwrap();
        if source.starts_with("./") {
            assert!(root().join("docker").join(source).exists(), "{source}");
        }
    }
    let scrape = text("docker/prometheus.yml");
    let target = &yaml(&scrape)[0]["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target.as_str(), Some("pgusher:9127"));
}

#[tokio::test]
async fn the_sidecar_starts_from_a_secret_in_a_file() {
    let sidecar = text("docker/kubernetes/sidecar.yaml");
    let documents = yaml(&sidecar);
    let container = &documents[0]["spec"]["template"]["spec"]["initContainers"][0];
    let mut setup = pgusher(1).without_ini().arg("--entrypoint");
    for variable in container["env"].as_sequence().unwrap() {
        let value = scalar(&variable["value"]);
        setup = setup.env(
            &scalar(&variable["name"]),
            &value.replace("/run/secrets/database", "{dir}"),
        );
    }
    let setup = setup.file("url", "postgres://a:b@db:5432/app?sslmode=require\n");

    let exit = passes(setup).await;
    assert!(
        exit.log.contains("server_tls_sslmode = require"),
        "{}",
        exit.log
    );
    assert!(exit.log.contains("pool_mode = transaction"), "{}", exit.log);
}

#[tokio::test]
async fn the_services_ini_is_one_and_its_peers_are_its_replicas() {
    let service = text("docker/kubernetes/service.yaml");
    let documents = yaml(&service);
    let of_kind = |kind: &str| {
        let found = documents
            .iter()
            .find(|document| document["kind"].as_str() == Some(kind));
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    let ini = of_kind("ConfigMap")["data"]["pgusher.ini"]
        .as_str()
        .unwrap();
    let ini = ini.replace("/run/secrets/pgusher", "{dir}");
    passes(pgusher(1).ini(&ini).env("PGUSHER_PEER_ID", "1")).await;

    let set = &of_kind("StatefulSet")["spec"];
    let peers = ini.lines().filter(|line| line.contains("host=pgusher-"));
    assert_eq!(set["replicas"].as_integer(), Some(peers.count() as i64));
    assert_eq!(set["ordinals"]["start"].as_integer(), Some(1));
    assert_eq!(set["serviceName"].as_str(), Some("pgusher-peers"));
}

#[tokio::test]
async fn the_examples_of_rules_and_users_are_read_without_a_warning() {
    let rules = root().join("etc/hba.conf");
    let check = pgusher(1)
        .set("auth_type", "hba")
        .file("hba.conf", &fs::read_to_string(rules).unwrap())
        .set("auth_hba_file", "{dir}/hba.conf")
        .file(
            "userlist.txt",
            &text("etc/userlist.txt").replace("\n;\"", "\n\""),
        );
    let exit = passes(check).await;
    assert!(!exit.log.contains("warning"), "{}", exit.log);
}
