//! The command line: PgBouncer's, and `--check`.

use std::path::PathBuf;

use clap::Parser;

/// A connection pooler for PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    name = "pgusher",
    disable_version_flag = true,
    about = "A connection pooler for PostgreSQL that takes PgBouncer's place"
)]
pub struct Cli {
    /// Run in the background (needs pidfile, and logfile or syslog)
    #[arg(short, long)]
    pub daemon: bool,
    /// Log more; may be given more than once
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Do not log to stderr
    #[arg(short, long)]
    pub quiet: bool,
    /// Take over from the running process: not supported yet
    #[arg(short = 'R', long)]
    pub reboot: bool,
    /// Account to run as, once the sockets are open
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Read the configuration, say what is wrong with it, and exit
    #[arg(long)]
    pub check: bool,
    /// Show the version and exit
    #[arg(short = 'V', long)]
    pub version: bool,
    /// The ini file
    #[arg(value_name = "CONFIG_FILE", required_unless_present = "version")]
    pub config: Option<PathBuf>,
}

/// What `--version` prints: the first line is the answer to SHOW VERSION.
pub fn version() -> String {
    format!("{}\ntls: {}\n", admin::VERSION, net::tls::LIBRARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbouncers_options_are_understood() {
        let cli = Cli::parse_from(["pgusher", "-q", "-vv", "-u", "nobody", "x.ini"]);
        assert_eq!((cli.quiet, cli.verbose), (true, 2));
        assert_eq!(cli.user.as_deref(), Some("nobody"));
        assert_eq!(cli.config, Some("x.ini".into()));
        let long = Cli::parse_from(["pgusher", "--quiet", "--daemon", "x.ini"]);
        assert!(long.quiet && long.daemon);
        assert!(Cli::try_parse_from(["pgusher"]).is_err());
        assert!(Cli::parse_from(["pgusher", "--version"]).version);
    }

    #[test]
    fn the_version_begins_as_tools_expect_it() {
        assert!(version().starts_with("PgBouncer 1.25.2 (pgusher "));
    }
}
