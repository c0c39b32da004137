//! What is shipped beside the program: examples are true, and files for containers lead to a
//! pooler that starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr::{LoadableYamlNode, Yaml};
use testkit::{Exit, PoolerSetup, Scratch, promtool};

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
        if source.starts_with('.') {
            assert!(root().join("docker").join(source).exists(), "{source}");
        }
    }
    let scrape = text("docker/prometheus.yml");
    let target = &yaml(&scrape)[0]["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target.as_str(), Some("pgusher:9127"));

    // The same with the rules where they are here.
    let mounted = "/etc/prometheus/pgusher-alerts.yml";
    assert!(compose.contains(&format!("../etc/prometheus-alerts.yml:{mounted}")));
    let rules = root().join("etc/prometheus-alerts.yml");
    let scratch = Scratch::new("prometheus").unwrap();
    let here = scrape.replace(mounted, rules.to_str().unwrap());
    let path = scratch.write("prometheus.yml", &here).unwrap();
    let (content, said) = promtool(&["check", "config", path.to_str().unwrap()], "");
    assert!(content && said.contains("rules found"), "{said}");
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

/// Runs make at the root of the tree, with the program that is under test.
fn make(arguments: &[&str]) -> String {
    let make = Command::new("make")
        .arg("--no-print-directory")
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_pgusher")))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&make.stderr);
    assert!(make.status.success(), "{told}");
    String::from_utf8_lossy(&make.stdout).into_owned()
}

#[test]
fn make_install_lays_a_tree_that_uninstall_takes_away() {
    let scratch = Scratch::new("install").unwrap();
    let destination = format!("DESTDIR={}", scratch.path().display());
    let usr = scratch.path().join("usr");
    make(&["install", &destination, "PREFIX=/usr", "PGBOUNCER=1"]);

    for name in ["pgusher", "pgbouncer"] {
        let version = Command::new(usr.join("bin").join(name))
            .arg("--version")
            .output();
        let version = String::from_utf8(version.unwrap().stdout).unwrap();
        assert!(
            version.starts_with("PgBouncer 1.25.2 (pgusher "),
            "{version}"
        );
    }
    for path in [
        "man/man1/pgusher.1",
        "doc/pgusher/settings.md",
        "doc/pgusher/examples/hba.conf",
    ] {
        assert!(usr.join("share").join(path).is_file(), "{path}");
    }
    let completions = usr.join("share/bash-completion/completions/pgusher");
    let is_shell = Command::new("bash").arg("-n").arg(completions).status();
    assert!(is_shell.unwrap().success());

    make(&["uninstall", &destination, "PREFIX=/usr"]);
    assert_eq!(files(usr), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_package_starts_with_the_ini_that_it_brings() {
    let scratch = Scratch::new("package").unwrap();
    let dir = scratch.path().display().to_string();
    let packed = Command::new(root().join("packaging/deb"))
        .args([env!("CARGO_BIN_EXE_pgusher"), &dir])
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "0")
        .output()
        .unwrap();
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let package = files(scratch.path().to_owned());
    let package = package
        .iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let tree = scratch.path().join("tree");
    let unpacked = Command::new("dpkg-deb")
        .arg("-x")
        .arg(package.unwrap())
        .arg(&tree)
        .status();
    assert!(unpacked.unwrap().success());

    let ini = fs::read_to_string(tree.join("etc/pgusher/pgusher.ini")).unwrap();
    let set = ini
        .lines()
        .filter(|line| !line.starts_with(';') && line.contains("gusher"));
    assert_eq!(
        set.collect::<Vec<_>>(),
        [
            "auth_file = /etc/pgusher/userlist.txt",
            "logfile = /var/log/pgusher/pgusher.log",
            "pidfile = /run/pgusher/pgusher.pid",
            "unix_socket_dir = /run/pgusher",
        ]
    );
    let check = pgusher(1).ini(&ini.replace("/etc/pgusher", "{dir}"));
    let exit = passes(check).await;
    assert!(!exit.log.contains("warning"), "{}", exit.log);
    let service = fs::read_to_string(tree.join("lib/systemd/system/pgusher.service")).unwrap();
    assert!(service.contains("User=pgusher"), "{service}");
}
