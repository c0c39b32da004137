//! SHOW CONFIG_DIFF: what the file says otherwise than what is in force.

use super::View;
use crate::table::{Column, Table, text, text_or_null};

/// A setting or an entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The section of the file.
    pub section: &'static str,
    /// The setting, or the name of the entry.
    pub key: String,
    /// What is in force; secrets are masked.
    pub running: Option<String>,
    /// What the file says.
    pub file: Option<String>,
    /// What makes the file's word count: `RELOAD` or `restart`.
    pub takes: &'static str,
}

const COLUMNS: [Column<Difference>; 5] = [
    text("section", |row| row.section.to_owned()),
    text("key", |row| row.key.clone()),
    text_or_null("running", |row| row.running.clone()),
    text_or_null("file", |row| row.file.clone()),
    text("takes", |row| row.takes.to_owned()),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, view.differences)
}
