//! What parses but does not act yet.

use crate::config::Config;
use crate::settings::{SETTINGS, Setting, Settings};

/// A setting that does not act yet, but for its default and for the values that `acting` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet {
    /// The key.
    pub key: &'static str,
    /// Values that do what they say, besides the default.
    pub acting: &'static [&'static str],
}

/// Shorthand of the table: no value but the default.
const fn idle(key: &'static str) -> NotYet {
    NotYet { key, acting: &[] }
}

/// Every setting that parses but does not act yet.
pub const NOT_YET: &[NotYet] = &[idle("job_name"), idle("pkt_buf"), idle("sbuf_loopcnt")];

/// The keys of `config` that ask for something which does not act yet, each once.
pub fn not_yet(config: &Config) -> Vec<&'static str> {
    NOT_YET
        .iter()
        .filter(|row| asks_in_settings(row, config))
        .map(|row| row.key)
        .collect()
}

fn asks_in_settings(row: &NotYet, config: &Config) -> bool {
    SETTINGS
        .iter()
        .filter(|setting| setting.name == row.key)
        .any(|setting| !acts(setting, row, config))
}

fn acts(setting: &Setting, row: &NotYet, config: &Config) -> bool {
    let value = setting.show(&config.settings);
    value == setting.show(&Settings::default())
        || value.is_some_and(|value| row.acting.contains(&value.as_str()))
}
