//! SHOW VERSION: who we are.

use crate::table::{Column, Table, text};

/// The first line of `--version`, and what SHOW VERSION says: tools read the first two words.
pub const VERSION: &str = concat!("PgBouncer 1.25.2 (pgusher ", env!("CARGO_PKG_VERSION"), ")");

/// `server_version` at the console; drivers and psql look at the number in front.
pub const SERVER_VERSION: &str = "1.25.2/bouncer";

const COLUMNS: [Column<&str>; 1] = [text("version", |version| (*version).to_owned())];

pub(crate) fn table() -> Table {
    Table::of(&COLUMNS, [VERSION])
}
