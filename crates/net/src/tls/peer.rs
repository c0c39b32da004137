//! What a certificate says of whose it is.

use std::net::IpAddr;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::v1::parse;

/// The names in a client's certificate, which was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject's common name, if it has just one.
    pub common_name: Option<String>,
    /// The DNS names among its alternative names.
    pub dns_names: Vec<String>,
}

impl PeerCertificate {
    /// Reads the names; of what can't be read there are none.
    pub(super) fn read(leaf: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = parse(leaf) else {
            return Self::default();
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice());
        let dns_name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        Self {
            common_name: common_name(&certificate).map(str::to_owned),
            dns_names: names
                .unwrap_or_default()
                .iter()
                .filter_map(dns_name)
                .collect(),
        }
    }
}

/// The common name. With two of them, or one that C would read to a NUL only, it is not clear whose
/// the certificate is.
fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().filter(|name| !name.contains('\0')),
        _ => None,
    }
}

/// Checks that a certificate is for the server of this name: by its alternative names, or by its
/// common name if it has none.
pub(super) fn is_for(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let certificate = parse(leaf)?;
    let names = certificate.subject_alternative_name();
    if names.map_err(|_| CertificateError::BadEncoding)?.is_some() {
        return verify_server_name(&ParsedCertificate::try_from(leaf)?, name);
    }
    let fits = common_name(&certificate).is_some_and(|common_name| match name {
        ServerName::DnsName(name) => fits(common_name, name.as_ref()),
        ServerName::IpAddress(ip) => common_name.parse() == Ok(IpAddr::from(*ip)),
        _ => false,
    });
    if fits {
        Ok(())
    } else {
        Err(CertificateError::NotValidForName.into())
    }
}

/// Whether a common name, which may begin with `*.`, stands for a host. The star is one label, and
/// behind it come two at least.
fn fits(common_name: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if common_name.eq_ignore_ascii_case(host) {
        return !host.is_empty();
    }
    let (Some(domain), Some((label, rest))) =
        (common_name.strip_prefix("*."), host.split_once('.'))
    else {
        return false;
    };
    let labels: Vec<_> = domain.split('.').collect();
    let is_domain = labels.len() >= 2 && labels.iter().all(|label| !label.is_empty());
    is_domain && !label.is_empty() && domain.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_common_name_stands_for_its_host_in_any_letter_case() {
        assert!(fits("db.example.com", "DB.example.COM"));
        assert!(fits("localhost", "localhost"));
        assert!(fits("db.example.com", "db.example.com."));
        assert!(!fits("db.example.com", "db.example.org"));
        assert!(!fits("", ""), "an empty name");
    }

    #[test]
    fn a_star_is_one_whole_label_before_two_others() {
        assert!(fits("*.example.com", "db.example.com"));
        assert!(fits("*.Example.com", "db.eXample.com"));
        for (name, host) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "a.db.example.com"),
            ("*.example.com", ".example.com"),
            ("*.com", "example.com"),
            ("*", "localhost"),
            ("*.", "localhost."),
            ("*..com", "db..com"),
            ("*.example.", "db.example."),
            ("d*.example.com", "db.example.com"),
            ("db.*.com", "db.example.com"),
        ] {
            assert!(!fits(name, host), "{name} for {host}");
        }
    }
}
