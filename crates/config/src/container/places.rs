//! Where the environment says that PostgreSQL is, and with whom to log in: in the words of two
//! images.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::text::Ini;
use super::url::{Url, split_list};
use super::variables::{Given, OWN, Variables};
use crate::choices::SslMode;
use crate::finding::Problem;
use crate::values::{Password, SettingValue};

/// Whose variables name the databases; the first of them that has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// `PGUSHER_DATABASE_URL` and its like.
    Own,
    /// `DATABASE_URL` or `DB_HOST`.
    Edoburu,
    /// `POSTGRESQL_HOST` or `PGBOUNCER_DATABASE`.
    Bitnami,
}

const DATABASES: [&str; 5] = [
    "DATABASE_URLS",
    "DATABASE_URL",
    "DB_HOST",
    "DB_USER",
    "DB_PASSWORD",
];
const BITNAMI: [&str; 5] = [
    "POSTGRESQL_HOST",
    "POSTGRESQL_USERNAME",
    "POSTGRESQL_PASSWORD",
    "PGBOUNCER_DATABASE",
    "PGBOUNCER_DSN_0",
];

impl Image {
    pub(super) fn meant_by(variables: &Variables<'_>) -> Self {
        let has = |name: &str| variables.has_exactly(name);
        if DATABASES.iter().any(|name| has(&format!("{OWN}{name}"))) {
            Self::Own
        } else if DATABASES.into_iter().any(has) {
            Self::Edoburu
        } else if BITNAMI.into_iter().any(has) {
            Self::Bitnami
        } else {
            Self::Own
        }
    }

    /// What holds unless a variable says otherwise.
    pub(super) fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Own => &[
                ("listen_addr", "0.0.0.0"),
                ("auth_type", "scram-sha-256"),
                ("pool_mode", "transaction"),
                ("ignore_startup_parameters", "extra_float_digits"),
                ("unix_socket_dir", ""),
            ],
            Self::Edoburu => &[
                ("listen_addr", "0.0.0.0"),
                ("listen_port", "5432"),
                ("auth_type", "md5"),
                ("admin_users", "postgres"),
                ("ignore_startup_parameters", "extra_float_digits"),
                ("unix_socket_dir", ""),
            ],
            Self::Bitnami => &[
                ("listen_addr", "0.0.0.0"),
                ("auth_type", "scram-sha-256"),
                ("ignore_startup_parameters", "extra_float_digits"),
                ("unix_socket_dir", ""),
            ],
        }
    }

    /// A setting by a name that only this image has for it.
    pub(super) fn own_name_of(self, setting: &str, variables: &mut Variables<'_>) -> Option<Given> {
        match (self, setting) {
            (Self::Bitnami, "listen_port") => variables.port("PGBOUNCER_PORT"),
            (Self::Bitnami, "listen_addr") => variables.exactly("PGBOUNCER_BIND_ADDRESS"),
            _ => None,
        }
    }
}

/// The databases and the users that the environment names.
#[derive(Default)]
pub(super) struct Places {
    databases: Vec<Database>,
    /// Entries that somebody else has written: `name=connection string`.
    written: Vec<(String, Zeroizing<String>)>,
    users: Vec<(String, Zeroizing<String>)>,
    /// Lines of a user list, by the variable that has them.
    lines: Option<Given>,
    /// TLS settings, each with the variable that gave it.
    tls: Vec<(&'static str, String, String)>,
}

/// One entry of `[databases]`.
struct Database {
    /// The variable that names it.
    variable: String,
    name: String,
    pairs: Vec<(&'static str, Zeroizing<String>)>,
}

const ANY: &str = "*";

impl Places {
    pub(super) fn read(image: Image, variables: &mut Variables<'_>) -> Self {
        let mut places = Self::default();
        match image {
            Image::Own | Image::Edoburu => places.read_edoburu(image, variables),
            Image::Bitnami => places.read_bitnami(variables),
        }
        places
    }

