//! A table: its columns said once, each with how to fill it.

use std::borrow::Borrow;

use wire::backend::{put_complete, put_data_row, put_row_description};

/// Type OIDs of PostgreSQL (pg_type.oid).
pub(crate) const TEXT: u32 = 25;
pub(crate) const INT4: u32 = 23;
pub(crate) const NUMERIC: u32 = 1700;

/// What a SHOW answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<(&'static str, u32)>,
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// A table of `rows`, one line each.
    pub(crate) fn of<R>(
        columns: &[Column<R>],
        rows: impl IntoIterator<Item = impl Borrow<R>>,
    ) -> Self {
        Self::raw(
            columns
                .iter()
                .map(|column| (column.name, column.cell.oid()))
                .collect(),
            rows.into_iter()
                .map(|row| {
                    columns
                        .iter()
                        .map(|column| column.cell.text(row.borrow()))
                        .collect()
                })
                .collect(),
        )
    }

    /// A table whose columns come from elsewhere.
    pub(crate) fn raw(header: Vec<(&'static str, u32)>, rows: Vec<Vec<Option<String>>>) -> Self {
        debug_assert!(rows.iter().all(|row| row.len() == header.len()));
        Self { header, rows }
    }

    /// Appends it as the result of a SHOW, ReadyForQuery aside.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_row_description(out, &self.header);
        for row in &self.rows {
            put_data_row(out, row);
        }
        put_complete(out, "SHOW");
    }
}

/// One column over rows of `R`.
pub(crate) struct Column<R> {
    name: &'static str,
    cell: Cell<R>,
}

/// How to fill a cell; the type follows.
enum Cell<R> {
    Text(fn(&R) -> String),
    TextOrNull(fn(&R) -> Option<String>),
    Int4(fn(&R) -> i32),
}

/// A text that is always there.
pub(crate) const fn text<R>(name: &'static str, cell: fn(&R) -> String) -> Column<R> {
    Column {
        name,
        cell: Cell::Text(cell),
    }
}

/// A text, or NULL.
pub(crate) const fn text_or_null<R>(
    name: &'static str,
    cell: fn(&R) -> Option<String>,
) -> Column<R> {
    Column {
        name,
        cell: Cell::TextOrNull(cell),
    }
}

/// A number; see [`fit`].
pub(crate) const fn int4<R>(name: &'static str, cell: fn(&R) -> i32) -> Column<R> {
    Column {
        name,
        cell: Cell::Int4(cell),
    }
}

/// The number, or the largest that an int4 column holds.
pub(crate) fn fit(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// `yes` or `no`.
pub(crate) fn yes_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

impl<R> Cell<R> {
    fn oid(&self) -> u32 {
        match self {
            Self::Text(_) | Self::TextOrNull(_) => TEXT,
            Self::Int4(_) => INT4,
        }
    }

    fn text(&self, row: &R) -> Option<String> {
        match self {
            Self::Text(cell) => Some(cell(row)),
            Self::TextOrNull(cell) => cell(row),
            Self::Int4(cell) => Some(cell(row).to_string()),
        }
    }
}

#[cfg(test)]
impl Table {
    /// One line a column: name, OID, and its value in each row.
    pub(crate) fn turned(&self) -> String {
        let mut lines = String::new();
        for (place, (name, oid)) in self.header.iter().enumerate() {
            lines.push_str(&format!("{name}:{oid}"));
            for row in &self.rows {
                lines.push_str(" | ");
                lines.push_str(row[place].as_deref().unwrap_or("NULL"));
            }
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_too_large_for_its_column_is_cut_to_the_largest() {
        assert_eq!(fit(7usize), 7);
        assert_eq!(fit(u64::MAX), i32::MAX);
    }

    #[test]
    fn a_table_goes_out_as_header_rows_and_tag() {
        let columns = [
            text("a", |row: &u8| row.to_string()),
            int4("b", |&row| fit(row)),
        ];
        let mut out = Vec::new();
        Table::of(&columns, [1]).put(&mut out);

        let mut rest = out.as_slice();
        let mut tags = Vec::new();
        while let Some((header, _, tail)) = wire::frame::whole(rest).unwrap() {
            tags.push(char::from(header.tag));
            rest = tail;
        }
        assert_eq!(tags, ['T', 'D', 'C']);
        assert!(out.ends_with(b"SHOW\0"));
    }
}
