//! The whole configuration: a snapshot that is replaced, never edited.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::config::{File, Map, Value, ValueKind};

use crate::checks::conflicts;
use crate::connstr::PairError;
use crate::container::Container;
use crate::database::{CONSOLE_DATABASE, DATABASE_NAME_LEN_MAX, Database, TEMPLATE};
use crate::environment::overrides;
use crate::finding::{ConfigError, Finding, Place, Problem};
use crate::ini::{PgBouncerIni, ReadFile, Section};
use crate::peer::Peer;
use crate::settings::{SETTINGS, Settings, When};
use crate::user::{USER_NAME_LEN_MAX, User};
use crate::values::Password;

/// Everything that was asked for, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[pgbouncer]`.
    pub settings: Settings,
    /// `[databases]`, without the `*` entry.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// The `*` entry of `[databases]`.
    pub auto_database: Option<Arc<Database>>,
    /// `[users]`.
    pub users: BTreeMap<String, Arc<User>>,
    /// `[peers]`.
    pub peers: BTreeMap<u16, Peer>,
    /// The file it was read from.
    pub path: PathBuf,
    /// What is odd about it without being wrong.
    pub warnings: Vec<Finding>,
    /// Lines as in an `auth_file`, for users who are not in that one.
    pub userlist: Option<Password>,
    /// The ini without its secrets, if it was made from a container's environment.
    pub shown: Option<String>,
}

impl Config {
    /// Reads the file at `path`, layered over by the `PGUSHER_<KEY>` variables of `environment`.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = read(path).map_err(|error| unreadable(&file, &error))?;
        Self::from_text(&file, &text, environment, read)
    }

    /// Reads the file at `path`, or if there is none, what the environment of a container asks for.
    pub fn load_in_container(
        path: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::in_container(path, environment, read)
    }

    pub(crate) fn in_container(
        path: &Path,
        environment: Vec<(String, String)>,
        read: ReadFile,
    ) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let container = Container::read(path, &environment, read);
        match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !container.findings.is_empty() {
                    return Err(ConfigError::new(container.findings));
                }
                let ini = container.ini.whole();
                let config = Self::from_text(&file, ini, environment, read);
                let mut config = config.map_err(ConfigError::of_the_environment)?;
                config.shown = Some(container.ini.shown().to_owned());
                Ok(config.among(container))
            }
            Err(error) => Err(unreadable(&file, &error)),
            Ok(text) => {
                let config = Self::from_text(&file, &text, environment, read)?;
                let notes = container.notes_beside(&file);
                let mut config = config.among(container);
                config.warnings.extend(notes);
                Ok(config)
            }
        }
    }

    /// Reads `text` as if it were the contents of `file`; `read` opens what it includes.
    pub fn from_text(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        read: ReadFile,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let (overrides, warnings) = overrides(environment.iter().cloned());
        let ini = PgBouncerIni {
            file: file.to_owned(),
            read,
        };
        let mut layers = ::config::Config::builder().add_source(File::from_str(text, ini));
        for given in overrides {
            let key = format!("{}.{}", Section::PgBouncer.name(), given.setting);
            let origin = Place::Environment.to_string();
            let value = Value::new(Some(&origin), given.value);
            layers = layers
                .set_override(key, value)
                .map_err(|error| foreign(file, error))?;
        }
        let layered = layers.build().map_err(|error| foreign(file, error))?;
        Builder::new(file, warnings, environment, read).build(layered.cache)
    }

    /// The database that clients call `name`, made from the `*` entry if it has none of its own.
    ///
    /// The console is not among them.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        if let Some(database) = self.databases.get(name) {
            return Some(Arc::clone(database));
        }
        if name.is_empty() || check_database_name(name).is_some() {
            return None;
        }
        let template = self.auto_database.as_deref()?;
        Some(Arc::new(template.for_auto(name)))
    }

    /// The `[users]` entry of `name`.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(Arc::as_ref)
    }

    /// What runs after a reload from `old`: this configuration, but settings that only a restart
    /// can change keep their values.
    pub fn keeping_boot_settings_of(mut self, old: &Self) -> Self {
        let at_boot = SETTINGS.iter().filter(|row| row.when == When::AtBoot);
        at_boot.for_each(|row| row.copy(&mut self.settings, &old.settings));
        self
    }

    /// Takes up the users that a container's environment names, and what is odd about that.
    fn among(mut self, container: Container) -> Self {
        self.warnings
            .retain(|warning| !container.used.contains(&warning.key));
        self.warnings.extend(container.warnings);
        self.userlist = container.userlist;
        self
    }

    /// Every entry of `[databases]`, the `*` one too.
    pub(crate) fn all_databases(&self) -> impl Iterator<Item = &Database> {
        self.databases
            .values()
            .chain(&self.auto_database)
            .map(Arc::as_ref)
    }
}

fn unreadable(file: &str, error: &io::Error) -> ConfigError {
    let reason = error.to_string();
    let problem = Problem::Unreadable { reason };
    Finding::new(Place::File(file.to_owned()), "", problem).into()
}

