//! Versions of TLS, as OpenSSL's users write them.

use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

use super::TlsSetupError;

/// The versions that are asked for and can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocols {
    pub(super) tls12: bool,
    pub(super) tls13: bool,
}

const V10: u8 = 1;
const V11: u8 = 2;
const V12: u8 = 4;
const V13: u8 = 8;
const ALL: u8 = V10 | V11 | V12 | V13;

impl Protocols {
    /// Reads a list of versions; those behind a `!` are left out.
    pub(super) fn parse(
        key: &str,
        list: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TlsSetupError> {
        let invalid = || TlsSetupError::Invalid(key.to_owned(), list.to_owned());
        let mut asked = 0;
        for word in list.split([',', ':']) {
            let word = word.trim();
            let (versions, without) = match word.strip_prefix('!') {
                Some(word) => (named(word), true),
                None => (named(word), false),
            };
            let versions = versions.ok_or_else(invalid)?;
            if without {
                let all = if asked == 0 { ALL } else { asked };
                asked = all & !versions;
            } else {
                asked |= versions;
            }
        }
        let protocols = Self {
            tls12: asked & V12 != 0,
            tls13: asked & V13 != 0,
        };
        if !protocols.tls12 && !protocols.tls13 {
            return Err(invalid());
        }
        if asked & (V10 | V11) != 0 {
            warnings.push(format!(
                "{key} = {list}: TLS 1.0 and 1.1 are not spoken here, 1.2 and 1.3 are"
            ));
        }
        Ok(protocols)
    }

    /// The same for the library.
    pub(super) fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        let versions = [(self.tls13, &TLS13), (self.tls12, &TLS12)];
        let asked = versions.into_iter().filter(|(asked, _)| *asked);
        asked.map(|(_, version)| version).collect()
    }
}

fn named(word: &str) -> Option<u8> {
    Some(match word.to_ascii_lowercase().as_str() {
        "tlsv1.0" => V10,
        "tlsv1.1" => V11,
        "tlsv1.2" => V12,
        "tlsv1.3" => V13,
        "secure" | "default" => V12 | V13,
        "tlsv1" | "all" | "legacy" => ALL,
        _ => return None,
    })
}

/// OpenSSL's name of a version.
pub(super) fn name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> String {
        let mut warnings = Vec::new();
        match Protocols::parse("p", list, &mut warnings) {
            Ok(Protocols { tls12, tls13 }) => {
                let names = [(tls12, "1.2"), (tls13, "1.3")];
                let names = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
                let names: Vec<_> = names.collect();
                let warned = if warnings.is_empty() { "" } else { " (warned)" };
                format!("{}{warned}", names.join(" "))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lists_are_read_as_openssls_users_write_them() {
        assert_eq!(read("secure"), "1.2 1.3");
        assert_eq!(read("TLSv1.2"), "1.2");
        assert_eq!(read("tlsv1.2, tlsv1.3"), "1.2 1.3");
        assert_eq!(read("tlsv1.2:tlsv1.3"), "1.2 1.3");
        assert_eq!(read("secure,!tlsv1.3"), "1.2");
    }

    #[test]
    fn what_can_not_be_had_is_warned_of_and_nothing_at_all_is_refused() {
        assert_eq!(read("all"), "1.2 1.3 (warned)");
        assert_eq!(read("legacy"), "1.2 1.3 (warned)");
        assert_eq!(read("!tlsv1.3"), "1.2 (warned)");
        assert_eq!(read("tlsv1.1,tlsv1.2"), "1.2 (warned)");
        assert_eq!(read("tlsv1.0"), "invalid p: tlsv1.0");
        assert_eq!(read("bogus"), "invalid p: bogus");
        assert_eq!(read(""), "invalid p: ");
        assert_eq!(read("tlsv1.3,!tlsv1.3"), "invalid p: tlsv1.3,!tlsv1.3");
    }
}
