//! Where PostgreSQL's programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::start_error::StartError;

/// The directory of the PostgreSQL under test.
///
/// `PGUSHER_TEST_PG_BIN` names it, `PG=18` names a major version; else 15, else the newest.
pub(crate) fn postgres_dir() -> Result<PathBuf, StartError> {
    if let Some(dir) = env::var_os("PGUSHER_TEST_PG_BIN") {
        return holding("postgres", PathBuf::from(dir));
    }
    if let Some(major) = env::var("PG").ok().filter(|major| !major.is_empty()) {
        return holding("postgres", debian_dir(&major))
            .or_else(|_| holding("postgres", fetched_dir(&major)));
    }
    holding("postgres", debian_dir("15")).or_else(|error| newest().ok_or(error))
}

/// A client program (`psql`, `pgbench`): the tested version's, or the one on the PATH.
pub fn client_program(name: &str) -> PathBuf {
    let beside_server = postgres_dir()
        .ok()
        .map(|dir| dir.join(name))
        .filter(|it| it.exists());
    beside_server.unwrap_or_else(|| PathBuf::from(name))
}

fn debian_dir(major: &str) -> PathBuf {
    Path::new("/usr/lib/postgresql").join(major).join("bin")
}

/// Where `make test PG=18` unpacks a version that Debian does not have.
fn fetched_dir(major: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("target/postgres").join(major).join("bin")
}

fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let major = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()?;
    holding("postgres", debian_dir(&major.to_string())).ok()
}

fn holding(program: &str, dir: PathBuf) -> Result<PathBuf, StartError> {
    let path = dir.join(program);
    if path.exists() {
        return Ok(dir);
    }
    Err(StartError::Missing {
        program: path.display().to_string(),
        hint: "install PostgreSQL (make test does), or set PG or PGUSHER_TEST_PG_BIN".into(),
    })
}
