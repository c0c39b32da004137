//! `--entrypoint`: what a container starts with.
//!
//! The words behind it are the container's command, as for the scripts that images begin with: a
//! pooler by either name, with its options, or any other program, which takes this process's place.
//! A word of its own rather than a mood of the pooler: on a host nothing but PGUSHER_<KEY> is heard,
//! however the environment looks.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::{CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::source;

/// What the command of a container is.
pub(crate) enum Entry {
    /// The pooler, told this.
    Pooler(Box<Cli>),
    /// Another program, which could not be started.
    Failed(String, io::Error),
}

/// Starts what the command names, or says how the pooler is to be started.
pub(crate) fn enter(command: &[OsString]) -> Entry {
    let options = match command.split_first() {
        None => command,
        Some((first, rest)) if is_pooler(first) => rest,
        Some((first, _)) if first.to_string_lossy().starts_with('-') => command,
        Some((program, arguments)) => {
            let error = Command::new(program).args(arguments).exec();
            return Entry::Failed(program.to_string_lossy().into_owned(), error);
        }
    };
    let name = OsString::from("pgusher");
    // Here alone there is an ini without a word about where.
    let parser = Cli::command().mut_arg("config", |config| config.required(false));
    let matches = parser.get_matches_from([&name].into_iter().chain(options));
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.config.get_or_insert_with(source::mounted);
    Entry::Pooler(Box::new(cli))
}

fn is_pooler(word: &OsString) -> bool {
    let name = Path::new(word).file_name();
    name.is_some_and(|name| name == "pgusher" || name == "pgbouncer")
}
