//! What must hold at the doors for any bytes: of who wants in, of servers, and of rule files. The
//! fuzzer calls these, and so does a test of `auth` with the corpora that it left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use auth::scram::ITERATIONS_MAX;
use auth::{
    Acceptor, Challenge, Credentials, Entropy, Hba, Ident, Initiator, Known, LdapOptions, Method,
    Nonce, Origin, Password, Reply, SaltKey, ScramPolicy, Secret, Step, Userlist, Verifier,
    Visitor,
};
use wire::authentication::AuthRequest;

/// Nobody who does not know the password comes in, whatever they say.
pub fn acceptor(data: &[u8]) {
    let Some((&bits, said)) = data.split_first() else {
        return;
    };
    let password = Password::new("a password that no fuzzer finds");
    let secret = match bits & 3 {
        0 => Secret::Plain(password),
        1 => Secret::Scram(Verifier::from_password(&password, 1, b"salt")),
        2 => Secret::parse(b"md5d41d8cd98f00b204e9800998ecf8427f"),
        _ => Secret::blank(),
    };
    let challenge = match (bits >> 2) & 3 {
        0 => Challenge::Plain,
        1 => Challenge::Md5,
        _ => Challenge::Scram,
    };
    let known = match bits & 16 {
        0 => Known::Secret {
            secret,
            cached: None,
        },
        _ => Known::Nobody,
    };
    let end_point: Arc<[u8]> = [7; 32].into();
    let salt_key = SaltKey::from_bytes([3; 32]);
    let policy = ScramPolicy {
        iterations: 1,
        salt_key: &salt_key,
        end_point: (bits & 32 != 0).then_some(&end_point),
    };
    let entropy = Entropy {
        nonce: Nonce::from_bytes([5; Nonce::LEN]),
        md5_salt: [1, 2, 3, 4],
    };
    let (mut acceptor, mut step) = Acceptor::start(challenge, "alice", known, policy, entropy);
    let mut messages = parts(said);
    loop {
        step = match step {
            Step::Send(_) => match messages.next() {
                Some(message) => acceptor.on(message),
                None => return,
            },
            Step::Derive(job) => {
                assert!(job.iterations() <= ITERATIONS_MAX);
                acceptor.derived(&job.run())
            }
            Step::Done { .. } => panic!("somebody came in who knows no password"),
            Step::Refuse(refusal) => {
                assert!(!refusal.for_client().is_empty());
                return;
            }
        }
    }
}

/// A server that asked for SCRAM and does not know the user's keys is not believed, whatever it
/// says, and can't make us work for long.
pub fn initiator(data: &[u8]) {
    let Some((&bits, said)) = data.split_first() else {
        return;
    };
    let secret = Secret::Plain(Password::new("a password that no fuzzer finds"));
    let credentials = Credentials {
        secret: (bits & 1 == 0).then_some(secret),
        ..Credentials::default()
    };
    let end_point: Arc<[u8]> = [7; 32].into();
    let nonce = Nonce::from_bytes([5; Nonce::LEN]);
    let initiator = Initiator::new("alice", credentials, nonce);
    let mut initiator = initiator.bound_to((bits & 2 != 0).then_some(end_point));
    let mut asked_for_scram = false;
    for message in parts(said) {
        let Ok(request) = AuthRequest::parse(message) else {
            return;
        };
        asked_for_scram |= matches!(request, AuthRequest::Sasl { .. });
        let mut reply = initiator.on(request);
        if let Ok(Reply::Derive(job)) = reply {
            assert!(job.iterations() <= ITERATIONS_MAX);
            if job.iterations() > 4096 {
                return;
            }
            reply = initiator.derived(&job.run());
        }
        match reply {
            Ok(Reply::Done) => assert!(!asked_for_scram, "a server was believed"),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Broken lines are told and skipped, the first line that fits decides, and no line behind it.
pub fn hba(data: &[u8]) {
    let mut read = |name: &str| match name.len() {
        0..8 => Ok(b"alice \"b ob\" @more".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    let rules = Hba::parse(data, &mut read);
    let lines = data.split(|&byte| byte == b'\n').count();
    assert!(rules.methods().count() + rules.findings().len() <= lines);
    assert!(rules.findings().iter().all(|it| it.line <= lines));

    let closed = [data, b"\nlocal all all reject\nhost all all all reject\n"].concat();
    let closed = Hba::parse(&closed, &mut read);
    for from in ORIGINS {
        for (database, user) in [(Some("app"), "alice"), (Some("bob"), "bob"), (None, "r")] {
            let visitor = Visitor {
                from,
                database,
                user,
            };
            let decided = rules.method_for(visitor);
            // Physical replication is for lines that name it.
            let behind = database.map(|_| &Method::Reject);
            assert_eq!(closed.method_for(visitor), decided.or(behind));
        }
    }
}

const ORIGINS: [Origin; 4] = [
    Origin::Unix,
    Origin::Tcp {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: false,
    },
    Origin::Tcp {
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        tls: true,
    },
    Origin::Tcp {
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        tls: true,
    },
];

/// Names of users, of accounts, and LDAP's options stay what they are.
pub fn rules(data: &[u8]) {
    let users = Userlist::parse(data);
    assert!(users.iter().all(|(name, _)| users.get(name).is_some()));

    let ident = Ident::parse(data);
    assert!(!ident.lets(["alice"], Some("a map that nobody wrote"), "alice"));
    assert!(ident.lets(["alice"], None, "alice"));

    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(options) = LdapOptions::parse(text)
        && let auth::ldap::Lookup::Search(search) = &options.lookup
    {
        let plain = search.filter_for("x");
        let clever = search.filter_for("*)(uid=*))(|(uid=*\\");
        for syntax in ['(', ')', '*'] {
            let count = |filter: &str| filter.matches(syntax).count();
            assert_eq!(count(&plain), count(&clever), "{options:?}");
        }
    }
}

/// Messages: each behind a byte that tells its length.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = data.split_first()?;
        let (part, behind) = rest.split_at(usize::from(len).min(rest.len()));
        data = behind;
        Some(part)
    })
}
