//! What is known of the user who wants in: from the files, or from auth_query.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use auth::{Known, Secret};
use pool::Pool;
use pool::shared::Welcome;
use settings::{CONSOLE_DATABASE, Database};

use super::login::Destination;
use super::{Newcomer, Refused};
use crate::auth_query::{self, Failure, Found, Question};
use crate::process::Process;
use crate::setup::Setup;
use crate::worker::Worker;

/// A user, and what is known of them.
pub(super) struct Recognised {
    /// Who: auth_query may give the user another name than the client did.
    pub(super) user: Arc<str>,
    /// The secret that auth_query brought.
    pub(super) queried: Option<Secret>,
    known: Option<Secret>,
}

impl Recognised {
    /// Whether there is such a user at all.
    pub(super) fn exists(&self) -> bool {
        self.known.is_some()
    }

    /// What a client has to match.
    pub(super) fn known(&self, process: &Process) -> Known {
        match &self.known {
            Some(secret) => Known::Secret {
                secret: secret.clone(),
                // A stored verifier needs nothing derived.
                cached: match secret {
                    Secret::Scram(_) => None,
                    Secret::Plain(_) | Secret::Md5(_) => process.derived(&self.user),
                },
            },
            None => Known::Nobody,
        }
    }
}

/// What the files know of a user. Who is named in `[users]` only exists, but has no password.
pub(super) fn from_files(setup: &Setup, user: &Arc<str>) -> Recognised {
    let listed = setup.userlist.get(user).cloned();
    let defined = || setup.config.user(user).map(|_| Secret::blank());
    Recognised {
        user: user.clone(),
        queried: None,
        known: listed.or_else(defined),
    }
}

/// The same; and if there is no secret in the files, auth_query is asked.
pub(super) async fn recognise(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &mut Newcomer,
    destination: &Destination,
    user: &Arc<str>,
) -> Result<Recognised, Refused> {
    let recognised = from_files(setup, user);
    let settings = &setup.config.settings;
    let has_secret = recognised.known.as_ref().is_some_and(|s| !s.is_blank());
    let database = match destination {
        _ if has_secret => return Ok(recognised),
        Destination::Unknown => return Ok(recognised),
        Destination::Console => None,
        Destination::Database(database) => Some(database),
    };
    let own = |choose: fn(&Database) -> &Option<String>| database.and_then(|d| choose(d).as_ref());
    let Some(auth_user) = own(|d| &d.auth_user).or(settings.auth_user.as_ref()) else {
        return Ok(recognised);
    };
    let sql = own(|d| &d.auth_query).unwrap_or(&settings.auth_query);
    let pool = pool_of(worker, setup, newcomer, database, auth_user)?;
    let question = Question {
        database: pool.shared.key.database.clone(),
        auth_user: pool.shared.key.user.clone(),
        sql: sql.as_str().into(),
        user: user.clone(),
    };
    let Some(found) = ask(worker, newcomer, &pool, question).await? else {
        return Err(Refused::told("no such user"));
    };
    let name = database.map_or(CONSOLE_DATABASE, |database| &database.name);
    newcomer.label = Some((name.into(), found.user.clone()));
    Ok(Recognised {
        user: found.user.clone(),
        queried: Some(found.secret.clone()),
        known: Some(found.secret.clone()),
    })
}

/// The pool in which auth_query runs.
fn pool_of(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &Newcomer,
    database: Option<&Arc<Database>>,
    auth_user: &str,
) -> Result<Rc<Pool>, Refused> {
    let config = auth_database(setup, newcomer, database)?;
    let shared = &worker.process.shared;
    let (database, is_new) = shared.database(&config, config.auto);
    if is_new && config.auto {
        tracing::info!("registered new auto-database: {}", database.name);
    }
    if database.disabled.load(Ordering::SeqCst) {
        let name = &database.name;
        let text = format!("authentication database \"{name}\" is disabled");
        return Err(Refused::Told(text));
    }
    let pool = shared.pool(&database, auth_user);
    pool.set_secret(setup.server_secret(&config, auth_user));
    Ok(worker.pools.get(&pool))
}

/// The entry of the database in which auth_query runs: `auth_dbname`, or the client's own.
fn auth_database(
    setup: &Setup,
    newcomer: &Newcomer,
    database: Option<&Arc<Database>>,
) -> Result<Arc<Database>, Refused> {
    let global = setup.config.settings.auth_dbname.as_ref();
    let named = database.and_then(|d| d.auth_dbname.as_ref()).or(global);
    let why_not = match (named, database) {
        (Some(name), _) => match setup.config.database(name.as_str()) {
            Some(config) => return Ok(config),
            None => {
                let name = name.as_str();
                format!("authentication database \"{name}\" is not configured")
            }
        },
        (None, Some(own)) => return Ok(own.clone()),
        (None, None) => {
            format!("cannot use the reserved \"{CONSOLE_DATABASE}\" database as an auth_dbname")
        }
    };
    tracing::error!("{} {why_not}", newcomer.tag());
    Err(Refused::told(CONFIG_ERROR))
}

/// What clients hear who can do nothing about it.
const CONFIG_ERROR: &str = "bouncer config error";

async fn ask(
    worker: &Rc<Worker>,
    newcomer: &mut Newcomer,
    pool: &Rc<Pool>,
    question: Question,
) -> Result<Option<Arc<Found>>, Refused> {
    // Until a server has ever been there, a login that ends for its time ends for want of it.
    newcomer.has_done_its_part = !matches!(*pool.shared.welcome.borrow(), Welcome::Known(_));
    let answer = auth_query::ask(worker, pool, question);
    let answer = newcomer.unless_gone(answer).await?;
    newcomer.has_done_its_part = false;
    answer.map_err(|failure| match failure {
        Failure::NoServer(error) => Refused::from(error),
        Failure::Killed(kill) => Refused::told(kill.for_client()),
        Failure::Query => Refused::told(CONFIG_ERROR),
    })
}
