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
    let out = begin(newcomer);
    let params = settled(own, reported);
    reported.put(out, names, &params);
    finish(newcomer, key, notice).await?;
    Ok(params)
}

/// Welcomes a replication client with what its own server reported.
pub(super) async fn to_replication(
    newcomer: &mut Newcomer,
    reported: &Reported,
    key: &CancelKey,
    notice: Option<&str>,
) -> Result<(), Refused> {
    let out = begin(newcomer);
    for (name, value) in &reported.all {
        put_parameter(out, name, value);
    }
    finish(newcomer, key, notice).await
}

fn begin(newcomer: &mut Newcomer) -> &mut Vec<u8> {
    AuthRequest::Ok.encode(&mut newcomer.said);
    &mut newcomer.said
}

async fn finish(
    newcomer: &mut Newcomer,
    key: &CancelKey,
    notice: Option<&str>,
) -> Result<(), Refused> {
    let out = &mut newcomer.said;
    put_key(out, key);
    if let Some(text) = notice.filter(|text| !text.is_empty()) {
        put_notice(out, SqlState::SUCCESS, text, None);
    }
    put_ready(out);
    newcomer.send_said().await
}

/// A client's own values, and the server's for the rest. Clients without any share them.
fn settled(mut own: Params, reported: &Reported) -> Arc<Params> {
    if own.settle_to(&reported.tracked) {
        return reported.tracked.clone();
    }
    own.settle_on(&reported.tracked);
    Arc::new(own)
}

/// Welcomes a client at the console.
pub(super) async fn to_console(
    newcomer: &mut Newcomer,
    admitted: &AdmittedToConsole,
    params: &Params,
) -> Result<(), Refused> {
    let name = params.get(ParamNames::APPLICATION_NAME);
    let own = name.map(|name| ("application_name", name));
    begin(newcomer).extend(Console::welcome(own, admitted.key.key()));
    newcomer.send_said().await
}

/// `application_name_add_host`: the name, or `app`, and where the client comes from.
pub(super) fn add_host(newcomer: &Newcomer, params: &mut Params) {
    let name = params.application_name();
    let name = if name.is_empty() { "app" } else { &name };
    let told = match newcomer.peer {
        PeerAddr::Tcp(_) => format!("{name} - {}", newcomer.peer),
        PeerAddr::Unix { pid, port, .. } => {
            let host = gethostname().unwrap_or_default();
            format!("{name} - unix({pid}@{}):{port}", host.to_string_lossy())
        }
    };
    params.set(ParamNames::APPLICATION_NAME, &told);
}
