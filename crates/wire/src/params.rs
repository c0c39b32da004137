//! Tracked parameters: what a client set and what its server has, and the SETs between.
//!
//! Values live in a shared, immutable [`Params`]; two sessions that agree hold the same one, so
//! that "nothing to do" is one comparison of pointers. A parameter is tracked on a server that
//! reported it at its login, and there only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::frontend::put_query;

/// Names that are always tracked, in the order they are told to clients.
const ALWAYS: [&str; 5] = [
    "DateStyle",
    "client_encoding",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
];

/// The others that PostgreSQL reports, in one version or another, and that a session may set.
const STANDARD: [&str; 3] = [
    "IntervalStyle",
    "default_transaction_read_only",
    "search_path",
];

/// Reported parameters that no SET can change, or that are not the session's own.
const NEVER: [&str; 7] = [
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "in_hot_standby",
    "session_authorization",
    "scram_iterations",
];

/// Parameters that are tracked at most; extensions and other products report some of their own.
const NAMES_MAX: usize = 64;
/// Longest name that PostgreSQL gives a parameter, in bytes.
const NAME_LEN_MAX: usize = 63;

/// The parameters that are tracked, by the places of their values. The list only grows: a name
/// keeps its place for ever.
#[derive(Debug, Clone)]
pub struct ParamNames(Arc<[OnceLock<Name>]>);

#[derive(Debug)]
struct Name {
    text: Box<str>,
    origin: Origin,
    /// Whether it is known that a session may set it.
    settable: AtomicBool,
}

/// How a parameter came to be tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It always is, or the operator asked for it.
    Asked,
    /// Some versions of PostgreSQL report it.
    Standard,
    /// A server reported it that nobody else knows.
    Found,
}

impl Name {
    fn new(text: &str, origin: Origin) -> Self {
        Self {
            text: text.into(),
            origin,
            settable: AtomicBool::new(origin != Origin::Found),
        }
    }

    fn is(&self, text: &str) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }
}

impl ParamNames {
    /// The place of application_name, the same in all.
    pub const APPLICATION_NAME: usize = ALWAYS.len() - 1;

    /// The fixed names, `track_extra_parameters`, and what PostgreSQL is known to report.
    pub fn new<'a>(extra: impl IntoIterator<Item = &'a str>) -> Self {
        let names = Self((0..NAMES_MAX).map(|_| OnceLock::new()).collect());
        for name in ALWAYS.into_iter().chain(extra) {
            names.place_of(name, Origin::Asked);
        }
        for name in STANDARD {
            names.place_of(name, Origin::Standard);
        }
        names
    }

    /// The place of a parameter that a server reports; `None` if it can't be tracked.
    pub fn track(&self, name: &str) -> Option<usize> {
        self.place_of(name, Origin::Found)
    }

    /// The place of a name, which gets one if it has none yet.
    fn place_of(&self, name: &str, origin: Origin) -> Option<usize> {
        let never = NEVER.iter().any(|n| n.eq_ignore_ascii_case(name));
        if never || !is_name(name) {
            return None;
        }
        self.0.iter().position(|slot| {
            let here = slot.get_or_init(|| Name::new(name, origin));
            here.is(name)
        })
    }

    /// The place of a name; names are compared without case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.taken().position(|known| known.is(name))
    }

    /// The place of a parameter that a server reports anew; `None` if it is not tracked there.
    pub fn find_in(&self, params: &Params, name: &str) -> Option<usize> {
        self.find(name).filter(|&place| params.get(place).is_some())
    }

    /// How the parameter at a place came to be tracked.
    pub fn origin(&self, place: usize) -> Option<Origin> {
        Some(self.name(place)?.origin)
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.taken().map(|name| &*name.text)
    }

    /// A session set this parameter: so others may.
    pub fn note_set(&self, place: usize) {
        if let Some(name) = self.name(place) {
            name.settable.store(true, Ordering::Relaxed);
        }
    }

    fn name(&self, place: usize) -> Option<&Name> {
        self.0.get(place)?.get()
    }

    fn taken(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map_while(OnceLock::get)
    }
}

/// Whether SET takes it as it stands.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The values of the tracked parameters; unset where nobody said. Most clients have most of them in
/// common, and share them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<Option<Arc<str>>>);

