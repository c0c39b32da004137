//! The data directory that all throw-away servers start from: made once, copied often.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::account;
use crate::{
    binaries::postgres_dir,
    scratch::{absent_is_fine, lock, shared_dir},
    start_error::StartError,
};

/// Puts a fresh data directory at `target`.
pub(super) fn copy_to(target: &Path) -> Result<(), StartError> {
    let template = template()?;
    run(account().command("cp").arg("-a").arg(template).arg(target))
}

/// The template of the PostgreSQL under test; the first of many processes makes it.
fn template() -> Result<PathBuf, StartError> {
    let io = StartError::io;
    let bin = postgres_dir()?;
    let shared = shared_dir().map_err(io("making the test directory"))?;
    let name = format!("template-{}", version(&bin)?);
    let (ready, unfinished) = (shared.join(&name), shared.join(format!("{name}.new")));
    let _turn = lock(&shared.join(format!("{name}.lock"))).map_err(io("locking the template"))?;
    if ready.exists() {
        return Ok(ready);
    }
    // A run that was killed may have left its half.
    fs::remove_dir_all(&unfinished)
        .or_else(absent_is_fine)
        .map_err(io("clearing a template"))?;
    account()
        .make_dir(&unfinished)
        .map_err(io("making a template"))?;
    let mut initdb = account().command(bin.join("initdb"));
    initdb.args([
        "--no-sync",
        "--no-instructions",
        "--username=postgres",
        "--encoding=UTF8",
    ]);
    initdb.args(["--locale=C", "--wal-segsize=1", "--auth=trust"]);
    run(initdb.arg("-D").arg(&unfinished).current_dir("/"))?;
    fs::rename(&unfinished, &ready).map_err(io("finishing a template"))?;
    Ok(ready)
}

/// `15_18` or so: a template serves the very version that made it.
fn version(bin: &Path) -> Result<String, StartError> {
    let output = Command::new(bin.join("postgres")).arg("--version").output();
    let output = output.map_err(StartError::io("asking PostgreSQL for its version"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or("unknown");
    Ok(version.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}

fn run(command: &mut Command) -> Result<(), StartError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(StartError::io(format!("running {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(StartError::Exited {
        program,
        status: output.status,
        log,
    })
}
