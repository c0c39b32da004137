//! Why clients are not let in, in words that are few: for counting.

use super::Refused;

/// What refusals begin with, and the words that they are counted under.
const KNOWN: &[(&str, &str)] = &[
    ("no such database", "no such database"),
    ("no such user", "no such user"),
    (
        "password authentication failed",
        "password authentication failed",
    ),
    ("SASL authentication failed", "SASL authentication failed"),
    (
        "\"trust\" authentication failed",
        "trust authentication failed",
    ),
    ("LDAP authentication failed", "LDAP authentication failed"),
    ("PAM authentication failed", "PAM authentication failed"),
    (
        "certificate authentication failed",
        "certificate authentication failed",
    ),
    ("unix socket login rejected", "unix socket login rejected"),
    (
        "no authentication method is found",
        "no authentication method is found",
    ),
    ("login rejected", "login rejected"),
    ("SSL required", "SSL required"),
    ("no more connections allowed", "max_client_conn"),
    (
        "client connections exceeded (max_db_client_connections)",
        "max_db_client_connections",
    ),
    (
        "client connections exceeded (max_user_client_connections)",
        "max_user_client_connections",
    ),
    ("query_wait_timeout", "query_wait_timeout"),
    ("database \"", "database is disabled"),
    ("database removed", "database removed"),
    (
        "server login has been failing",
        "server login has been failing",
    ),
    ("server shutting down", "server shutting down"),
    ("pooler is shutting down", "pooler is shutting down"),
    ("bouncer config error", "bouncer config error"),
    (
        "bouncer resources exhaustion",
        "bouncer resources exhaustion",
    ),
    ("admin forced disconnect", "admin forced disconnect"),
    (
        "unsupported startup parameter",
        "unsupported startup parameter",
    ),
    ("username too long", "username too long"),
    ("not allowed", "not allowed"),
];

impl Refused {
    /// What it is counted under.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Gone(_) => "client unexpected eof",
            Self::Startup(_) => "bad startup packet",
            Self::Handshake(_) => "TLS handshake failed",
            Self::Coded(..) => "server login failed",
            Self::LoginTimeout => "client_login_timeout",
            Self::ServerDown => "client_login_timeout (server down)",
            // The rest holds words of the client's, and those are without number.
            Self::Told(text) => KNOWN
                .iter()
                .find(|(front, _)| text.starts_with(front))
                .map_or("other", |(_, reason)| reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_no_part_of_the_reason() {
        let reason = |text: &str| Refused::told(text).reason();
        assert_eq!(reason("no such database: made up"), "no such database");
        assert_eq!(
            reason("unsupported startup parameter: made_up"),
            "unsupported startup parameter"
        );
        assert_eq!(reason("something new: made up"), "other");
    }
}
