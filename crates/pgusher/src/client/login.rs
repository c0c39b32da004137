//! Who is this client, and where may it go?

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use admin::Privilege;
use auth::Identity;
use net::PeerAddr;
use pool::own::{OwnServer, OwnStartup};
use pool::roster::Kill;
use pool::{DatabaseShared, Lease, Pool, Reported};
use settings::{AuthType, CONSOLE_DATABASE, Database, PoolMode};
use wire::backend::put_negotiate;
use wire::{Params, Replication, Startup};

use super::prove::{Proven, prove};
use super::recognise::Recognised;
use super::seat::Listed;
use super::startup::Wishes;
use super::{Newcomer, Outcome, Refused, startup, welcome};
use crate::accept::Admission;
use crate::cancel::Registered;
use crate::handover::successor::{NoRoom, enter};
use crate::handover::visits::Visit;
use crate::process::Counted;
use crate::setup::Setup;
use crate::stage::Stage;
use crate::worker::Worker;

/// A client that may have a session.
pub(crate) struct Admitted {
    pub(crate) listed: Listed,
    pub(crate) pool: Rc<Pool>,
    /// The server that it has from the start.
    pub(crate) lease: Option<Lease>,
    pub(crate) params: Arc<Params>,
    pub(crate) key: Registered,
    /// Count it among the clients of its database and its user.
    pub(crate) counts: [Counted; 2],
    /// The same for the process that takes over.
    pub(crate) visit: Visit,
}

/// Who a client is, and what it asked for in its startup packet.
struct Wanted {
    who: Recognised,
    wishes: Wishes,
    /// For replication: a server of its own.
    own: Option<OwnStartup>,
    /// What its login brought to light.
    identity: Identity,
}

/// A client that may use the console.
pub(crate) struct AdmittedToConsole {
    pub(crate) user: Arc<str>,
    pub(crate) privilege: Privilege,
    pub(crate) application_name: Arc<str>,
    pub(crate) key: Registered,
}

/// The database that a client asks for, as far as it may know.
pub(super) enum Destination {
    Console,
    Database(Arc<Database>),
    /// There is none: said only to those who prove who they are.
    Unknown,
}

/// Takes a client from its startup packet to its welcome.
pub(super) async fn run(
    worker: &Rc<Worker>,
    newcomer: &mut Newcomer,
    startup: &Startup,
) -> Result<Outcome, Refused> {
    let setup = worker.setup();
    let settings = &setup.config.settings;
    let name = startup.database();
    let user: Arc<str> = startup.user().into();
    newcomer.label = Some((name.into(), user.clone()));
    if settings.log_connections {
        tracing::info!(name: "login_attempt",
            "{} login attempt: db={name} user={user} tls={}",
            newcomer.tag(),
            newcomer
                .cipher()
                .map_or_else(|| "no".to_owned(), |it| it.to_string())
        );
    }
    check_names(name, &user)?;
    let to_console = name == CONSOLE_DATABASE;
    check_admission(worker, &setup, newcomer, to_console)?;

    let names = &worker.process.shared.names;
    let replication = if to_console {
        Replication::None
    } else {
        startup.replication()?
    };
    let mut wishes = startup::parameters(startup, settings, names, to_console, replication)?;
    negotiate(newcomer, startup).await?;

    let destination = match setup.config.database(name) {
        _ if to_console => Destination::Console,
        Some(database) => Destination::Database(database),
        None => Destination::Unknown,
    };
    match &destination {
        Destination::Console => {
            let (user, privilege) =
                Box::pin(console_privilege(worker, &setup, newcomer, user)).await?;
            let admitted = AdmittedToConsole {
                user,
                privilege,
                application_name: wishes.params.application_name(),
                key: register(worker, newcomer, None)?,
            };
            welcome::to_console(newcomer, &admitted, &wishes.params).await?;
            Ok(Outcome::Console(Box::new(admitted)))
        }
        Destination::Database(database) => {
            // Rules have no name for physical replication, which goes to no database.
            let visited = (replication != Replication::Physical).then_some(name);
            let proven = prove(worker, &setup, newcomer, &destination, visited, &user);
            // Pieces of less than a kilobyte are had faster than one of more.
            let Proven { who, identity } = Box::pin(proven).await?;
            if settings.application_name_add_host {
                welcome::add_host(newcomer, &mut wishes.params);
            }
            let own = startup::own(startup, replication, names, &wishes.params);
            let mut wanted = Wanted {
                who,
                wishes,
                own,
                identity,
            };
            let admitted = admit(worker, &setup, newcomer, database, &mut wanted);
            Ok(Outcome::Session(Box::new(Box::pin(admitted).await?)))
        }
        Destination::Unknown => {
            let proven = prove(worker, &setup, newcomer, &destination, Some(name), &user);
            Box::pin(proven).await?;
            Err(Refused::Told(format!("no such database: {name}")))
        }
    }
}

