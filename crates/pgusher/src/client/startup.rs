//! The startup packet's parameters: which are tracked, which ignored, which refused.

use pool::own::OwnStartup;
use settings::Settings;
use wire::params::Origin;
use wire::startup::parse_options;
use wire::{ParamNames, Params, Replication, Startup};

use super::Refused;

/// What a client asks for in its startup packet.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// The tracked parameters among it.
    pub(super) params: Params,
    /// Parameters that only some versions of PostgreSQL report, and what the client is told if
    /// its server is of another: silence would leave it with another value than it believes.
    unsure: Vec<(usize, String)>,
}

impl Wishes {
    /// Looks whether the server reports all that is asked for.
    pub(super) fn check(&self, reported: &Params) -> Result<(), Refused> {
        let lacks = |&&(place, _): &&(usize, String)| reported.get(place).is_none();
        match self.unsure.iter().find(lacks) {
            Some((_, refusal)) => Err(Refused::told(refusal)),
            None => Ok(()),
        }
    }
}

/// Takes in the parameters of a startup packet. For replication `options` are the server's affair.
pub(super) fn parameters(
    startup: &Startup,
    settings: &Settings,
    names: &ParamNames,
    to_console: bool,
    replication: Replication,
) -> Result<Wishes, Refused> {
    let mut reader = Reader {
        settings,
        names,
        to_console,
        wishes: Wishes::default(),
    };
    for (name, value) in startup.params() {
        match name {
            "user" | "database" | "replication" => {}
            "options" if replication != Replication::None => {}
            "options" => reader.take_options(value)?,
            name if name.starts_with("_pq_.") => {}
            name => reader.take(name, value, Some("unsupported startup parameter"))?,
        }
    }
    Ok(reader.wishes)
}

/// Sorts parameters into those that are tracked, ignored, refused.
struct Reader<'a> {
    settings: &'a Settings,
    names: &'a ParamNames,
    to_console: bool,
    wishes: Wishes,
}

impl Reader<'_> {
    fn take_options(&mut self, options: &str) -> Result<(), Refused> {
        let settings = match parse_options(options) {
            Ok(settings) => settings,
            Err(_) if self.is_ignored("options") => return Ok(()),
            Err(error) => return Err(Refused::Told(error.to_string())),
        };
        // Who ignores options has what is tracked set all the same.
        let refusal = "unsupported startup parameter in options";
        let refusal = Some(refusal).filter(|_| !self.is_ignored("options"));
        for (name, value) in &settings {
            self.take(name, value, refusal)?;
        }
        Ok(())
    }

    /// Takes a parameter if it is tracked; otherwise refuses it with these words, if with any.
    fn take(&mut self, name: &str, value: &str, refusal: Option<&str>) -> Result<(), Refused> {
        let refusal = refusal.map(|text| move || format!("{text}: {name}"));
        let place = self.names.find(name);
        let origin = place.and_then(|place| self.names.origin(place));
        match place.zip(origin) {
            Some((place, Origin::Asked)) => self.wishes.params.set(place, value),
            _ if self.is_ignored(name) => {}
            Some((place, Origin::Standard)) if !self.to_console => {
                self.wishes.params.set(place, value);
                let unsure = refusal.map(|refusal| (place, refusal()));
                self.wishes.unsure.extend(unsure);
            }
            _ => {
                if let Some(refusal) = refusal {
                    return Err(Refused::Told(refusal()));
                }
            }
        }
        Ok(())
    }

    fn is_ignored(&self, name: &str) -> bool {
        // Drivers of monitoring tools send this one to the console.
        let by_console = self.to_console && name == "extra_float_digits";
        by_console || self.settings.ignore_startup_parameters.contains(name)
    }
}

