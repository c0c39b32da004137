//! pgusher: a connection pooler for PostgreSQL.

use std::process::ExitCode;

use clap::Parser;
use pgusher::cli::Cli;

fn main() -> ExitCode {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let code = pgusher::run::main(Cli::parse(), env.collect());
    // Workers serve on until the process ends; nobody waits for them any more.
    std::process::exit(i32::from(code != ExitCode::SUCCESS))
}
