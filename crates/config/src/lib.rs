//! What was asked for, checked.
//!
//! [`Config::load`] turns an ini file and the environment into one [`Config`]: typed, complete,
//! and never edited afterwards. [`PoolSettings`] and [`ClientSettings`] answer what holds for one
//! pool or one client; [`Changes`] tells what a reload has to follow up.

mod annotated;
mod checks;
mod choices;
mod config;
mod connstr;
mod container;
mod database;
mod effective;
mod environment;
mod finding;
mod host;
mod ini;
mod manual;
mod nearest;
mod not_yet;
mod peer;
mod reload;
mod settings;
mod user;
mod values;
mod workers;

pub use crate::annotated::annotated_ini;
pub use crate::choices::{
    AuthType, LoadBalanceHosts, LogFormat, PoolMode, SslMode, StatementErrors, TlsNegotiation,
};
pub use crate::config::Config;
pub use crate::database::{
    CONSOLE_DATABASE, DATABASE_NAME_LEN_MAX, Database, PasswordSource, Servers,
};
pub use crate::effective::{ClientSettings, PoolSettings, StatementSettings};
pub use crate::finding::{ConfigError, Finding, Place, Problem, SettingError};
pub use crate::host::{Host, SocketDir};
pub use crate::ini::{PgBouncerIni, ReadFile};
pub use crate::manual::settings_page;
pub use crate::not_yet::{NOT_YET, NotYet, not_yet};
pub use crate::peer::Peer;
pub use crate::reload::{Changes, DatabaseChange, Membership, SettingChange};
pub use crate::settings::{Row, SETTINGS, Setting, Settings, When};
pub use crate::user::User;
pub use crate::values::{CheckQuery, DbName, List, Millis, Password, SettingValue};
pub use crate::workers::Workers;
