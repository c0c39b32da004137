//! The environment of a container, as a configuration.
//!
//! Images of PgBouncer are told by variables where PostgreSQL is. Those of edoburu/pgbouncer and of
//! bitnami/pgbouncer are understood here, each with its image's defaults, and all of them with
//! `PGUSHER_` before their names. They become the texts of an ini and of a user list, which are
//! read like files and never written to one.

mod places;
mod text;
mod url;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::places::{Image, Places};
use self::text::Ini;
use self::variables::{OWN, Variables};
use crate::finding::{Finding, Place, Problem};
use crate::ini::ReadFile;
use crate::settings::{SETTINGS, Setting, Settings};
use crate::values::Password;

/// What the environment asks for.
pub(crate) struct Container {
    /// An ini; of no use if there are findings.
    pub(crate) ini: Ini,
    /// Lines as in an `auth_file`, for users who are not in the real one.
    pub(crate) userlist: Option<Password>,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
    /// What is odd.
    pub(crate) warnings: Vec<Finding>,
    /// The variables that had something to say.
    pub(crate) used: BTreeSet<String>,
}

/// Given to every database that the environment names, if they are there.
const ENTRY_KEYS: [&str; 5] = [
    "pool_size",
    "client_encoding",
    "datestyle",
    "timezone",
    "connect_query",
];

/// The settings whose names in capitals mean something else in many environments.
const NEVER_BARE: [&str; 2] = ["user", "conffile"];

impl Container {
    /// Reads the environment of a container whose ini would be at `path`.
    pub(crate) fn read(path: &Path, environment: &[(String, String)], read: ReadFile) -> Self {
        let mut variables = Variables::new(environment, read);
        let mut ini = Ini::default();
        let image = Image::meant_by(&variables);
        let places = Places::read(image, &mut variables);
        if places.are_none() && variables.findings.is_empty() {
            let nowhere = format!(
                "nothing says where PostgreSQL is: set DATABASE_URL or DB_HOST, or mount {}",
                path.display()
            );
            variables.report("", Problem::Other(nowhere));
        }
        let settings = settings(image, &places, path, &mut variables, read);
        write(&mut ini, &places, &settings, &mut variables);
        let userlist = places.userlist(&mut variables);
        Self {
            ini,
            userlist,
            findings: variables.findings,
            warnings: variables.warnings,
            used: variables.used,
        }
    }

    /// What there is to say if a file says it all: which variables do nothing, and what is wrong
    /// with those that are heard even so.
    pub(crate) fn notes_beside(&self, file: &str) -> Vec<Finding> {
        let of_users = |name: &str| {
            let name = name.trim_start_matches(OWN).trim_end_matches("_FILE");
            OF_USERS.contains(&name)
        };
        let names = self.used.iter().filter(|name| !of_users(name));
        let names = names.map(String::as_str).collect::<Vec<_>>().join(", ");
        let problem = Problem::Other(format!("not used, since {file} is there"));
        let unused = (!names.is_empty()).then(|| Finding::new(Place::Environment, names, problem));
        let wrong = self
            .findings
            .iter()
            .filter(|finding| of_users(&finding.key));
        unused.into_iter().chain(wrong.cloned()).collect()
    }
}

/// What the environment says of users holds beside a file, too.
const OF_USERS: [&str; 5] = [
    "DB_USER",
    "DB_PASSWORD",
    "POSTGRESQL_USERNAME",
    "POSTGRESQL_PASSWORD",
    "PGBOUNCER_USERLIST",
];

/// The lines of `[pgbouncer]`: the image's defaults, what URLs say of TLS, and the variables.
fn settings(
    image: Image,
    places: &Places,
    path: &Path,
    variables: &mut Variables<'_>,
    read: ReadFile,
) -> BTreeMap<&'static str, String> {
    let defaults = image.defaults().iter();
    let mut lines: BTreeMap<_, _> = defaults
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    if let Some(admin) = places.admin(image) {
        lines.insert("admin_users", admin);
    }
    let userlist = path.with_file_name("userlist.txt");
    lines.insert("auth_file", userlist.display().to_string());
    lines.extend(places.tls(variables));
    for setting in SETTINGS {
        if !NEVER_BARE.contains(&setting.name)
            && let Some(value) = setting_variable(setting, image, variables)
        {
            lines.insert(setting.name, value);
        }
    }
    // Most have no such file, and those who have none yet may mount one before a RELOAD.
    let missing = |file: &String| matches!(read(file.as_ref()), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
    if lines.get("auth_file").is_some_and(missing) {
        lines.remove("auth_file");
    }
    lines
}

/// What a variable says of a setting. `PGUSHER_<KEY>` itself is seen to wherever there is an ini.
fn setting_variable(
    setting: &Setting,
    image: Image,
    variables: &mut Variables<'_>,
) -> Option<String> {
    let upper = setting.name.to_ascii_uppercase();
    let given = variables.in_file_only(&format!("PGUSHER_{upper}"));
    let given = given.or_else(|| image.own_name_of(setting.name, variables));
    let given = given
        .or_else(|| variables.exactly(&format!("PGBOUNCER_{upper}")))
        .or_else(|| variables.exactly(&upper))?;
    match Settings::default().set(setting.name, &given.value) {
        Ok(()) => variables.one_line(&given).map(ToOwned::to_owned),
        Err(error) => {
            variables.report(&given.variable, error.problem);
            None
        }
    }
}

fn write(
    ini: &mut Ini,
    places: &Places,
    settings: &BTreeMap<&'static str, String>,
    variables: &mut Variables<'_>,
) {
    let mut shared = Vec::new();
    for key in ENTRY_KEYS {
        let upper = key.to_ascii_uppercase();
        let given = variables.exactly(&format!("PGBOUNCER_{upper}"));
        if let Some(given) = given.or_else(|| variables.get(&upper))
            && let Some(value) = variables.one_line(&given)
        {
            shared.push((key, value.to_owned()));
        }
    }
    ini.section("databases");
    places.write(ini, &shared, variables);
    ini.section("pgbouncer");
    for setting in SETTINGS {
        if let Some(value) = settings.get(setting.name) {
            ini.setting(setting, value);
        }
    }
}

#[cfg(test)]
mod tests;
