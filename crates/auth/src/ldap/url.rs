//! LDAP URLs: `ldap[s]://host[:port]/base[?attribute[?scope[?filter]]]`.

use super::{LdapFault, LdapScope, is_secure, port, wrong};

/// What an URL says.
pub(super) struct Url {
    pub(super) is_secure: bool,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) base: Option<String>,
    pub(super) attribute: Option<String>,
    pub(super) scope: LdapScope,
    pub(super) filter: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Url, LdapFault> {
    let fault = wrong(
        "ldapurl",
        "ldap[s]://host[:port]/base[?attribute[?scope[?filter]]]",
    );
    let (scheme, rest) = text.split_once("://").ok_or_else(|| fault.clone())?;
    let (place, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port_text) = host_and_port(place).ok_or_else(|| fault.clone())?;

    let mut parts = rest.split('?').map(decode);
    let mut part = || match parts.next() {
        None => Ok(None),
        Some(None) => Err(fault.clone()),
        Some(Some(part)) => Ok(Some(part).filter(|part| !part.is_empty())),
    };
    let (base, attribute, scope, filter) = (part()?, part()?, part()?, part()?);
    Ok(Url {
        is_secure: is_secure(scheme)?,
        host: Some(host.to_owned()).filter(|host| !host.is_empty()),
        port: port_text.map(port).transpose()?,
        base,
        attribute,
        scope: scope.map_or(Ok(LdapScope::Base), |text| parse_scope(&text))?,
        filter,
    })
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(place: &str) -> Option<(&str, Option<&str>)> {
    match place.strip_prefix('[') {
        Some(place) => {
            let (host, rest) = place.split_once(']')?;
            match rest {
                "" => Some((host, None)),
                rest => Some((host, Some(rest.strip_prefix(':')?))),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => Some((host, Some(port))),
            None => Some((place, None)),
        },
    }
}

fn parse_scope(text: &str) -> Result<LdapScope, LdapFault> {
    match text {
        "base" => Ok(LdapScope::Base),
        "one" | "onelevel" => Ok(LdapScope::One),
        "sub" | "subtree" => Ok(LdapScope::Subtree),
        _ => Err(wrong("ldapurl", "base, one or sub as its scope")),
    }
}

/// Undoes `%` and two hexadecimal digits.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
