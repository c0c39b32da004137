//! `PGUSHER_<KEY>` environment variables, which win over `[pgbouncer]`.

use crate::finding::{Finding, Place, Problem};
use crate::settings::{Setting, Settings, nearest_setting};

/// What such a variable's name begins with.
const PREFIX: &str = "PGUSHER_";

/// A setting that the environment gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
}

/// Sorts the environment into settings and warnings.
///
/// Nothing in it is an error: Kubernetes puts `PGUSHER_PORT=tcp://…` there for a service that
/// happens to be called pgusher.
pub(crate) fn overrides(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Override>, Vec<Finding>) {
    let mut ours: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();

    let mut overrides = Vec::new();
    let mut warnings = Vec::new();
    for (name, value) in ours {
        match read(&name, &value) {
            Ok(setting) => overrides.push(Override { setting, value }),
            Err(problem) => warnings.push(Finding::new(Place::Environment, name, problem)),
        }
    }
    (overrides, warnings)
}

/// The setting that the variable `name` gives the fitting `value` to.
fn read(name: &str, value: &str) -> Result<&'static str, Problem> {
    let key = name[PREFIX.len()..].to_ascii_lowercase();
    let setting = Setting::named(&key).ok_or_else(|| Problem::UnknownKey {
        nearest: nearest_setting(&key),
    })?;
    let mut scratch = Settings::default();
    match scratch.set(setting.name, value) {
        Ok(()) => Ok(setting.name),
        Err(error) => Err(error.problem),
    }
}