    fn read_edoburu(&mut self, image: Image, variables: &mut Variables<'_>) {
        let user = variables.get("DB_USER");
        let password = variables.get("DB_PASSWORD");
        let of_variables = |url: &mut Url, variables: &mut Variables<'_>| {
            if url.user.is_none() {
                url.user = text(user.as_ref(), variables);
            }
            if url.password.is_none() {
                url.password = password.as_ref().map(|given| given.value.clone());
            }
        };
        if let Some(given) = variables
            .get("DATABASE_URLS")
            .or_else(|| variables.get("DATABASE_URL"))
        {
            for text in split_list(&given.value) {
                match Url::parse(text) {
                    Ok(mut url) => {
                        of_variables(&mut url, variables);
                        self.add(image, &given.variable, url, variables);
                    }
                    Err(expected) => variables.report(&given.variable, Problem::Syntax(expected)),
                }
            }
            return;
        }
        let Some(host) = variables.get("DB_HOST") else {
            if let (Some(user), Some(password)) = (user, password) {
                self.users.push((user.value.to_string(), password.value));
            }
            return;
        };
        let port = variables.port("DB_PORT");
        let name = variables.get("DB_NAME");
        let mut url = Url {
            hosts: text(Some(&host), variables),
            port: text(port.as_ref(), variables),
            database: text(name.as_ref(), variables),
            ..Url::default()
        };
        of_variables(&mut url, variables);
        self.add(image, &host.variable, url, variables);
    }

