//! `docs/settings.md`: every setting, for readers, written from the table.

use std::fmt::Write;

use crate::database;
use crate::not_yet::NOT_YET;
use crate::settings::{SETTINGS, Setting, Settings, When};
use crate::user;

const HEAD: &str = "\
# Settings

Written from the table in `crates/config/src/settings.rs`, as `etc/pgusher.ini` is; not by hand.

A setting stands in the section `[pgbouncer]` of the ini, as `key = value` to the end of the line.
The environment variable `PGUSHER_<KEY>` wins over it, and the console's `SET key = 'value'` holds
until RELOAD. Settings marked *restart* keep the values that they had when the process started.
Those marked *not yet* are read and checked, and do nothing.
";

const DATABASES: &str = "
## Keys of `[databases]`

Each line is `name = key=value ...`; `*` is the line for all databases without one of their own. A
value with blanks is written in single quotes, and a quote within them twice. Where a setting has
the same name, the database's own value wins.

";

const USERS: &str = "
## Keys of `[users]`

Each line is `name = key=value ...`, for the user whom clients log in as, or become.

";

/// How the doc comment of a setting ends that PgBouncer does not have.
const OURS: &str = "Only pgusher has this.";

/// The text of `docs/settings.md`.
pub fn settings_page() -> String {
    let mut page = String::from(HEAD);
    let (ours, pgbouncers): (Vec<_>, Vec<_>) = SETTINGS
        .iter()
        .partition(|setting| doc(setting).ends_with(OURS));
    table(&mut page, "PgBouncer's settings", &pgbouncers);
    table(&mut page, "Settings of our own", &ours);
    for (head, keys) in [(DATABASES, database::KEYS), (USERS, user::KEYS)] {
        page.push_str(head);
        let keys = keys
            .iter()
            .map(|key| format!("`{key}`"))
            .collect::<Vec<_>>();
        page.push_str(&keys.join(", "));
        page.push('\n');
    }
    page
}

fn table(page: &mut String, title: &str, settings: &[&Setting]) {
    put(page, format_args!("\n## {title}\n\n"));
    page.push_str("| setting | what it does | takes | default |\n|---|---|---|---|\n");
    let defaults = Settings::default();
    for setting in settings {
        let shown = setting.show(&defaults);
        let default = match setting.default.or(shown.as_deref()) {
            None | Some("") => String::new(),
            Some(default) => format!("`{}`", default.replace('|', "\\|")),
        };
        let (name, takes) = (setting.name, setting.expects);
        let what = doc(setting).replace('|', "\\|");
        let what = what.trim_end_matches(OURS).trim_end();
        let notes = notes(setting);
        put(
            page,
            format_args!("| `{name}` | {what}{notes} | {takes} | {default} |\n"),
        );
    }
}

fn doc(setting: &Setting) -> String {
    let lines = setting.doc.iter().map(|line| line.trim());
    lines.collect::<Vec<_>>().join(" ")
}

fn notes(setting: &Setting) -> String {
    let restart = setting.when == When::AtBoot;
    let idle = NOT_YET.iter().find(|row| row.key == setting.name);
    let mut notes = String::new();
    if restart {
        notes.push_str(" *restart*");
    }
    if let Some(row) = idle {
        notes.push_str(" *not yet*");
        if !row.acting.is_empty() {
            put(
                &mut notes,
                format_args!(", but for {}", row.acting.join(", ")),
            );
        }
    }
    notes
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");

    /// After a change of the table: `UPDATE_EXPECT=1 cargo test -p pgusher-config`.
    #[test]
    fn the_page_is_what_the_table_says() {
        expect_test::expect_file![PAGE].assert_eq(&settings_page());
    }

    #[test]
    fn every_setting_has_a_row_of_four_cells() {
        let page = settings_page();
        for setting in SETTINGS {
            let start = format!("| `{}` | ", setting.name);
            let rows: Vec<_> = page
                .lines()
                .filter(|line| line.starts_with(&start))
                .collect();
            assert_eq!(rows.len(), 1, "{}", setting.name);
            let cells = rows[0].replace("\\|", "").matches('|').count();
            assert_eq!(cells, 5, "{}", rows[0]);
        }
    }
}
