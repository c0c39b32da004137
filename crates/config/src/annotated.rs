//! `etc/pgusher.ini`: every setting with its default and what it does, written from the table.

use std::fmt::Write;

use crate::settings::{SETTINGS, Setting, Settings, When};

/// The settings that the stock file sets; all others stand there as comments.
const ACTIVE: &[(&str, &str)] = &[
    ("listen_addr", "127.0.0.1"),
    ("listen_port", "6432"),
    ("auth_type", "scram-sha-256"),
    ("auth_file", "etc/userlist.txt"),
    ("pool_mode", "transaction"),
    ("ignore_startup_parameters", "extra_float_digits"),
];

const HEAD: &str = "\
;; A configuration for pgusher, and a list of all it can be told.
;;
;; The syntax is PgBouncer's: a line that begins with ; or # is a comment, and a value runs to the
;; end of its line, so nothing can be noted behind it. Paths are taken from the working directory.
;; The environment variable PGUSHER_<KEY> wins over a key of [pgbouncer]. RELOAD, or SIGHUP, reads
;; all of it again; settings marked \"restart\" keep their values until the process starts anew.

;; name = connection string: where clients who ask for the database are sent.
;;   dbname host port user password auth_user auth_query auth_dbname pool_size min_pool_size
;;   reserve_pool_size max_db_connections max_db_client_connections server_lifetime
;;   query_wait_timeout pool_mode load_balance_hosts connect_query client_encoding datestyle
;;   timezone application_name
;; Instead of password, and only in pgusher: password_file, a file that holds nothing else, or
;; password_env, the name of an environment variable. RELOAD reads the file again.
[databases]

;; another name for a database, with fewer servers
;reports = host=10.0.0.7 dbname=app pool_size=5 pool_mode=session

;; every client becomes one user, and so shares one pool
;shop = host=10.0.0.8,10.0.0.9 user=shop password='it''s a secret'

;; the same, with a password that is kept elsewhere
;till = host=10.0.0.8 user=till password_env=TILL_PASSWORD

;; through the unix socket
;local = host=/var/run/postgresql

;; any other database, under its own name
* = host=127.0.0.1 port=5432

;; name = settings that hold for this user.
;;   pool_mode pool_size reserve_pool_size max_user_connections max_user_client_connections
;;   query_timeout idle_transaction_timeout transaction_timeout client_idle_timeout
;;   query_wait_timeout
[users]

;batch = pool_mode=session max_user_connections=10

;; id = host=... port=... of another process that listens on the same address (see so_reuseport).
[peers]

;2 = host=/tmp/second port=6432

[pgbouncer]
";

/// The text of `etc/pgusher.ini`.
pub fn annotated_ini() -> String {
    let mut ini = String::from(HEAD);
    for (name, value) in ACTIVE {
        let setting = SETTINGS.iter().find(|setting| setting.name == *name);
        let setting = setting.expect("ACTIVE names settings of the table");
        describe(&mut ini, setting);
        line(&mut ini, "", name, value);
    }

    ini.push_str("\n\n;; Everything else, at its default.\n");
    let defaults = Settings::default();
    let is_active = |setting: &Setting| ACTIVE.iter().any(|(name, _)| *name == setting.name);
    for setting in SETTINGS.iter().filter(|setting| !is_active(setting)) {
        describe(&mut ini, setting);
        let default = setting.show(&defaults);
        let default = setting.default.or(default.as_deref()).unwrap_or_default();
        line(&mut ini, ";", setting.name, default);
    }
    ini
}

fn describe(ini: &mut String, setting: &Setting) {
    ini.push('\n');
    for doc in setting.doc {
        ini.push_str(";;");
        ini.push_str(doc);
        ini.push('\n');
    }
    let restart = match setting.when {
        When::OnReload => "",
        When::AtBoot => " (restart)",
    };
    push(ini, format_args!(";; {}{restart}\n", setting.expects));
}

fn line(ini: &mut String, comment: &str, name: &str, value: &str) {
    let assignment = format!("{comment}{name} = {value}");
    ini.push_str(assignment.trim_end());
    ini.push('\n');
}

fn push(ini: &mut String, text: std::fmt::Arguments<'_>) {
    ini.write_fmt(text)
        .expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const STOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/pgusher.ini");

    /// After a change of the table: `UPDATE_EXPECT=1 cargo test -p pgusher-config`.
    #[test]
    fn the_stock_file_is_what_the_table_says() {
        expect_test::expect_file![STOCK].assert_eq(&annotated_ini());
    }

    #[test]
    fn the_stock_file_is_a_valid_configuration_without_warnings() {
        let config = Config::load(STOCK.as_ref(), []).unwrap();

        assert_eq!(config.settings.listen_port, 6432);
        assert_eq!(config.database("app").unwrap().hosts.len(), 1);
        assert_eq!(config.warnings, []);
        assert_eq!(crate::not_yet(&config), Vec::<&str>::new());
    }

    #[test]
    fn every_comment_of_the_stock_file_works_once_uncommented() {
        let uncommented: String = annotated_ini()
            .lines()
            .map(|line| match line.strip_prefix(';') {
                Some(rest) if !rest.starts_with(';') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let read = |_: &std::path::Path| unreachable!("nothing is included");

        let till = ("TILL_PASSWORD".to_owned(), "a secret".to_owned());
        let config = Config::from_text("stock.ini", &uncommented, [till], read).unwrap();

        assert_eq!(
            config.settings.max_client_conn,
            Settings::default().max_client_conn
        );
        assert!(config.users.contains_key("batch"));
    }
}
