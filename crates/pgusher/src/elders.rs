//! Processes that we took over from and that still serve their clients: their cancel requests come
//! to us now.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use net::dial::{Encryption, dial};
use net::stream::Target;
use pool::server::cancel::land;
use wire::CancelKey;

use crate::setup::Setup;

/// The doors at which those processes can be reached.
#[derive(Debug, Default)]
pub(crate) struct Elders(Mutex<Vec<PathBuf>>);

impl Elders {
    /// These are all there are.
    pub(crate) fn replace(&self, doors: Vec<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    /// Their doors.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        let doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doors.clone()
    }

    /// Brings a request to whichever of them has its client; returns when it has landed.
    pub(crate) async fn pass_on(&self, setup: &Setup, key: &CancelKey) {
        for door in self.doors() {
            if let Err(error) = carry(setup, &door, key).await {
                tracing::debug!("{}: {error}", door.display());
                self.forget_if_gone(&door);
            }
        }
    }

    /// A process removes its door when it ends.
    fn forget_if_gone(&self, door: &Path) {
        if !door.exists() {
            let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            doors.retain(|known| known != door);
        }
    }
}

async fn carry(setup: &Setup, door: &Path, key: &CancelKey) -> io::Result<()> {
    let target = Target::Unix(door.to_owned());
    let dialled = dial(&target, &setup.tcp_options(), Encryption::Never).await;
    let wait = setup.config.settings.cancel_wait_timeout;
    let wait = Some(wait).filter(|wait| !wait.is_zero());
    land(dialled.map_err(io::Error::other)?, key, wait).await
}
