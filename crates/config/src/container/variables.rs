//! Variables by their names: with `PGUSHER_` before them, or in the file that `<NAME>_FILE` names.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::finding::{Finding, Place, Problem};
use crate::ini::ReadFile;

/// The environment, and what came of reading it.
pub(super) struct Variables<'a> {
    all: BTreeMap<&'a str, &'a str>,
    read: ReadFile,
    pub(super) findings: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    pub(super) used: BTreeSet<String>,
}

/// A value, and the variable that gave it.
pub(super) struct Given {
    pub(super) variable: String,
    pub(super) value: Zeroizing<String>,
}

/// What may stand before any name.
pub(super) const OWN: &str = "PGUSHER_";

impl<'a> Variables<'a> {
    pub(super) fn new(environment: &'a [(String, String)], read: ReadFile) -> Self {
        // Compose files pass on variables that nobody has set as empty ones.
        let filled = environment.iter().filter(|(_, value)| !value.is_empty());
        Self {
            all: filled.map(|(name, value)| (&**name, &**value)).collect(),
            read,
            findings: Vec::new(),
            warnings: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// Whether it is there by just this name, or its file is.
    pub(super) fn has_exactly(&self, name: &str) -> bool {
        self.all.contains_key(name) || self.all.contains_key(&*in_file(name))
    }

    /// What the variable says, with or without `PGUSHER_`.
    pub(super) fn get(&mut self, name: &str) -> Option<Given> {
        self.exactly(&format!("{OWN}{name}"))
            .or_else(|| self.exactly(name))
    }

    /// What the variable of just this name says.
    pub(super) fn exactly(&mut self, name: &str) -> Option<Given> {
        let Some(value) = self.all.get(name).copied() else {
            return self.in_file_only(name);
        };
        self.used.insert(name.to_owned());
        if self.all.contains_key(&*in_file(name)) {
            let both = format!("given twice, here and by {}", in_file(name));
            self.report(name, Problem::Other(both));
        }
        Some(Given {
            variable: name.to_owned(),
            value: Zeroizing::new(value.to_owned()),
        })
    }

    /// What the file says that `<NAME>_FILE` names.
    pub(super) fn in_file_only(&mut self, name: &str) -> Option<Given> {
        let variable = in_file(name);
        let path = self.all.get(&*variable).copied()?;
        self.used.insert(variable.clone());
        match (self.read)(path.as_ref()) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let value = line.strip_suffix('\r').unwrap_or(line).to_owned();
                let value = Zeroizing::new(value);
                (!value.is_empty()).then_some(Given { variable, value })
            }
            Err(error) => {
                let reason = format!("{path}: {error}");
                self.report(&variable, Problem::Unreadable { reason });
                None
            }
        }
    }

    /// A port, unless Kubernetes has put a service's address there for its name alone.
    pub(super) fn port(&mut self, name: &str) -> Option<Given> {
        let given = self.get(name)?;
        if !given.value.contains("://") {
            return Some(given);
        }
        let problem = Problem::Other("not used: this is an address, not a port".to_owned());
        self.warn(&given.variable, problem);
        None
    }

    /// The value, if it fits into a line.
    pub(super) fn one_line<'b>(&mut self, given: &'b Given) -> Option<&'b str> {
        if given
            .value
            .contains(['\n', '\r', '\0', char::REPLACEMENT_CHARACTER])
        {
            self.report(&given.variable, Problem::Syntax("one line of UTF-8"));
            return None;
        }
        Some(&given.value)
    }

    pub(super) fn report(&mut self, variable: &str, problem: Problem) {
        self.findings
            .push(Finding::new(Place::Environment, variable, problem));
    }

    pub(super) fn warn(&mut self, variable: &str, problem: Problem) {
        self.warnings
            .push(Finding::new(Place::Environment, variable, problem));
    }
}

fn in_file(name: &str) -> String {
    format!("{name}_FILE")
}