    /// Takes up a database as edoburu's image does: clients log in as themselves, and the user of
    /// the URL is one of them, and the one who asks for the others.
    fn add(&mut self, image: Image, variable: &str, url: Url, variables: &mut Variables<'_>) {
        let name = url.database.clone().unwrap_or_else(|| ANY.to_owned());
        let Some(hosts) = url.hosts else {
            variables.report(variable, Problem::Syntax("a host"));
            return;
        };
        let port = url.port.unwrap_or_else(|| "5432".to_owned());
        let mut pairs = vec![("host", hosts), ("port", port)];
        match (&url.user, image) {
            (Some(user), _) => pairs.push(("auth_user", user.clone())),
            (None, Image::Edoburu) => pairs.push(("auth_user", "postgres".to_owned())),
            (None, _) => {}
        }
        let mut ignored = Vec::new();
        for (key, value) in url.parameters {
            match key.as_str() {
                "client_encoding" => pairs.push(("client_encoding", value)),
                "application_name" => pairs.push(("application_name", value)),
                "sslmode" => self.ask_tls("server_tls_sslmode", value, variable),
                // What the system trusts is what holds without a file.
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => self.ask_tls("server_tls_ca_file", value, variable),
                "sslcert" => self.ask_tls("server_tls_cert_file", value, variable),
                "sslkey" => self.ask_tls("server_tls_key_file", value, variable),
                _ => ignored.push(key),
            }
        }
        if !ignored.is_empty() {
            let problem = format!("these parameters are not used: {}", ignored.join(", "));
            variables.warn(variable, Problem::Other(problem));
        }
        if let (Some(user), Some(password)) = (url.user, url.password) {
            self.users.push((user, password));
        }
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key, Zeroizing::new(value)));
        self.databases.push(Database {
            variable: variable.to_owned(),
            name,
            pairs: pairs.collect(),
        });
    }

    fn ask_tls(&mut self, setting: &'static str, value: String, variable: &str) {
        self.tls.push((setting, value, variable.to_owned()));
    }

    fn read_bitnami(&mut self, variables: &mut Variables<'_>) {
        for number in 0.. {
            let Some(given) = variables.get(&format!("PGBOUNCER_DSN_{number}")) else {
                break;
            };
            let Some(line) = variables.one_line(&given) else {
                continue;
            };
            match line.split_once('=') {
                Some((name, connection)) => {
                    let connection = Zeroizing::new(connection.trim().to_owned());
                    self.written.push((name.trim().to_owned(), connection));
                }
                None => {
                    variables.report(&given.variable, Problem::Syntax("name=connection string"))
                }
            }
        }
        let user = variables.get("POSTGRESQL_USERNAME");
        let user = text(user.as_ref(), variables).unwrap_or_else(|| "postgres".to_owned());
        let password = variables
            .get("POSTGRESQL_PASSWORD")
            .map(|given| given.value);
        self.lines = variables.get("PGBOUNCER_USERLIST");

        let host = variables.get("POSTGRESQL_HOST");
        if host.is_some() || self.written.is_empty() {
            self.add_bitnami(host, &user, password.as_ref(), variables);
        }
        if let Some(password) = password {
            self.users.push((user, password));
        }
    }

    fn add_bitnami(
        &mut self,
        host: Option<Given>,
        user: &str,
        password: Option<&Zeroizing<String>>,
        variables: &mut Variables<'_>,
    ) {
        let mut or = |given: Option<Given>, default: &str| {
            text(given.as_ref(), variables).unwrap_or_else(|| default.to_owned())
        };
        let host = or(host, "postgresql");
        let mut pairs = vec![("host", Zeroizing::new(host))];
        let port = variables.port("POSTGRESQL_PORT");
        let port = text(port.as_ref(), variables).unwrap_or_else(|| "5432".to_owned());
        pairs.push(("port", Zeroizing::new(port)));
        let name = variables.get("PGBOUNCER_DATABASE");
        let name = text(name.as_ref(), variables).unwrap_or_else(|| "postgres".to_owned());
        let database = variables.get("POSTGRESQL_DATABASE");
        if let Some(database) = text(database.as_ref(), variables).filter(|_| name != ANY) {
            pairs.push(("dbname", Zeroizing::new(database)));
        }
        if is_yes(variables.get("PGBOUNCER_SET_DATABASE_USER")) {
            pairs.push(("user", Zeroizing::new(user.to_owned())));
        }
        if is_yes(variables.get("PGBOUNCER_SET_DATABASE_PASSWORD")) {
            pairs.extend(password.map(|password| ("password", password.clone())));
        }
        self.databases.push(Database {
            variable: "PGBOUNCER_DATABASE".to_owned(),
            name,
            pairs,
        });
    }

    /// Whether the environment names no database at all.
    pub(super) fn are_none(&self) -> bool {
        self.databases.is_empty() && self.written.is_empty()
    }

    /// Who may do everything on the console, unless the image names somebody itself.
    pub(super) fn admin(&self, image: Image) -> Option<String> {
        let (user, _) = self.users.first().filter(|_| image != Image::Edoburu)?;
        Some(user.clone())
    }

    /// What URLs say of TLS. It holds for all servers, so they have to agree.
    pub(super) fn tls(&self, variables: &mut Variables<'_>) -> BTreeMap<&'static str, String> {
        let mut asked: BTreeMap<&'static str, String> = BTreeMap::new();
        for (setting, value, variable) in &self.tls {
            if *setting == "server_tls_sslmode" && SslMode::parse(value).is_none() {
                let (value, expected) = (value.clone(), SslMode::EXPECTS);
                variables.report(variable, Problem::Value { value, expected });
            } else if asked.get(setting).is_some_and(|other| other != value) {
                let problem = format!("{setting} holds for all servers, and the URLs differ in it");
                variables.report(variable, Problem::Other(problem));
            } else {
                asked.insert(setting, value.clone());
            }
        }
        asked
    }

    /// Writes the entries, each with what all of them share.
    pub(super) fn write(
        &self,
        ini: &mut Ini,
        shared: &[(&'static str, String)],
        variables: &mut Variables<'_>,
    ) {
        let mut names = Vec::new();
        for database in &self.databases {
            let (name, pairs) = (&database.name, &database.pairs);
            let texts = pairs.iter().map(|(_, value)| value.as_str());
            if !texts.chain([name.as_str()]).all(fits_a_line) {
                variables.report(&database.variable, Problem::Syntax("one line of UTF-8"));
            } else if names.contains(&name) {
                let problem = format!("two databases are called {name}");
                variables.report(&database.variable, Problem::Other(problem));
            } else {
                let own = pairs.iter().map(|(key, value)| (*key, value.as_str()));
                let shared = shared.iter().map(|(key, value)| (*key, value.as_str()));
                let shared = shared.filter(|(key, _)| pairs.iter().all(|(own, _)| own != key));
                ini.database(name, &own.chain(shared).collect::<Vec<_>>());
                names.push(name);
            }
        }
        for (name, connection) in &self.written {
            ini.database_as_is(name, connection);
        }
    }

    /// The users and their secrets, as lines of an `auth_file`.
    pub(super) fn userlist(&self, variables: &mut Variables<'_>) -> Option<Password> {
        let mut text = Zeroizing::new(String::new());
        for (user, password) in &self.users {
            if !fits_a_line(user) || !fits_a_line(password) {
                variables.report(
                    "",
                    Problem::Syntax("a user and a password of one line each"),
                );
                continue;
            }
            for (word, end) in [(user.as_str(), ' '), (password.as_str(), '\n')] {
                text.push('"');
                text.push_str(&Zeroizing::new(word.replace('"', "\"\"")));
                text.push('"');
                text.push(end);
            }
        }
        if let Some(given) = &self.lines {
            text.push_str(&given.value);
        }
        (!text.is_empty()).then(|| Password::new(&text))
    }
}

fn text(given: Option<&Given>, variables: &mut Variables<'_>) -> Option<String> {
    variables.one_line(given?).map(ToOwned::to_owned)
}

fn is_yes(given: Option<Given>) -> bool {
    let words = ["yes", "true", "1"];
    given.is_some_and(|given| words.contains(&given.value.to_ascii_lowercase().as_str()))
}

fn fits_a_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\0', char::REPLACEMENT_CHARACTER])
}