fn check_names(name: &str, user: &str) -> Result<(), Refused> {
    if user.len() > USER_LEN_MAX {
        return Err(Refused::told("username too long"));
    }
    if name.len() > settings::DATABASE_NAME_LEN_MAX {
        return Err(Refused::Told(format!("no such database: {name}")));
    }
    Ok(())
}

/// Longest user name, in bytes.
const USER_LEN_MAX: usize = 127;

/// Is there room for one more, and does the process still take clients?
fn check_admission(
    worker: &Worker,
    setup: &Setup,
    newcomer: &Newcomer,
    to_console: bool,
) -> Result<(), Refused> {
    if to_console {
        return Ok(());
    }
    let too_late = newcomer.admission == Admission::ConsoleOnly;
    if too_late || worker.process.stage() == Stage::Stopping {
        return Err(Refused::told("pooler is shutting down"));
    }
    // This very client is counted already.
    if worker.process.clients() > setup.config.settings.max_client_conn {
        return Err(Refused::told(
            "no more connections allowed (max_client_conn)",
        ));
    }
    Ok(())
}

/// Who asks for more than there is, is told once.
async fn negotiate(newcomer: &mut Newcomer, startup: &Startup) -> Result<(), Refused> {
    if startup.asks_for_too_much() {
        let mut out = Vec::new();
        put_negotiate(&mut out, startup.spoken_minor(), startup.extensions());
        newcomer.conn.send_all(&out).await?;
    }
    newcomer.minor = startup.spoken_minor();
    Ok(())
}

fn register(
    worker: &Worker,
    newcomer: &Newcomer,
    process_id: Option<u32>,
) -> Result<Registered, Refused> {
    let (process, id, minor) = (&worker.process, newcomer.id, newcomer.minor);
    let peer_id = worker.setup().config.settings.peer_id;
    let registered = Registered::new(process, worker.id, id, minor, process_id, peer_id);
    registered.map_err(|error| {
        tracing::error!("no random bytes for a cancel key: {error}");
        Refused::told("bouncer resources exhaustion")
    })
}

/// Whether a client may use the console, and how far.
async fn console_privilege(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &mut Newcomer,
    user: Arc<str>,
) -> Result<(Arc<str>, Privilege), Refused> {
    if is_ourselves(newcomer.peer, &user) {
        return Ok((user, Privilege::Admin));
    }
    let (destination, visited) = (Destination::Console, Some(CONSOLE_DATABASE));
    let proven = prove(worker, setup, newcomer, &destination, visited, &user);
    let who = proven.await?.who;
    let settings = &setup.config.settings;
    if settings.admin_users.contains(&who.user) {
        Ok((who.user, Privilege::Admin))
    } else if settings.stats_users.contains(&who.user) || settings.auth_type == AuthType::Any {
        Ok((who.user, Privilege::Stats))
    } else {
        Err(Refused::told("not allowed"))
    }
}

/// The account that runs us needs no password on the unix socket, as user `pgbouncer`.
fn is_ourselves(peer: PeerAddr, user: &str) -> bool {
    let own = nix::unistd::getuid().as_raw();
    matches!(peer, PeerAddr::Unix { uid, .. } if uid == own) && user == CONSOLE_DATABASE
}

