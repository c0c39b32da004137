//! Key exchange, as OpenSSL's users ask for it.

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{DEFAULT_KX_GROUPS, kx_group};

use super::TlsSetupError;

/// What the library offers on its own.
pub(super) fn all() -> Vec<&'static dyn SupportedKxGroup> {
    DEFAULT_KX_GROUPS.to_vec()
}

/// Reads `client_tls_ecdhcurve`: `auto`, or a curve's name. A warning tells what can't be followed.
pub(super) fn parse(
    curve: &str,
) -> Result<(Vec<&'static dyn SupportedKxGroup>, Option<String>), TlsSetupError> {
    let one: &'static dyn SupportedKxGroup = match curve.to_ascii_lowercase().as_str() {
        "auto" | "" => return Ok((all(), None)),
        "none" => {
            let warning = "client_tls_ecdhcurve = none: keys are always exchanged over a curve";
            return Ok((all(), Some(warning.to_owned())));
        }
        "x25519" => kx_group::X25519,
        "prime256v1" | "secp256r1" | "p-256" => kx_group::SECP256R1,
        "secp384r1" | "p-384" => kx_group::SECP384R1,
        "x25519mlkem768" => kx_group::X25519MLKEM768,
        _ => {
            let key = "client_tls_ecdhcurve".to_owned();
            return Err(TlsSetupError::Invalid(key, curve.to_owned()));
        }
    };
    Ok((vec![one], None))
}

/// Reads `client_tls_dheparams`, which has nothing to decide: keys are never exchanged that way.
pub(super) fn judge_dheparams(params: &str) -> Result<Option<String>, TlsSetupError> {
    match params.to_ascii_lowercase().as_str() {
        "auto" | "none" | "" => Ok(None),
        "legacy" => Ok(Some(
            "client_tls_dheparams = legacy: keys are always exchanged over a curve".to_owned(),
        )),
        _ => {
            let key = "client_tls_dheparams".to_owned();
            Err(TlsSetupError::Invalid(key, params.to_owned()))
        }
    }
}

/// OpenSSL's name of a group.
pub(super) fn name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "prime256v1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        other => other.as_str().unwrap_or("-"),
    }
}
