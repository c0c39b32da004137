//! Passwords that somebody else checks: an LDAP server, or the system's PAM stack.
//!
//! What was typed and found right is what servers are logged in with, too.

use std::sync::Arc;

use auth::{Identity, LdapOptions, Password, read_password};
use net::PeerAddr;
use wire::authentication::AuthRequest;

use super::prove::{send, take_answer};
use super::{Newcomer, Refused};
use crate::pam::{self, PamError};
use crate::setup::Setup;
use crate::worker::Worker;

/// Lets a client in whose password an LDAP server takes.
pub(super) async fn by_ldap(
    worker: &Worker,
    setup: &Setup,
    newcomer: &mut Newcomer,
    user: &Arc<str>,
    options: Arc<LdapOptions>,
) -> Result<Identity, Refused> {
    let password = ask(newcomer).await?;
    let (client, user, typed) = (setup.ldap.clone(), user.clone(), password.clone());
    let check = move || client.check(&options, &user, &typed);
    match newcomer.unless_gone(worker.process.ldap.run(check)).await? {
        Ok(Ok(())) => return Ok(identity(password)),
        Ok(Err(error)) if error.is_users() => {
            tracing::info!("{} LDAP: {error}", newcomer.tag());
        }
        Ok(Err(error)) => tracing::warn!("{} LDAP: {error}", newcomer.tag()),
        Err(error) => tracing::error!("{} LDAP: {error}", newcomer.tag()),
    }
    Err(Refused::told("LDAP authentication failed"))
}

/// Lets a client in whose password the PAM stack takes.
pub(super) async fn by_pam(
    worker: &Worker,
    newcomer: &mut Newcomer,
    user: &Arc<str>,
) -> Result<Identity, Refused> {
    let password = ask(newcomer).await?;
    let from = match newcomer.peer {
        PeerAddr::Tcp(_) => Some(newcomer.peer.addr()),
        PeerAddr::Unix { .. } => None,
    };
    let (user, typed) = (user.clone(), password.clone());
    let check = move || pam::check(&user, &typed, from.as_deref());
    match newcomer.unless_gone(worker.process.pam.run(check)).await? {
        Ok(Ok(())) => return Ok(identity(password)),
        Ok(Err(PamError::Refused(why))) => tracing::info!("{} PAM: {why}", newcomer.tag()),
        Ok(Err(error)) => tracing::warn!("{} PAM: {error}", newcomer.tag()),
        Err(error) => tracing::error!("{} PAM: {error}", newcomer.tag()),
    }
    Err(Refused::told("PAM authentication failed"))
}

/// Has the client type its password, in clear.
async fn ask(newcomer: &mut Newcomer) -> Result<Password, Refused> {
    send(newcomer, &AuthRequest::CleartextPassword).await?;
    let password = take_answer(newcomer, read_password).await?;
    password.map_err(|refusal| Refused::told(refusal.for_client()))
}

fn identity(password: Password) -> Identity {
    Identity {
        password: Some(password),
        scram_keys: None,
    }
}
