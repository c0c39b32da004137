//! Rules between settings: what PgBouncer, too, would refuse to start with.

use std::time::Duration;

use crate::choices::{AuthType, SslMode};
use crate::finding::Problem;
use crate::settings::Settings;

/// Highest peer_id that a cancel key can carry.
const PEER_ID_MAX: u16 = 16383;

/// A setting at odds with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) key: &'static str,
    pub(crate) problem: Problem,
}

/// Everything in `settings` that cannot hold together.
pub(crate) fn conflicts(settings: &Settings) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    let mut refuse = |refused: bool, key, problem| {
        if refused {
            conflicts.push(Conflict { key, problem });
        }
    };

    let tls = settings.client_tls_sslmode;
    let is_tls = tls != SslMode::Disable;
    let no_ca = settings.client_tls_ca_file.is_none();
    let is_cert = settings.auth_type == AuthType::Cert;

    refuse(
        settings.auth_type == AuthType::Hba && settings.auth_hba_file.is_none(),
        "auth_type",
        Problem::Needs("auth_hba_file"),
    );
    refuse(
        is_cert && tls != SslMode::VerifyFull,
        "auth_type",
        Problem::Needs("client_tls_sslmode = verify-full"),
    );
    refuse(
        is_tls && settings.client_tls_key_file.is_none(),
        "client_tls_sslmode",
        Problem::Needs("client_tls_key_file"),
    );
    refuse(
        is_tls && settings.client_tls_cert_file.is_none(),
        "client_tls_sslmode",
        Problem::Needs("client_tls_cert_file"),
    );
    refuse(
        tls == SslMode::VerifyFull && no_ca,
        "client_tls_sslmode",
        Problem::Needs("client_tls_ca_file"),
    );
    refuse(
        settings.peer_id > PEER_ID_MAX,
        "peer_id",
        Problem::Value {
            value: settings.peer_id.to_string(),
            expected: "a whole number from 0 to 16383",
        },
    );
    refuse(
        settings.session_backend_pid && settings.peer_id != 0,
        "session_backend_pid",
        Problem::Needs("peer_id = 0"),
    );
    refuse(
        settings.stats_period < Duration::from_secs(1),
        "stats_period",
        Problem::Value {
            value: settings.stats_period.as_secs_f64().to_string(),
            expected: "1 second or more",
        },
    );
    conflicts
}
