//! The startup packet's parameters: which are tracked, which ignored, which refused.

use pool::own::OwnStartup;
use settings::Settings;
use wire::startup::parse_options;
use wire::{ParamNames, Params, Replication, Startup};

use super::Refused;

/// Takes in the parameters of a startup packet. For replication `options` are the server's affair.
pub(super) fn parameters(
    startup: &Startup,
    settings: &Settings,
    names: &ParamNames,
    to_console: bool,
    replication: Replication,
) -> Result<Params, Refused> {
    let ignored = &settings.ignore_startup_parameters;
    // Drivers of monitoring tools send it to the console.
    let is_ignored =
        |name: &str| ignored.contains(name) || (to_console && name == "extra_float_digits");
    let mut params = Params::default();
    for (name, value) in &startup.params {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" if replication != Replication::None => {}
            "options" if is_ignored("options") => take_known_options(value, names, &mut params),
            "options" => take_options(value, names, &mut params, is_ignored)?,
            name if name.starts_with("_pq_.") => {}
            name => match names.find(name) {
                Some(place) => params.set(place, value),
                None if is_ignored(name) => {}
                None => {
                    return Err(Refused::told(format!(
                        "unsupported startup parameter: {name}"
                    )));
                }
            },
        }
    }
    Ok(params)
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

fn take_options(
    options: &str,
    names: &ParamNames,
    params: &mut Params,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<(), Refused> {
    let settings = parse_options(options).map_err(|error| Refused::told(error.to_string()))?;
    for (name, value) in settings {
        match names.find(&name) {
            Some(place) => params.set(place, &value),
            None if is_ignored(&name) => {}
            None => {
                return Err(Refused::told(format!(
                    "unsupported startup parameter in options: {name}"
                )));
            }
        }
    }
    Ok(())
}

fn take_known_options(options: &str, names: &ParamNames, params: &mut Params) {
    for (name, value) in parse_options(options).unwrap_or_default() {
        if let Some(place) = names.find(&name) {
            params.set(place, &value);
        }
    }
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
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let startup = Startup {
            minor: 0,
            params: params.iter().map(own).collect(),
        };
        let params = parameters(&startup, &settings, &names, false, Replication::None);
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
    fn a_replication_client_asks_its_server_for_what_it_wants() {
        let params = [
            ("user", "u"),
            ("options", "-c geqo=off -d 5"),
            ("extra_float_digits", "3"),
            ("datestyle", "German"),
            ("replication", "on"),
            ("database", "d"),
        ];
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let startup = Startup {
            minor: 0,
            params: params.iter().map(own).collect(),
        };
        let mut settings = Settings::default();
        settings
            .set("ignore_startup_parameters", "extra_float_digits")
            .expect("a list");
        let names = ParamNames::new([]);
        let kind = startup.replication().unwrap();
        let params = parameters(&startup, &settings, &names, false, kind).unwrap();
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
