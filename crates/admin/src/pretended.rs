//! Parameters that drivers SHOW and SET at login, and that mean nothing at the console.

use wire::binary::oid;

use crate::table::Table;

/// One such parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pretended {
    /// Its name, which is also the column's.
    pub(crate) name: &'static str,
    /// What it is said to be, whatever was set.
    pub(crate) value: &'static str,
}

const PRETENDED: [Pretended; 6] = [
    pretended("client_encoding", "UTF-8"),
    pretended("default_transaction_isolation", "read committed"),
    pretended("standard_conforming_strings", "on"),
    pretended("datestyle", "ISO"),
    pretended("timezone", "GMT"),
    pretended("extra_float_digits", "1"),
];

const fn pretended(name: &'static str, value: &'static str) -> Pretended {
    Pretended { name, value }
}

impl Pretended {
    /// What SHOW of it answers with.
    pub(crate) fn table(self) -> Table {
        let row = vec![Some(self.value.to_owned())];
        Table::raw(vec![(self.name, oid::TEXT)], vec![row])
    }

    /// The parameter of that name, in any letter case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        PRETENDED
            .into_iter()
            .find(|parameter| parameter.name.eq_ignore_ascii_case(name))
    }
}
