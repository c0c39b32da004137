//! What a session has prepared, and the portals on which its requests run.

use std::collections::HashMap;

use wire::binary;
use wire::extended::{Format, Formats, Sign, put_sign};

use crate::command::Privilege;
use crate::denial::Denial;
use crate::request::{Request, Template};
use crate::table::Table;

/// Longest name of a statement or portal, in bytes.
const NAME_LEN_MAX: usize = 256;

/// Things of a session by their names, of which there may be so many.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    things: HashMap<Vec<u8>, T>,
    kind: &'static str,
    len_max: usize,
}

impl<T> Shelf<T> {
    /// An empty one for that many; `kind` is what they are called.
    pub(crate) fn new(kind: &'static str, len_max: usize) -> Self {
        Self {
            things: HashMap::new(),
            kind,
            len_max,
        }
    }

    /// Puts a thing where nothing is, or in the place of the one without a name.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        thing: T,
        taken: impl FnOnce(Vec<u8>) -> Denial,
    ) -> Result<(), Denial> {
        if name.len() > NAME_LEN_MAX {
            return Err(Denial::NameTooLong);
        }
        if !name.is_empty() && self.things.contains_key(name) {
            return Err(taken(name.to_owned()));
        }
        if self.things.len() >= self.len_max && !self.things.contains_key(name) {
            return Err(Denial::TooMany(self.kind));
        }
        self.things.insert(name.to_owned(), thing);
        Ok(())
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&T> {
        self.things.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        self.things.get_mut(name)
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        self.things.remove(name);
    }

    pub(crate) fn clear(&mut self) {
        self.things.clear();
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    template: Template,
    /// The type of its parameter: what the client says, else what suits.
    type_oid: Option<u32>,
}

impl Prepared {
    /// Prepares a query whose parameter the client says to be of the first of `types`.
    pub(crate) fn new(query: &str, types: &[u32], privilege: Privilege) -> Result<Self, Denial> {
        // Drivers prepare nothing to see whether we are there.
        let template = if query.trim_matches([' ', '\t', '\r', '\n', ';']).is_empty() {
            Template::Whole(Request::Nothing)
        } else {
            Template::read(query, privilege)?
        };
        let told = types.first().copied().filter(|&oid| oid != 0);
        let type_oid = template.parameter().map(|suits| told.unwrap_or(suits));
        Ok(Self { template, type_oid })
    }

    /// The types of its parameters.
    pub(crate) fn types(&self) -> &[u32] {
        self.type_oid.as_slice()
    }

    /// Its result's columns; `None` if it returns no rows.
    pub(crate) fn columns(&self) -> Option<Table> {
        self.template.columns()
    }

    /// A portal for these parameters, with its result in these formats.
    pub(crate) fn bind(
        &self,
        (formats, values): (&Formats, &[Option<&[u8]>]),
        results: Formats,
        privilege: Privilege,
    ) -> Result<Portal, Denial> {
        let (given, expected) = (values.len(), self.types().len());
        if given != expected || !formats.fit(given) {
            return Err(Denial::ParameterCount { given, expected });
        }
        let value = match (self.type_oid, values.first()) {
            (Some(oid), Some(value)) => {
                let bytes = value.ok_or(Denial::Null)?;
                let text = match formats.at(0) {
                    Format::Text => std::str::from_utf8(bytes).ok().map(Into::into),
                    Format::Binary => binary::decode(oid, bytes),
                };
                text.ok_or(Denial::Unreadable)?
            }
            _ => "".into(),
        };
        let request = self.template.with(&value, privilege)?;
        let columns = request.columns().map_or(0, |table| table.columns());
        if !results.fit(columns) {
            let given = results.count();
            return Err(Denial::FormatCount { given, columns });
        }
        Ok(Portal::new(request, results))
    }
}

/// A request that may run.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) request: Request,
    formats: Formats,
    pub(crate) progress: Progress,
}

/// How far a portal has run.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Not yet.
    Fresh,
    /// Its table is there; this row is the next.
    Rows(Table, usize),
    /// It has told everything, and there were no rows.
    Done,
}

impl Portal {
    pub(crate) fn new(request: Request, formats: Formats) -> Self {
        Self {
            request,
            formats,
            progress: Progress::Fresh,
        }
    }

    /// Appends what it will return.
    pub(crate) fn describe(&self, out: &mut Vec<u8>) {
        put_columns(out, self.request.columns(), &self.formats);
    }

    /// Appends up to that many of the rows that are left, and tells how many those were.
    pub(crate) fn put_rows(&mut self, out: &mut Vec<u8>, count_max: usize) -> usize {
        let Progress::Rows(table, next) = &mut self.progress else {
            return 0;
        };
        let end = next.saturating_add(count_max).min(table.rows());
        let count = end - *next;
        for place in *next..end {
            table.put_row(out, place, &self.formats);
        }
        *next = end;
        count
    }

    /// Whether all rows are told.
    pub(crate) fn is_told(&self) -> bool {
        match &self.progress {
            Progress::Rows(table, next) => *next >= table.rows(),
            Progress::Fresh | Progress::Done => true,
        }
    }
}

/// Appends the description of a result, or that there is none.
pub(crate) fn put_columns(out: &mut Vec<u8>, columns: Option<Table>, formats: &Formats) {
    match columns {
        Some(table) => table.put_header(out, formats),
        None => put_sign(out, Sign::NoRows),
    }
}
