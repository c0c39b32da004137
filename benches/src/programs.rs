//! The programs under test, and where they are found.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::Scratch;

use crate::failure::Failure;

/// Copies of the programs: servers run under an account that may not see the originals, and a
/// build during the run must not change what is measured.
pub(crate) struct Programs {
    home: Scratch,
    /// Does PgBouncer bring libraries of its own?
    pgbouncer_has_libraries: bool,
}

const PGBOUNCER: &str = "pgbouncer";
const PGUSHER: &str = "pgusher";
const LIBRARIES: &str = "lib";

impl Programs {
    /// Looks for all, and copies them.
    pub(crate) fn gather(pgusher: &Path) -> Result<Self, Failure> {
        let home = Scratch::new("bench").map_err(Failure::io("making a directory"))?;
        let pgbouncer = find_pgbouncer()?;
        let pgusher = present(pgusher, "cargo build --release --bin pgusher, or --pgusher")?;
        copy(&pgbouncer, &home.path().join(PGBOUNCER))?;
        copy(pgusher, &home.path().join(PGUSHER))?;
        let libraries = libraries_beside(&pgbouncer);
        if let Some(dir) = &libraries {
            copy_all(dir, &home.path().join(LIBRARIES))?;
        }
        Ok(Self {
            home,
            pgbouncer_has_libraries: libraries.is_some(),
        })
    }

    pub(crate) fn pgbouncer(&self) -> PathBuf {
        self.home.path().join(PGBOUNCER)
    }

    pub(crate) fn pgusher(&self) -> PathBuf {
        self.home.path().join(PGUSHER)
    }

    /// Where PgBouncer finds its libraries, unless it is where the system does.
    pub(crate) fn pgbouncer_libraries(&self) -> Option<PathBuf> {
        (self.pgbouncer_has_libraries).then(|| self.home.path().join(LIBRARIES))
    }

    /// What PgBouncer calls itself.
    pub(crate) fn pgbouncer_version(&self) -> String {
        let mut command = Command::new(self.pgbouncer());
        if let Some(dir) = self.pgbouncer_libraries() {
            command.env("LD_LIBRARY_PATH", dir);
        }
        version(command)
    }

    /// What pgusher calls itself.
    pub(crate) fn pgusher_version(&self) -> String {
        version(Command::new(self.pgusher()))
    }
}

/// A program on the PATH.
pub(crate) fn on_path(program: &str, hint: &'static str) -> Result<PathBuf, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    found.ok_or_else(|| missing(Path::new(program), hint))
}

/// As fetched, else as told, else as installed.
fn find_pgbouncer() -> Result<PathBuf, Failure> {
    let fetched = Some(PathBuf::from("target/pgbouncer/usr/sbin/pgbouncer"));
    let told = env::var_os("PGBOUNCER_BIN").map(PathBuf::from);
    let installed = Some(PathBuf::from("/usr/sbin/pgbouncer"));
    let places = [fetched, told, installed];
    (places.into_iter().flatten())
        .find(|path| path.is_file())
        .ok_or_else(|| missing(Path::new(PGBOUNCER), "make bench-setup, or PGBOUNCER_BIN"))
}

/// The libraries of a Debian package that was unpacked and not installed.
fn libraries_beside(pgbouncer: &Path) -> Option<PathBuf> {
    let root = pgbouncer.ancestors().nth(3)?;
    let dir = root
        .join("usr/lib")
        .join(format!("{}-linux-gnu", env::consts::ARCH));
    (root != Path::new("/") && dir.is_dir()).then_some(dir)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Failure> {
    let reading = || format!("reading {}", from.display());
    fs::create_dir(to).map_err(Failure::io("making a directory of libraries"))?;
    for entry in fs::read_dir(from).map_err(Failure::io(reading()))? {
        let entry = entry.map_err(Failure::io(reading()))?;
        if entry.path().is_file() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied =
        fs::copy(from, to).and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o755)));
    copied.map_err(Failure::io(format!("copying {}", from.display())))
}

fn present<'a>(path: &'a Path, hint: &'static str) -> Result<&'a Path, Failure> {
    match path.is_file() {
        true => Ok(path),
        false => Err(missing(path, hint)),
    }
}

fn missing(program: &Path, hint: &'static str) -> Failure {
    Failure::Missing {
        program: program.display().to_string(),
        hint,
    }
}

fn version(mut command: Command) -> String {
    let output = command.arg("--version").output();
    let text = output.map_or_else(
        |error| format!("unknown ({error})"),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
