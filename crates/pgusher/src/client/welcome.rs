//! The welcome: everything between AuthenticationOk and the first ReadyForQuery.

use std::sync::Arc;

use admin::Console;
use net::PeerAddr;
use nix::unistd::gethostname;
use pool::Reported;
use wire::authentication::AuthRequest;
use wire::backend::{put_key, put_parameter, put_ready};
use wire::error::put_notice;
use wire::{CancelKey, ParamNames, Params, SqlState};

use super::login::AdmittedToConsole;
use super::{Newcomer, Refused};

/// What a welcome takes nearly always, in bytes.
const ROOM: usize = 512;

/// Welcomes a client with what the pool's first server reported, its own values in their place.
/// Returns the client's parameters, complete.
pub(super) async fn to_session(
    newcomer: &mut Newcomer,
    reported: &Reported,
    names: &ParamNames,
    own: Params,
    key: &CancelKey,
    notice: Option<&str>,
) -> Result<Arc<Params>, Refused> {
    let mut out = Vec::with_capacity(ROOM);
    AuthRequest::Ok.encode(&mut out);
    out.extend_from_slice(&reported.untracked);
    let params = settled(own, reported);
    for (place, name) in names.iter().enumerate() {
        if let Some(value) = params.get(place) {
            put_parameter(&mut out, name, value);
        }
    }
    finish(newcomer, out, key, notice).await?;
    Ok(params)
}

/// Welcomes a replication client with what its own server reported.
pub(super) async fn to_replication(
    newcomer: &mut Newcomer,
    reported: &Reported,
    key: &CancelKey,
    notice: Option<&str>,
) -> Result<(), Refused> {
    let mut out = Vec::new();
    AuthRequest::Ok.encode(&mut out);
    for (name, value) in &reported.all {
        put_parameter(&mut out, name, value);
    }
    finish(newcomer, out, key, notice).await
}

async fn finish(
    newcomer: &mut Newcomer,
    mut out: Vec<u8>,
    key: &CancelKey,
    notice: Option<&str>,
) -> Result<(), Refused> {
    put_key(&mut out, key);
    if let Some(text) = notice.filter(|text| !text.is_empty()) {
        put_notice(&mut out, SqlState::SUCCESS, text, None);
    }
    put_ready(&mut out);
    Ok(newcomer.conn.send_all(&out).await?)
}

/// A client's own values, and the server's for the rest. Clients without any share them.
fn settled(mut own: Params, reported: &Reported) -> Arc<Params> {
    own.settle_on(&reported.tracked);
    if own == *reported.tracked {
        reported.tracked.clone()
    } else {
        Arc::new(own)
    }
}

/// Welcomes a client at the console.
pub(super) async fn to_console(
    newcomer: &mut Newcomer,
    admitted: &AdmittedToConsole,
    names: &ParamNames,
    params: &Params,
) -> Result<(), Refused> {
    let mut out = Vec::new();
    AuthRequest::Ok.encode(&mut out);
    let own = names
        .iter()
        .enumerate()
        .filter_map(|(place, name)| Some((name, params.get(place)?)))
        .filter(|(name, _)| *name == "application_name");
    out.extend(Console::welcome(own, admitted.key.key()));
    newcomer.conn.send_all(&out).await?;
    Ok(())
}

/// `application_name_add_host`: the name, or `app`, and where the client comes from.
pub(super) fn add_host(newcomer: &Newcomer, names: &ParamNames, params: &mut Params) {
    let Some(place) = names.find("application_name") else {
        return;
    };
    let name = params.get(place).filter(|name| !name.is_empty());
    let name = name.unwrap_or("app");
    let told = match newcomer.peer {
        PeerAddr::Tcp(_) => format!("{name} - {}", newcomer.peer),
        PeerAddr::Unix { pid, port, .. } => {
            let host = gethostname().unwrap_or_default();
            format!("{name} - unix({pid}@{}):{port}", host.to_string_lossy())
        }
    };
    params.set(place, &told);
}