/// What the server of a replication client is asked for: the same as its client asked of us.
pub(super) fn own(
    startup: &Startup,
    replication: Replication,
    names: &ParamNames,
    params: &Params,
) -> Option<OwnStartup> {
    if replication == Replication::None {
        return None;
    }
    let as_sent = ["replication", "options"].into_iter();
    let as_sent = as_sent.filter_map(|name| Some((name, startup.get(name)?)));
    let tracked = names.iter().enumerate();
    let tracked = tracked.filter_map(|(place, name)| Some((name, params.get(place)?)));
    let parameters = as_sent.chain(tracked);
    Some(OwnStartup {
        replication,
        parameters: parameters
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &[(&str, &str)], ignore: &str) -> Result<String, String> {
        let mut settings = Settings::default();
        settings
            .set("ignore_startup_parameters", ignore)
            .expect("a list");
        let names = ParamNames::new(["IntervalStyle"]);
        let startup = Startup::new(0, params.iter().copied());
        let mut reported = Params::default();
        reported.set(
            names.find("search_path").expect("a standard name"),
            "public",
        );
        let wishes = parameters(&startup, &settings, &names, false, Replication::None);
        let params = wishes.and_then(|wishes| wishes.check(&reported).map(|()| wishes.params));
        let params = params.map_err(|refused| refused.to_string())?;
        let told = names.iter().enumerate();
        let pairs = told.filter_map(|(place, name)| Some((name, params.get(place)?)));
        Ok(pairs
            .map(|(name, value)| format!("{name}={value} "))
            .collect())
    }

    #[test]
    fn tracked_parameters_are_taken_wherever_they_stand() {
        let params = [("user", "u"), ("timezone", "UTC"), ("_pq_.x", "1")];
        assert_eq!(read(&params, "").unwrap(), "TimeZone=UTC ");
        let options = [("options", "-c intervalstyle=iso_8601 --datestyle=ISO")];
        assert_eq!(
            read(&options, "").unwrap(),
            "DateStyle=ISO IntervalStyle=iso_8601 "
        );
    }

    #[test]
    fn others_are_refused_by_name_unless_ignored() {
        let params = [("extra_float_digits", "2")];
        assert_eq!(
            read(&params, "").unwrap_err(),
            "unsupported startup parameter: extra_float_digits"
        );
        assert_eq!(read(&params, "extra_float_digits").unwrap(), "");
        let options = [("options", "-c geqo=off")];
        assert_eq!(
            read(&options, "").unwrap_err(),
            "unsupported startup parameter in options: geqo"
        );
        assert_eq!(read(&options, "geqo").unwrap(), "");
        assert_eq!(read(&options, "options").unwrap(), "");
        assert!(read(&[("options", "-d")], "").is_err());
        assert_eq!(read(&[("options", "-d")], "options").unwrap(), "");
    }

    #[test]
    fn what_not_every_server_reports_is_refused_where_it_is_not() {
        // The server of these tests reports one of the two.
        assert_eq!(read(&[("search_path", "a")], "").unwrap(), "search_path=a ");
        let read_only = [("default_transaction_read_only", "on")];
        assert_eq!(
            read(&read_only, "").unwrap_err(),
            "unsupported startup parameter: default_transaction_read_only"
        );
        let options = [("options", "-c default-transaction-read-only=on")];
        assert_eq!(
            read(&options, "").unwrap_err(),
            "unsupported startup parameter in options: default_transaction_read_only"
        );
    }

    #[test]
    fn what_is_to_be_ignored_is_whatever_the_server_unless_it_was_asked_for() {
        assert_eq!(read(&[("search_path", "a")], "search_path").unwrap(), "");
        let asked = [("IntervalStyle", "iso_8601")];
        assert_eq!(
            read(&asked, "IntervalStyle").unwrap(),
            "IntervalStyle=iso_8601 "
        );
        let options = [("options", "-c search_path=a -c geqo=off")];
        assert_eq!(read(&options, "options").unwrap(), "search_path=a ");
    }

    #[test]
    fn a_replication_client_asks_its_server_for_what_it_wants() {
        let params = [
            ("user", "u"),
            ("options", "-c geqo=off -d 5"),
            ("extra_float_digits", "3"),
            ("datestyle", "German"),
            ("replication", "on"),
            ("database", "d"),
        ];
        let startup = Startup::new(0, params.iter().copied());
        let mut settings = Settings::default();
        settings
            .set("ignore_startup_parameters", "extra_float_digits")
            .expect("a list");
        let names = ParamNames::new([]);
        let kind = startup.replication().unwrap();
        let wishes = parameters(&startup, &settings, &names, false, kind).unwrap();
        let params = wishes.params;
        let asked = super::own(&startup, kind, &names, &params).unwrap();
        let asked: Vec<_> = asked.parameters.iter().map(|(n, v)| (&**n, &**v)).collect();
        let expected = [
            ("replication", "on"),
            ("options", "-c geqo=off -d 5"),
            ("DateStyle", "German"),
        ];
        assert_eq!((kind, asked), (Replication::Physical, expected.to_vec()));
        assert_eq!(
            super::own(&startup, Replication::None, &names, &params),
            None
        );
    }
}
