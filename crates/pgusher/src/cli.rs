//! The command line: PgBouncer's, `--check` and `--healthcheck`.

use std::ffi::OsString;
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
    /// Take over from the running process: its sockets at once, its clients and servers as they
    /// become idle. Clients behind TLS stay with it until they leave
    #[arg(short = 'R', long)]
    pub reboot: bool,
    /// Account to run as, once the sockets are open
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Read the configuration, say what is wrong with it, and exit
    #[arg(long)]
    pub check: bool,
    /// Ask the running pooler whether it is ready for clients, and exit: 0 for yes
    #[arg(long)]
    pub healthcheck: bool,
    /// Show the version and exit
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Start what a container starts with: the pooler, with the variables that images of PgBouncer
    /// know if no ini is mounted, or the command that follows
    #[arg(long, value_name = "COMMAND", num_args = 0.., allow_hyphen_values = true)]
    pub entrypoint: Option<Vec<OsString>>,
    /// The ini file
    #[arg(value_name = "CONFIG_FILE", required_unless_present_any = ["version", "entrypoint"])]
    pub config: Option<PathBuf>,
}

/// What `--version` prints: the first line is the answer to SHOW VERSION.
pub fn version() -> String {
    format!("{}\ntls: {}\n", admin::VERSION, net::tls::LIBRARY)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap_complete::{Shell, generate};
    use expect_test::expect_file;

    use super::*;

    /// After a change of the options: `UPDATE_EXPECT=1 cargo test -p pgusher --lib cli`.
    #[test]
    fn the_manual_and_the_shells_know_the_same_options() {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .unwrap();
        let page = String::from_utf8(page).unwrap();
        expect_file!["../../../packaging/pgusher.1"].assert_eq(&page);

        let completion = |shell: Shell| {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "pgusher", &mut script);
            String::from_utf8(script).unwrap()
        };
        expect_file!["../../../packaging/completions/pgusher.bash"]
            .assert_eq(&completion(Shell::Bash));
        expect_file!["../../../packaging/completions/_pgusher"].assert_eq(&completion(Shell::Zsh));
        expect_file!["../../../packaging/completions/pgusher.fish"]
            .assert_eq(&completion(Shell::Fish));
    }

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
    fn all_that_follows_entrypoint_is_the_containers_command() {
        let command = |words: &[&str]| Cli::parse_from(words).entrypoint;
        assert_eq!(command(&["pgusher", "x.ini"]), None);
        assert_eq!(command(&["pgusher", "--entrypoint"]), Some(vec![]));
        assert_eq!(
            command(&["pgusher", "--entrypoint", "psql", "-V", "--user", "x", "y"]),
            Some(["psql", "-V", "--user", "x", "y"].map(Into::into).into())
        );
    }

    #[test]
    fn the_version_begins_as_tools_expect_it() {
        assert!(version().starts_with("PgBouncer 1.25.2 (pgusher "));
    }
}