/// Finds the client's pool, counts it in, and welcomes it.
async fn admit(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &mut Newcomer,
    config: &Arc<Database>,
    wanted: &mut Wanted,
) -> Result<Admitted, Refused> {
    let shared = &worker.process.shared;
    let (database, is_new) = shared.database(config, config.auto);
    if is_new && config.auto {
        tracing::info!("registered new auto-database: {}", database.name);
    }
    if database.disabled.load(Ordering::SeqCst) {
        let name = &database.name;
        return Err(Refused::Told(format!("database \"{name}\" is disabled")));
    }
    let counts = count_in(worker, setup, config, &database, &wanted.who.user)?;
    let (place, user) = (&database.name, &wanted.who.user);
    let visit = enter(worker.process, newcomer.id.0, place, user).await;
    let visit = visit.map_err(|NoRoom| Refused::told("client connections exceeded"))?;
    // Counted first, looked at then: whoever forgets unused databases does it the other way round.
    if database.removed.load(Ordering::SeqCst) {
        return Err(Refused::told("database removed"));
    }
    let pool = find_pool(worker, setup, config, &database, wanted)?;
    newcomer.has_done_its_part = true;
    let settings = &setup.config.settings;
    let Seated {
        listed,
        lease,
        reported,
    } = seat(worker, setup, newcomer, &pool, wanted).await?;
    // It may have changed while the client waited.
    if database.config.load().pool_user(&wanted.who.user) != &*pool.shared.key.user {
        return Err(Kill::Reconfigured.into());
    }
    let server = lease.as_ref().filter(|_| settings.session_backend_pid);
    let pid = server.and_then(|lease| Some(lease.server().facts.key.as_ref()?.process_id()));
    let key = register(worker, newcomer, pid)?;
    let notice = settings.login_notify_message.as_deref();
    let params = match (&wanted.own, &lease) {
        (Some(_), Some(lease)) => {
            welcome::to_replication(newcomer, &reported, key.key(), notice).await?;
            lease.server().io.borrow().params.clone()
        }
        _ => {
            let params = std::mem::take(&mut wanted.wishes.params);
            let names = &shared.names;
            welcome::to_session(newcomer, &reported, names, params, key.key(), notice).await?
        }
    };
    pool.counters.borrow_mut().client_login_count += 1;
    Ok(Admitted {
        listed,
        pool,
        lease,
        params,
        key,
        counts,
        visit,
    })
}

/// The client's pool, which has all that its servers are logged in with.
fn find_pool(
    worker: &Worker,
    setup: &Setup,
    config: &Database,
    database: &Arc<DatabaseShared>,
    wanted: &mut Wanted,
) -> Result<Rc<Pool>, Refused> {
    let pool_user = config.pool_user(&wanted.who.user);
    if setup.config.settings.auth_type == AuthType::Any && config.user.is_none() {
        tracing::error!("auth_type=any needs user= in database {}", database.name);
        return Err(Refused::told("bouncer config error"));
    }
    let pool = worker.process.shared.pool(database, pool_user);
    pool.set_secret(setup.server_secret(config, pool_user));
    // A forced user has nothing of its clients'.
    if config.user.is_none() {
        if let Some(secret) = &wanted.who.queried {
            pool.set_queried_secret(secret.clone());
        }
        if let Some(keys) = wanted.identity.scram_keys.take() {
            pool.set_scram_keys(keys);
        }
        if let Some(password) = wanted.identity.password.take() {
            pool.set_typed_password(password);
        }
    }
    Ok(worker.pools.get(&pool))
}

/// A client that may be welcomed.
struct Seated {
    listed: Listed,
    /// The server that it has from the start.
    lease: Option<Lease>,
    /// What a server reported: its own, or the pool's first.
    reported: Arc<Reported>,
}

/// Waits until there is a server to tell of; until there is one for this client, if its session
/// begins with one.
async fn seat(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &mut Newcomer,
    pool: &Rc<Pool>,
    wanted: &Wanted,
) -> Result<Seated, Refused> {
    let user = &wanted.who.user;
    let replication = wanted.own.as_ref().map(|own| own.replication);
    let replication = replication.unwrap_or(Replication::None);
    let listed = Listed::new(
        worker,
        newcomer,
        pool,
        user.clone(),
        replication,
        wanted.wishes.params.application_name(),
    );
    if let Some(own) = &wanted.own {
        let OwnServer { lease, reported } = listed.open_own(newcomer, own).await?;
        return Ok(Seated {
            listed,
            lease: Some(lease),
            reported: reported.into(),
        });
    }
    let reported = listed.welcome(newcomer).await?;
    wanted.wishes.check(&reported.tracked)?;
    let begins_with_one =
        setup.config.settings.session_backend_pid && pool.mode() == PoolMode::Session;
    let lease = match begins_with_one {
        true => Some(listed.lease(newcomer).await?),
        false => None,
    };
    Ok(Seated {
        listed,
        lease,
        reported,
    })
}

/// Counts the client among those of its database and its user, if there is room.
fn count_in(
    worker: &Worker,
    setup: &Setup,
    config: &Database,
    database: &DatabaseShared,
    user: &Arc<str>,
) -> Result<[Counted; 2], Refused> {
    let limits = setup.config.client_settings(config, user);
    let of_database = Counted::within(database.clients.clone(), limits.max_db_client_connections);
    let of_database = of_database
        .ok_or_else(|| Refused::told("client connections exceeded (max_db_client_connections)"))?;
    let of_user = worker.process.user_clients(user);
    let of_user = Counted::within(of_user, limits.max_user_client_connections);
    let of_user = of_user.ok_or_else(|| {
        Refused::told("client connections exceeded (max_user_client_connections)")
    })?;
    Ok([of_database, of_user])
}
