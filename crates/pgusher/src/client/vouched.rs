//! Clients whom somebody else vouches for: the kernel (`peer`), or a certificate (`cert`).

use auth::Identity;
use net::PeerAddr;
use net::tls::PeerCertificate;
use nix::unistd::{Uid, User};
use tokio::task::spawn_blocking;

use super::Refused;
use super::recognise::Recognised;
use crate::setup::Setup;

/// Lets a client in whose process runs as the right account of this machine.
pub(super) async fn by_account(
    setup: &Setup,
    peer: PeerAddr,
    who: &Recognised,
    map: Option<&str>,
) -> Result<Identity, Refused> {
    let account = match peer {
        PeerAddr::Unix { uid, .. } => account_name(uid).await,
        PeerAddr::Tcp(_) => None,
    };
    if who.exists() && setup.rules.ident.lets(account.as_deref(), map, &who.user) {
        Ok(Identity::default())
    } else {
        Err(Refused::told("unix socket login rejected"))
    }
}

/// Lets a client in that showed a certificate for the right name. Who showed none has no names.
pub(super) fn by_certificate(
    setup: &Setup,
    shown: Option<&PeerCertificate>,
    who: &Recognised,
    map: Option<&str>,
) -> Result<Identity, Refused> {
    let names = shown.into_iter().flat_map(|shown| {
        let dns_names = shown.dns_names.iter();
        shown
            .common_name
            .iter()
            .chain(dns_names)
            .map(String::as_str)
    });
    if who.exists() && setup.rules.ident.lets(names, map, &who.user) {
        Ok(Identity::default())
    } else {
        Err(Refused::told("certificate authentication failed"))
    }
}

/// An account's name. Some systems ask a directory on the network for it.
async fn account_name(uid: u32) -> Option<String> {
    let find = move || User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let account = spawn_blocking(find).await.ok().flatten()?;
    Some(account.name)
}
