//! A directory and the processes that live in it, gone with the test however the test ends.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

use crate::account::Account;

/// A temporary directory, removed on drop or when the test is killed.
pub struct Scratch {
    path: PathBuf,
    account: Account,
    guarded: Mutex<BTreeSet<u32>>,
    guardian: Child,
}

/// Lists the processes that the guardian ends; inside the directory.
const GUARDED: &str = "guarded";

/// Reads a word of farewell; if the pipe just closes, the test was killed and we clean up.
///
/// A parent-death signal would not do: it fires when the *thread* that made the child ends.
const GUARDIAN: &str = r#"
read -r farewell && exit 0
tell() { while read -r pid; do kill -s "$1" "$pid"; done < "$2/guarded"; }
tell QUIT "$1"
tell CONT "$1"
sleep 1
tell KILL "$1"
rm -rf "$1"
"#;

impl Scratch {
    /// Makes a directory owned by the account that servers run as.
    pub fn new(label: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let account = Account::for_servers();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("pgusher-{label}-{}-{number}", id()));
        // A former process of our number may have left one behind.
        fs::remove_dir_all(&path).or_else(absent_is_fine)?;
        account.make_dir(&path)?;
        fs::write(path.join(GUARDED), "")?;
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            path,
            account,
            guarded: Mutex::default(),
            guardian,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that the servers' account owns; a new one is for its eyes alone.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let is_new = !path.exists();
        fs::write(&path, text)?;
        if is_new {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        self.account.own(&path)?;
        Ok(path)
    }

    /// From now on this process dies with the test.
    pub(crate) fn guard(&self, pid: u32) {
        self.change_guarded(|guarded| guarded.insert(pid));
    }

    /// The process is gone: its number may soon be another's.
    pub(crate) fn unguard(&self, pid: u32) {
        self.change_guarded(|guarded| guarded.remove(&pid));
    }

    fn change_guarded(&self, change: impl FnOnce(&mut BTreeSet<u32>) -> bool) {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut guarded) {
            let lines: String = guarded.iter().map(|pid| format!("{pid}\n")).collect();
            // Renamed into place, so that the guardian never reads half a list. If the disk is
            // full the test has worse troubles than a process left over.
            let new = self.path.join("guarded.new");
            let _ = fs::write(&new, lines).and_then(|()| fs::rename(&new, self.path.join(GUARDED)));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.guardian.stdin.take() {
            let _ = pipe.write_all(b"farewell\n");
        }
        let _ = self.guardian.wait();
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A directory shared by all tests of this user, kept between runs.
pub(crate) fn shared_dir() -> io::Result<PathBuf> {
    let path = env::temp_dir().join(format!("pgusher-testkit-{}", Uid::effective()));
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Waits until no other test holds the lock of that name.
pub(crate) fn lock(path: &Path) -> io::Result<Flock<fs::File>> {
    Flock::lock(lock_file(path)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Takes the lock of that name unless somebody holds it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Flock<fs::File>>> {
    Ok(Flock::lock(lock_file(path)?, FlockArg::LockExclusiveNonblock).ok())
}

fn lock_file(path: &Path) -> io::Result<fs::File> {
    fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

pub(crate) fn absent_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_test_leaves_neither_processes_nor_files() {
        let mut scratch = Scratch::new("killed").unwrap();
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        scratch.guard(sleeper.id());

        // The pipe closes without a farewell, as the kernel does it for the dead.
        drop(scratch.guardian.stdin.take());

        assert!(!sleeper.wait().unwrap().success());
        scratch.guardian.wait().unwrap();
        assert!(!scratch.path().exists());
    }
}