/// Reads a file; what is not UTF-8 in it is marked, for only comments may hold such bytes.
fn read(path: &Path) -> io::Result<String> {
    let bytes = std::fs::read(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes our own findings back out of the `config` crate's error.
fn foreign(file: &str, error: ::config::ConfigError) -> ConfigError {
    let other = |text| Finding::new(Place::File(file.to_owned()), "", Problem::Other(text));
    match error {
        ::config::ConfigError::FileParse { cause, .. } => match cause.downcast::<ConfigError>() {
            Ok(ours) => *ours,
            Err(cause) => other(cause.to_string()).into(),
        },
        error => other(error.to_string()).into(),
    }
}

/// What is wrong with a database's name.
fn check_database_name(name: &str) -> Option<Problem> {
    let len_max = DATABASE_NAME_LEN_MAX;
    if name == CONSOLE_DATABASE {
        Some(Problem::ReservedName)
    } else if name.len() > len_max {
        Some(Problem::NameTooLong { len_max })
    } else {
        None
    }
}

/// Turns the layered texts into a [`Config`], collecting all that is wrong on the way.
struct Builder {
    file: String,
    config: Config,
    findings: Vec<Finding>,
    /// Where each setting was written, for rules between settings.
    places: BTreeMap<String, Place>,
    /// Where passwords may be that the file only points to.
    environment: Vec<(String, String)>,
    read: ReadFile,
}

/// A key, its text and where it was written.
struct Entry {
    key: String,
    text: String,
    place: Place,
}

impl Builder {
    fn new(
        file: &str,
        warnings: Vec<Finding>,
        environment: Vec<(String, String)>,
        read: ReadFile,
    ) -> Self {
        let settings = Settings {
            conffile: Some(PathBuf::from(file)),
            ..Settings::default()
        };
        let config = Config {
            settings,
            databases: BTreeMap::new(),
            auto_database: None,
            users: BTreeMap::new(),
            peers: BTreeMap::new(),
            path: PathBuf::from(file),
            warnings,
            userlist: None,
            shown: None,
        };
        Self {
            file: file.to_owned(),
            config,
            findings: Vec::new(),
            places: BTreeMap::new(),
            environment,
            read,
        }
    }

    fn build(mut self, layered: Value) -> Result<Config, ConfigError> {
        let mut sections = table(layered);
        let mut entries = |section: Section| {
            let section = sections.remove(section.name());
            entries(section.map(table).unwrap_or_default())
        };
        entries(Section::PgBouncer).for_each(|entry| self.setting(entry));
        entries(Section::Databases).for_each(|entry| self.database(entry));
        entries(Section::Users).for_each(|entry| self.user(entry));
        entries(Section::Peers).for_each(|entry| self.peer(entry));
        self.check();

        if self.findings.is_empty() {
            Ok(self.config)
        } else {
            Err(ConfigError::new(self.findings))
        }
    }

    fn setting(&mut self, entry: Entry) {
        if let Err(error) = self.config.settings.set(&entry.key, &entry.text) {
            self.report(entry.place, error.key, error.problem);
            return;
        }
        self.places.insert(entry.key, entry.place);
    }

    fn database(&mut self, entry: Entry) {
        if let Some(problem) = check_database_name(&entry.key) {
            self.report(entry.place, entry.key, problem);
            return;
        }
        let parsed = Database::parse(&entry.key, &entry.text);
        match parsed.and_then(|database| self.with_password(database)) {
            Ok(database) if entry.key == TEMPLATE => {
                self.config.auto_database = Some(Arc::new(database));
            }
            Ok(database) => {
                let database = Arc::new(database);
                self.config.databases.insert(entry.key, database);
            }
            Err(error) => self.report_pair(entry, error),
        }
    }

    /// Fetches the password that an entry only points to.
    fn with_password(&self, mut database: Database) -> Result<Database, PairError> {
        if let Some(source) = &database.password_source {
            let fetched = source.fetch(&self.environment, self.read);
            let password = fetched.map_err(|problem| PairError::new(source.key(), problem))?;
            database.password = Some(password);
        }
        Ok(database)
    }

    fn user(&mut self, entry: Entry) {
        let len_max = USER_NAME_LEN_MAX;
        if entry.key.len() > len_max {
            self.report(entry.place, entry.key, Problem::NameTooLong { len_max });
            return;
        }
        match User::parse(&entry.key, &entry.text) {
            Ok(user) => {
                self.config.users.insert(entry.key, Arc::new(user));
            }
            Err(error) => self.report_pair(entry, error),
        }
    }

    fn peer(&mut self, entry: Entry) {
        let Some(id) = Peer::parse_id(&entry.key) else {
            let problem = Problem::Value {
                value: entry.key.clone(),
                expected: "a peer id from 1 to 65535",
            };
            self.report(entry.place, entry.key, problem);
            return;
        };
        match Peer::parse(id, &entry.text) {
            Ok(peer) => {
                self.config.peers.insert(id, peer);
            }
            Err(error) => self.report_pair(entry, error),
        }
    }

    fn check(&mut self) {
        for conflict in conflicts(&self.config.settings) {
            let written = self.places.get(conflict.key).cloned();
            let place = written.unwrap_or_else(|| Place::File(self.file.clone()));
            self.report(place, conflict.key, conflict.problem);
        }
    }

    fn report_pair(&mut self, entry: Entry, error: PairError) {
        let key = match error.key.as_str() {
            "" => entry.key,
            key => format!("{}: {key}", entry.key),
        };
        self.report(entry.place, key, error.problem);
    }

    fn report(&mut self, place: Place, key: impl Into<String>, problem: Problem) {
        self.findings.push(Finding::new(place, key, problem));
    }
}

fn table(value: Value) -> Map<String, Value> {
    match value.kind {
        ValueKind::Table(table) => table,
        _ => Map::new(),
    }
}

/// The entries of a section, the later written after the earlier: two names may mean one setting.
fn entries(section: Map<String, Value>) -> impl Iterator<Item = Entry> {
    let entry = |(key, value): (String, Value)| Entry {
        key,
        place: Place::from_origin(value.origin().unwrap_or_default()),
        text: value.kind.to_string(),
    };
    let mut entries: Vec<_> = section.into_iter().map(entry).collect();
    entries.sort_by(|a, b| a.place.cmp(&b.place));
    entries.into_iter()
}

#[cfg(test)]
mod tests;