impl Params {
    /// The value at a place.
    pub fn get(&self, place: usize) -> Option<&str> {
        self.0.get(place)?.as_deref()
    }

    fn shared(&self, place: usize) -> Option<&Arc<str>> {
        self.0.get(place)?.as_ref()
    }

    /// The value of application_name, or nothing; it is shared.
    pub fn application_name(&self) -> Arc<str> {
        let value = self.0.get(ParamNames::APPLICATION_NAME).cloned();
        value.flatten().unwrap_or_default()
    }

    /// Sets the value at a place.
    pub fn set(&mut self, place: usize, value: &str) {
        if self.0.len() <= place {
            self.0.resize(place.saturating_add(1), None);
        }
        if let Some(slot) = self.0.get_mut(place) {
            *slot = Some(value.into());
        }
    }

    /// Whether these, [settled](Self::settle_on) on `other`, are what it is.
    pub fn settle_to(&self, other: &Self) -> bool {
        let mut both = self.0.iter().zip(&other.0);
        both.all(|(own, theirs)| own.is_none() || theirs.is_none() || own == theirs)
    }

    /// Fills what is unset from `other`, and forgets what `other` does not have: a parameter that
    /// the server does not report can't be tracked.
    pub fn settle_on(&mut self, other: &Self) {
        self.0.resize(other.0.len(), None);
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            if own.is_none() || theirs.is_none() {
                own.clone_from(theirs);
            }
        }
    }

    /// These values, but those of `own` where these are unset; `None` if that changes nothing.
    pub fn completed_by(&self, own: &Self) -> Option<Self> {
        let lacks = |place: usize| self.get(place).is_none() && own.get(place).is_some();
        let missing: Vec<usize> = (0..own.0.len()).filter(|&place| lacks(place)).collect();
        if missing.is_empty() {
            return None;
        }
        let mut all = self.clone();
        for place in missing {
            all.set(place, own.get(place).unwrap_or_default());
        }
        Some(all)
    }

    /// Where these differ from those of `before`: names, old values and new ones.
    pub fn changes<'a>(
        &'a self,
        before: &'a Self,
        names: &'a ParamNames,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>, &'a str)> {
        let places = names.iter().enumerate();
        places.filter_map(|(place, name)| {
            let (old, new) = (before.get(place), self.get(place)?);
            (old != Some(new)).then_some((name, old, new))
        })
    }
}

/// The Query that turns a server's `have` into a client's `want`; `None` when they agree. What the
/// client never heard of is as it was when the server logged in, by `default`.
pub fn alignment(
    names: &ParamNames,
    have: &Params,
    want: &Params,
    default: &Params,
) -> Option<Vec<u8>> {
    let mut sql = String::new();
    for (place, name) in names.taken().enumerate() {
        let wanted = want.shared(place).or_else(|| default.shared(place));
        if let (Some(have), Some(want)) = (have.shared(place), wanted)
            && !Arc::ptr_eq(have, want)
            && !have.eq_ignore_ascii_case(want)
            && name.settable.load(Ordering::Relaxed)
        {
            push_set(&mut sql, &name.text, want);
        }
    }
    if sql.is_empty() {
        return None;
    }
    let mut query = Vec::new();
    put_query(&mut query, &sql);
    Some(query)
}

fn push_set(sql: &mut String, name: &str, value: &str) {
    if name.eq_ignore_ascii_case("search_path") {
        // It is reported as a list of names, quoted where they must be: as one literal it would
        // be one name, and bare it could be any SQL.
        sql.push_str("SELECT pg_catalog.set_config('search_path',");
        push_literal(sql, value);
        sql.push_str(",false);");
    } else {
        sql.push_str("SET ");
        sql.push_str(name);
        sql.push('=');
        push_literal(sql, value);
        sql.push(';');
    }
}

fn push_literal(sql: &mut String, value: &str) {
    // A backslash would be an escape when standard_conforming_strings is off.
    if value.contains('\\') {
        sql.push('E');
    }
    sql.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            sql.push(c);
        }
        sql.push(c);
    }
    sql.push('\'');
}

#[cfg(test)]
mod tests;
