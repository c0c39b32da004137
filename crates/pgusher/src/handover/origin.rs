//! Plain values and what they stand for here: places, parameters, statements, times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use net::stream::Target;
use pool::limits::Scope;
use pool::moving::params_of;
use pool::statements::{Legacy, Statement};
use pool::{PoolKey, Shared};
use settings::{Config, Database};
use wire::{ParamNames, Params};

use super::record::{Bytes, NeedRecord, Place, StatementRecord, TargetRecord, Values};

/// Where a database's servers come from, in words that are compared only: those of one process can
/// serve in another if it says the same.
pub(super) fn origin(config: &Config, database: &Database) -> String {
    let sslmode = config.settings.server_tls_sslmode;
    format!("{:?} {sslmode:?}", database.servers())
}

pub(super) fn place(database: &str, user: &str) -> Place {
    Place {
        database: database.to_owned(),
        user: user.to_owned(),
    }
}

impl From<&PoolKey> for Place {
    fn from(key: &PoolKey) -> Self {
        place(&key.database, &key.user)
    }
}

impl From<Place> for PoolKey {
    fn from(place: Place) -> Self {
        Self {
            database: place.database.into(),
            user: place.user.into(),
        }
    }
}

impl NeedRecord {
    pub(super) fn new(scope: Scope, like: &PoolKey) -> Self {
        let scope = match scope {
            Scope::Pool => 0,
            Scope::Database => 1,
            Scope::User => 2,
        };
        let place = like.into();
        Self { scope, place }
    }

    /// What is in the way.
    pub(super) fn scope(&self) -> Scope {
        match self.scope {
            0 => Scope::Pool,
            1 => Scope::Database,
            _ => Scope::User,
        }
    }
}

/// The tracked parameters by their names.
pub(super) fn values(names: &ParamNames, params: &Params) -> Values {
    let places = names.iter().enumerate();
    places
        .filter_map(|(place, name)| Some((name.to_owned(), params.get(place)?.to_owned())))
        .collect()
}

/// The parameters of these names. Those that agree with others are the same piece of memory.
pub(super) fn params(
    names: &ParamNames,
    values: &Values,
    like: Option<&Arc<Params>>,
) -> Arc<Params> {
    let pairs = values.iter().map(|(name, value)| (&**name, &**value));
    let params = params_of(names, pairs);
    match like {
        Some(like) if **like == params => like.clone(),
        _ => Arc::new(params),
    }
}

pub(super) fn statement(statement: &Statement) -> StatementRecord {
    let Legacy {
        id,
        shape,
        superseded,
    } = statement.legacy();
    StatementRecord {
        id,
        shape,
        superseded,
        definition: statement.definition[..].into(),
    }
}

impl StatementRecord {
    /// What is known of it; `None` if its number can't be one of a process before this one.
    pub(super) fn legacy(&self, shared: &Shared) -> Option<Legacy> {
        let generation = self.id >> pool::shared::GENERATION_BITS;
        (generation < u64::from(shared.generation())).then_some(Legacy {
            id: self.id,
            shape: self.shape,
            superseded: self.superseded,
        })
    }
}

impl From<&Target> for TargetRecord {
    fn from(target: &Target) -> Self {
        use std::os::unix::ffi::OsStrExt;
        match target {
            Target::Tcp(address, name) => Self {
                address: Some(address.to_string()),
                name: name.as_deref().map(str::to_owned),
                path: Bytes::default(),
            },
            Target::Unix(path) => Self {
                address: None,
                name: None,
                path: path.as_os_str().as_bytes().into(),
            },
        }
    }
}

impl TargetRecord {
    /// Where it is; `None` if that is no address.
    pub(super) fn target(&self) -> Option<Target> {
        use std::os::unix::ffi::OsStrExt;
        match &self.address {
            Some(address) => Some(Target::Tcp(
                address.parse().ok()?,
                self.name.as_deref().map(Arc::from),
            )),
            None => Some(Target::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(
                &self.path.0,
            )))),
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    pool::meter::micros(duration)
}

pub(super) fn micros_since_1970(time: SystemTime) -> u64 {
    micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn time_of_day(micros: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_micros(micros))
        .unwrap_or(UNIX_EPOCH)
}
