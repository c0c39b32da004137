//! The account that servers run as: PostgreSQL and poolers refuse to be root.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User};

/// The account that servers run as.
#[derive(Clone, Copy)]
pub enum Account {
    /// We are a plain user ourselves.
    Own,
    /// We are root, and step down to this one.
    Plain {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl Account {
    /// Our own account, unless that is root: then `postgres`, else `nobody`.
    pub fn for_servers() -> Self {
        if !Uid::effective().is_root() {
            return Self::Own;
        }
        let known = |name: &str| User::from_name(name).ok().flatten();
        let user = known("postgres").or_else(|| known("nobody"));
        let user = user.expect("a machine with root has an account called nobody");
        Self::Plain {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }
    }

    /// The user id that its processes have.
    pub fn uid(self) -> u32 {
        match self {
            Self::Own => Uid::effective().as_raw(),
            Self::Plain { uid, .. } => uid,
        }
    }

    /// A command that will run under this account.
    pub fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if let Self::Plain { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes a directory that belongs to this account and that others may look into.
    pub(crate) fn make_dir(self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        self.own(path)
    }

    /// Gives a file or directory to this account.
    pub(crate) fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Plain { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }

    /// May this account reach the file through all directories above it?
    pub(crate) fn reaches(self, path: &Path) -> bool {
        const OTHERS_MAY_PASS: u32 = 0o001;
        match self {
            Self::Own => true,
            Self::Plain { .. } => path.ancestors().all(|step| {
                fs::metadata(step).is_ok_and(|it| it.permissions().mode() & OTHERS_MAY_PASS != 0)
            }),
        }
    }
}
