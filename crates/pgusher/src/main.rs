//! pgusher: a connection pooler for PostgreSQL.

use std::process::ExitCode;

use clap::Parser;
use pgusher::cli::Cli;

fn main() -> ExitCode {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = error.print();
            // As with PgBouncer, whatever is wrong is 1.
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let code = pgusher::run::main(cli, env.collect());
    // Workers serve on until the process ends; nobody waits for them any more.
    std::process::exit(i32::from(code != ExitCode::SUCCESS))
}
