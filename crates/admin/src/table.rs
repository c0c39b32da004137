//! A table: its columns said once, each with how to fill it.

use std::borrow::{Borrow, Cow};
use std::ops::Range;

use wire::backend::{put_data_row, put_row_description};
use wire::binary::{self, oid};
use wire::extended::{Format, Formats};

/// What a SHOW answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<(&'static str, u32)>,
    /// The texts of all cells in one: to let go of hundreds of thousands would take its time.
    text: String,
    /// Where in it each cell's text stands, row by row; `None` is NULL.
    cells: Vec<Option<Range<usize>>>,
}

impl Table {
    /// A table of `rows`, one line each.
    pub(crate) fn of<R>(
        columns: &[Column<R>],
        rows: impl IntoIterator<Item = impl Borrow<R>>,
    ) -> Self {
        let header = columns
            .iter()
            .map(|column| (column.name, column.cell.oid()));
        let mut table = Self::without_rows(header.collect());
        for row in rows {
            for column in columns {
                table.push(column.cell.text(row.borrow()).as_deref());
            }
        }
        table
    }

    /// A table whose columns come from elsewhere.
    pub(crate) fn raw(header: Vec<(&'static str, u32)>, rows: Vec<Vec<Option<String>>>) -> Self {
        debug_assert!(rows.iter().all(|row| row.len() == header.len()));
        let mut table = Self::without_rows(header);
        for cell in rows.iter().flatten() {
            table.push(cell.as_deref());
        }
        table
    }

    fn without_rows(header: Vec<(&'static str, u32)>) -> Self {
        Self {
            header,
            text: String::new(),
            cells: Vec::new(),
        }
    }

    fn push(&mut self, text: Option<&str>) {
        let start = self.text.len();
        self.text.push_str(text.unwrap_or_default());
        self.cells.push(text.map(|_| start..self.text.len()));
    }

    /// How many columns it has.
    pub(crate) fn columns(&self) -> usize {
        self.header.len()
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.cells.len().checked_div(self.columns()).unwrap_or(0)
    }

    /// The cells of the row at that place, if there is one: type and text.
    fn row(&self, place: usize) -> impl Iterator<Item = (u32, Option<&str>)> {
        let start = place.saturating_mul(self.columns());
        let cells = self.cells.iter().skip(start).zip(&self.header);
        cells.map(|(range, (_, oid))| (*oid, range.clone().map(|range| &self.text[range])))
    }

    /// Appends the description of its columns.
    pub(crate) fn put_header(&self, out: &mut Vec<u8>, formats: &Formats) {
        put_row_description(out, &self.header, formats);
    }

    /// Appends the row at that place.
    pub(crate) fn put_row(&self, out: &mut Vec<u8>, place: usize, formats: &Formats) {
        let cells = self.row(place).enumerate();
        let written = cells.map(|(place, (oid, text))| match formats.at(place) {
            Format::Text => Some(Cow::Borrowed(text?.as_bytes())),
            // Every cell can be written as what its column says: see show/tests.rs.
            Format::Binary => binary::encode(oid, text?),
        });
        put_data_row(out, &written.collect::<Vec<_>>());
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
    Int4OrNull(fn(&R) -> Option<i32>),
    Int8(fn(&R) -> i64),
    /// A secret, of that type: always NULL.
    Withheld(u32),
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

/// A number, or NULL.
pub(crate) const fn int4_or_null<R>(name: &'static str, cell: fn(&R) -> Option<i32>) -> Column<R> {
    Column {
        name,
        cell: Cell::Int4OrNull(cell),
    }
}

/// A large number.
pub(crate) const fn int8<R>(name: &'static str, cell: fn(&R) -> i64) -> Column<R> {
    Column {
        name,
        cell: Cell::Int8(cell),
    }
}

/// What PgBouncer shows there is nobody's business: NULL.
pub(crate) const fn withheld<R>(name: &'static str, type_oid: u32) -> Column<R> {
    Column {
        name,
        cell: Cell::Withheld(type_oid),
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
            Self::Text(_) | Self::TextOrNull(_) => oid::TEXT,
            Self::Int4(_) | Self::Int4OrNull(_) => oid::INT4,
            Self::Int8(_) => oid::INT8,
            Self::Withheld(type_oid) => *type_oid,
        }
    }

    fn text(&self, row: &R) -> Option<String> {
        match self {
            Self::Text(cell) => Some(cell(row)),
            Self::TextOrNull(cell) => cell(row),
            Self::Int4(cell) => Some(cell(row).to_string()),
            Self::Int4OrNull(cell) => cell(row).map(|number| number.to_string()),
            Self::Int8(cell) => Some(cell(row).to_string()),
            Self::Withheld(_) => None,
        }
    }
}

#[cfg(test)]
impl Table {
    /// Whether every cell can be written in binary.
    pub(crate) fn is_binary(&self) -> bool {
        let mut cells = (0..self.rows()).flat_map(|place| self.row(place));
        cells.all(|(oid, text)| text.is_none_or(|text| binary::encode(oid, text).is_some()))
    }

    /// One line a column: name, OID, and its value in each row.
    pub(crate) fn turned(&self) -> String {
        let mut lines = String::new();
        for (place, (name, oid)) in self.header.iter().enumerate() {
            lines.push_str(&format!("{name}:{oid}"));
            for row in 0..self.rows() {
                let text = self.row(row).nth(place).and_then(|(_, text)| text);
                lines.push_str(" | ");
                lines.push_str(text.unwrap_or("NULL"));
            }
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use wire::extended::Extended;

    use super::*;

    #[test]
    fn a_number_too_large_for_its_column_is_cut_to_the_largest() {
        assert_eq!(fit(7usize), 7);
        assert_eq!(fit(u64::MAX), i32::MAX);
    }

    #[test]
    fn a_row_is_written_in_the_formats_that_are_asked_for() {
        let columns = [
            text("a", |row: &u8| row.to_string()),
            int4("b", |&row| fit(row)),
        ];
        let table = Table::of(&columns, [1]);
        let mut out = Vec::new();
        table.put_row(&mut out, 0, &Formats::default());
        assert_eq!(out, b"D\0\0\0\x10\0\x02\0\0\0\x011\0\0\0\x011");

        let mut bind = b"\0\0\0\0\0\0".to_vec();
        bind.extend(b"\0\x01\0\x01");
        let Ok(Some(Extended::Bind { results, .. })) = Extended::read(b'B', &bind) else {
            panic!("no Bind");
        };
        out.clear();
        table.put_row(&mut out, 0, &results);
        assert_eq!(out, b"D\0\0\0\x13\0\x02\0\0\0\x011\0\0\0\x04\0\0\0\x01");
    }
}
