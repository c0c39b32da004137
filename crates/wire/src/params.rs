//! Tracked parameters: what a client set and what its server has, and the SETs between.
//!
//! Values live in a shared, immutable [`Params`]; two sessions that agree hold the same one, so
//! that "nothing to do" is one comparison of pointers.

use std::sync::Arc;

use crate::frontend::put_query;

/// Names that are always tracked, in the order they are told to clients.
const ALWAYS: [&str; 5] = [
    "DateStyle",
    "client_encoding",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
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

/// The parameters that are tracked, by the places of their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamNames(Arc<[Box<str>]>);

impl ParamNames {
    /// The fixed names and `track_extra_parameters`.
    pub fn new<'a>(extra: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<str>> = ALWAYS.iter().map(|&name| name.into()).collect();
        for name in extra {
            let known = |list: &[Box<str>]| list.iter().any(|n| n.eq_ignore_ascii_case(name));
            let never = NEVER.iter().any(|n| n.eq_ignore_ascii_case(name));
            if !name.is_empty() && !never && !known(&names) {
                names.push(name.into());
            }
        }
        Self(names.into())
    }

    /// The place of a name; names are compared without case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|n| n.eq_ignore_ascii_case(name))
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// The values of the tracked parameters; unset where nobody said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<Option<Box<str>>>);

impl Params {
    /// The value at a place.
    pub fn get(&self, place: usize) -> Option<&str> {
        self.0.get(place)?.as_deref()
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

    /// Fills what is unset from `other`, and forgets what `other` does not have: a parameter that
    /// the server does not report can't be tracked.
    pub fn settle_on(&mut self, other: &Self) {
        let values = other.0.iter().enumerate().map(|(place, theirs)| {
            let theirs = theirs.as_ref()?;
            Some(self.get(place).map_or_else(|| theirs.clone(), Box::from))
        });
        self.0 = values.collect();
    }
}

/// The Query that turns a server's `have` into a client's `want`; `None` when they agree.
pub fn alignment(names: &ParamNames, have: &Params, want: &Params) -> Option<Vec<u8>> {
    let mut sql = String::new();
    for (place, name) in names.iter().enumerate() {
        if let (Some(have), Some(want)) = (have.get(place), want.get(place))
            && !have.eq_ignore_ascii_case(want)
        {
            sql.push_str("SET ");
            sql.push_str(name);
            sql.push('=');
            push_value(&mut sql, name, want);
            sql.push(';');
        }
    }
    if sql.is_empty() {
        return None;
    }
    let mut query = Vec::new();
    put_query(&mut query, &sql);
    Some(query)
}

/// A value as a literal. search_path is reported as a list that is quoted already.
fn push_value(sql: &mut String, name: &str, value: &str) {
    if name.eq_ignore_ascii_case("search_path") && !value.is_empty() && value != "\"\"" {
        sql.push_str(value);
        return;
    }
    let value = if value == "\"\"" { "" } else { value };
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
mod tests {
    use super::*;

    fn params(names: &ParamNames, pairs: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        for (name, value) in pairs {
            params.set(names.find(name).unwrap(), value);
        }
        params
    }

    fn sql(names: &ParamNames, have: &[(&str, &str)], want: &[(&str, &str)]) -> String {
        let query = alignment(names, &params(names, have), &params(names, want));
        query.map_or_else(String::new, |bytes| {
            String::from_utf8(bytes[5..bytes.len() - 1].to_vec()).unwrap()
        })
    }

    #[test]
    fn only_what_differs_and_is_known_on_both_sides_is_set() {
        let names = ParamNames::new(["IntervalStyle", "datestyle", "server_version"]);
        assert_eq!(names.iter().count(), 6);
        let have = [("timezone", "UTC"), ("DateStyle", "ISO, MDY")];
        assert_eq!(sql(&names, &have, &[("TimeZone", "utc")]), "");
        assert_eq!(sql(&names, &have, &[("IntervalStyle", "iso_8601")]), "");
        assert_eq!(
            sql(
                &names,
                &have,
                &[("TimeZone", "Asia/Tokyo"), ("DateStyle", "German")]
            ),
            "SET DateStyle='German';SET TimeZone='Asia/Tokyo';"
        );
    }

    #[test]
    fn values_are_quoted_so_that_they_stay_values() {
        let names = ParamNames::new(["search_path"]);
        let have = [("application_name", "x"), ("search_path", "public")];
        assert_eq!(
            sql(&names, &have, &[("application_name", "o'hara\\'; drop")]),
            "SET application_name=E'o''hara\\\\''; drop';"
        );
        assert_eq!(
            sql(&names, &have, &[("search_path", "\"$user\", public")]),
            "SET search_path=\"$user\", public;"
        );
        assert_eq!(
            sql(&names, &have, &[("search_path", "\"\"")]),
            "SET search_path='';"
        );
        assert_eq!(
            sql(&names, &have, &[("application_name", "\"\"")]),
            "SET application_name='';"
        );
    }

    #[test]
    fn a_client_settles_on_what_the_server_reports() {
        let names = ParamNames::new(["IntervalStyle"]);
        let server = params(&names, &[("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")]);
        let mut client = params(&names, &[("TimeZone", "CET"), ("IntervalStyle", "x")]);
        client.settle_on(&server);
        assert_eq!(
            client,
            params(&names, &[("TimeZone", "CET"), ("DateStyle", "ISO, MDY")])
        );
    }
}
