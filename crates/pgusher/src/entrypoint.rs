//! `--entrypoint`: what a container starts with.
//!
//! The words behind it are the container's command, as for the scripts that images begin with: a
//! pooler by either name, with its options, or any other program, which takes this process's place.
//! A word of its own rather than a mood of the pooler: on a host nothing but PGUSHER_<KEY> is heard,
//! however the environment looks.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Arg, CommandFactory, FromArgMatches, value_parser};

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
    // Here alone there may be an ini without a word about where.
    let parser = Cli::command().mut_arg("config", |config| {
        Arg::new(config.get_id().clone()).value_parser(value_parser!(PathBuf))
    });
    let matches = parser.get_matches_from([&name].into_iter().chain(options));
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.config.get_or_insert_with(source::mounted);
    Entry::Pooler(Box::new(cli))
}

fn is_pooler(word: &OsString) -> bool {
    let name = Path::new(word).file_name();
    name.is_some_and(|name| name == "pgusher" || name == "pgbouncer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> Cli {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        match enter(&words) {
            Entry::Pooler(cli) => *cli,
            Entry::Failed(program, error) => panic!("{program}: {error}"),
        }
    }

    #[test]
    fn the_pooler_has_either_name_or_none_and_its_ini_where_such_files_are_mounted() {
        for words in [&[] as &[&str], &["pgusher"], &["/usr/bin/pgbouncer"]] {
            assert_eq!(told(words).config, Some(source::mounted()), "{words:?}");
        }
        let quiet = told(&["-q"]);
        assert!(quiet.quiet && quiet.config == Some(source::mounted()));
        let named = told(&["pgbouncer", "-v", "/etc/pgbouncer/other.ini"]);
        assert_eq!(named.verbose, 1);
        assert_eq!(named.config, Some("/etc/pgbouncer/other.ini".into()));
        assert!(told(&["pgbouncer", "--version"]).version);
    }
}
