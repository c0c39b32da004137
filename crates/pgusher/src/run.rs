//! From a command line to a running pooler, and its end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use auth::SaltKey;
use net::resolve::Terms;
use pool::{Shared, WorkerId};
use settings::Settings;
use thiserror::Error;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use wire::ParamNames;

use crate::accept::Listeners;
use crate::cli::{Cli, version};
use crate::daemon::{self, PidFile};
use crate::entrypoint::{Entry, enter};
use crate::healthcheck;
use crate::http::Endpoint;
use crate::logging::Logging;
use crate::pooler::{Pooler, report_warnings};
use crate::process::Process;
use crate::setup::{Setup, SetupError};
use crate::signals;
use crate::source::Source;
use crate::systemd::given_sockets;
use crate::worker::Start;

/// Why the pooler did not start.
#[derive(Debug, Error)]
enum StartError {
    #[error("{0}")]
    Setup(#[from] SetupError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{0}")]
    Daemon(&'static str),
    #[error("{0}: {1}")]
    Command(String, io::Error),
}

/// Does what the command line says.
pub fn main(cli: Cli, env: Vec<(String, String)>) -> ExitCode {
    let result = match &cli.entrypoint {
        None => obey(&cli, Source::host(env)),
        Some(command) => match enter(command) {
            Entry::Pooler(cli) => obey(&cli, Source::container(env)),
            Entry::Failed(program, error) => Err(StartError::Command(program, error)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn obey(cli: &Cli, source: Source) -> Result<(), StartError> {
    match &cli.config {
        _ if cli.version => {
            print(&version());
            Ok(())
        }
        Some(path) if cli.check => check(path, &source),
        Some(path) if cli.healthcheck => ask_health(path, &source),
        Some(path) => start(cli, path, source),
        None => Ok(()),
    }
}

#[allow(clippy::print_stdout)]
fn print(text: &str) {
    print!("{text}");
}

#[allow(clippy::print_stderr)]
fn complain(error: &StartError) {
    for line in error.to_string().lines() {
        eprintln!("pgusher: {line}");
    }
}

/// `--check`: says what is wrong with the configuration, or that nothing is.
fn check(path: &Path, source: &Source) -> Result<(), StartError> {
    let setup = Setup::load(path, source)?;
    let mut report = setup.config.shown.clone().unwrap_or_default();
    let of_tls = setup.tls.warnings().map(str::to_owned);
    for warning in setup.warnings().into_iter().chain(of_tls) {
        report.push_str(&format!("warning: {warning}\n"));
    }
    report.push_str(&format!("{}: ok\n", path.display()));
    print(&report);
    Ok(())
}

/// Asks the pooler that runs with this configuration.
fn ask_health(path: &Path, source: &Source) -> Result<(), StartError> {
    let config = source.read(path).map_err(SetupError::from)?;
    Ok(healthcheck::ask(&config.settings)?)
}

fn start(cli: &Cli, path: &Path, source: Source) -> Result<(), StartError> {
    let setup = Setup::load(path, &source)?;
    let settings = &setup.config.settings;
    check_daemon(cli, settings)?;
    let pidfile = settings
        .pidfile
        .clone()
        .filter(|p| !p.as_os_str().is_empty());
    if let Some(path) = pidfile.as_deref().filter(|_| !cli.reboot) {
        PidFile::check(path)?;
    }
    if cli.daemon {
        daemon::detach()?;
    }
    let logging = Logging::start(
        cli.quiet || cli.daemon,
        u32::from(cli.verbose),
        &source.environment,
    );
    logging.configure(settings);
    for line in setup.config.shown.iter().flat_map(|ini| ini.lines()) {
        tracing::info!("the environment says: {line}");
    }
    daemon::raise_file_limit();

    let result = start_with(cli, setup, source, logging, pidfile.as_deref());
    if let Err(error) = &result
        && (cli.quiet || cli.daemon)
    {
        tracing::error!("{error}");
    }
    result
}

/// Opens the sockets or takes them over, becomes another user, and serves.
fn start_with(
    cli: &Cli,
    setup: Setup,
    source: Source,
    logging: Logging,
    pidfile: Option<&Path>,
) -> Result<(), StartError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        events::attach()?;
        let settings = &setup.config.settings;
        let taken_over = match cli.reboot {
            true => Listeners::take_over(settings).await?,
            false => None,
        };
        let doors = match taken_over {
            // Metrics follow once the other process has let their port go.
            Some(listeners) => (listeners, Endpoint::none()),
            None => {
                pidfile.map_or(Ok(()), PidFile::check)?;
                let given = given_sockets(&source.environment)?;
                let listeners = Listeners::open(settings, given).await?;
                (listeners, Endpoint::open(settings).await)
            }
        };
        let user = cli.user.clone().or_else(|| settings.user.clone());
        daemon::become_user(user.as_deref(), settings.logfile.as_deref())?;
        report_warnings(&setup);
        setup
            .tls
            .warnings()
            .for_each(|warning| tracing::warn!("{warning}"));
        serve(setup, source, doors, logging, pidfile).await
    })
}

fn check_daemon(cli: &Cli, settings: &Settings) -> Result<(), StartError> {
    let missing =
        |path: &Option<PathBuf>| path.as_ref().is_none_or(|path| path.as_os_str().is_empty());
    if cli.daemon && missing(&settings.pidfile) {
        return Err(StartError::Daemon("-d needs pidfile"));
    }
    if cli.daemon && missing(&settings.logfile) && !settings.syslog {
        return Err(StartError::Daemon("-d needs logfile or syslog"));
    }
    Ok(())
}

/// Starts the workers and runs control until the process may end.
async fn serve(
    setup: Setup,
    source: Source,
    (listeners, endpoint): (Listeners, Endpoint),
    logging: Logging,
    pidfile: Option<&Path>,
) -> Result<(), StartError> {
    let setup = Arc::new(setup);
    let settings = &setup.config.settings;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let count = settings.workers.resolve(cpus);
    let (mails, mail_ends): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let (posts, post_ends): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let (control, orders) = mpsc::unbounded_channel();

    let names = ParamNames::new(settings.track_extra_parameters.iter());
    let shared = Arc::new(Shared::new(names, posts));
    shared.resolver.set_terms(Terms::from(settings));
    if let Some(generation) = listeners.generation() {
        shared.begin_generation(generation);
        shared.limits(|limits| limits.await_census());
    }
    let salt_key = SaltKey::fresh()?;
    let process = Process::new(shared, control, mails, salt_key);
    for (id, (mail, post)) in mail_ends.into_iter().zip(post_ends).enumerate() {
        let start = Start {
            id: WorkerId(id),
            process,
            setup: setup.clone(),
            mail,
            post,
        };
        start.spawn()?;
    }
    let pooler = Pooler::new(process, setup, source, listeners, logging);
    endpoint.start(&pooler);
    signals::listen(&pooler)?;
    // Whoever reads it may send signals at once.
    let pidfile = pidfile.map(PidFile::write).transpose()?;
    let (version, tls) = (admin::VERSION, net::tls::LIBRARY);
    tracing::info!(name: "process_up", "process up: {version}, {count} workers, tls: {tls}");
    pooler.run(orders).await;
    tracing::info!(name: "process_down", "process down");
    drop(pidfile);
    Ok(())
}
