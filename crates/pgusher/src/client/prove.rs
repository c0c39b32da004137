//! Has a client prove who it is, in the way that the rules about it say.

use std::rc::Rc;
use std::sync::Arc;

use auth::{Acceptor, Challenge, Entropy, Identity, Method, ScramPolicy, Step, Visitor};
use settings::AuthType;
use wire::authentication::{ANSWER_TAG, AuthRequest};

use super::login::Destination;
use super::recognise::{Recognised, from_files, recognise};
use super::{Newcomer, Refused, elsewhere, vouched};
use crate::setup::Setup;
use crate::worker::Worker;

/// Longest password message, in bytes: the longest password, and its frame.
const PASSWORD_MESSAGE_MAX: usize = 66_000;

/// A client that has proven who it is.
pub(super) struct Proven {
    pub(super) who: Recognised,
    pub(super) identity: Identity,
}

/// Has the client prove who it is: before it hears whether what it asks for exists. `database` is
/// what rules call the place where it wants to go: `None` for physical replication.
pub(super) async fn prove(
    worker: &Rc<Worker>,
    setup: &Setup,
    newcomer: &mut Newcomer,
    destination: &Destination,
    database: Option<&str>,
    user: &Arc<str>,
) -> Result<Proven, Refused> {
    if setup.config.settings.auth_type == AuthType::Any {
        return Ok(Proven {
            who: from_files(setup, user),
            identity: Identity::default(),
        });
    }
    let method = method_for(setup, newcomer, database, user)?;
    let who = match method {
        // Others know these users, or nobody needs to.
        Method::Ldap(_) | Method::Pam | Method::Reject => from_files(setup, user),
        _ => recognise(worker, setup, newcomer, destination, user).await?,
    };
    // Whoever auth_query calls by another name is let in as that user, or not at all.
    let method = match who.user == *user {
        true => method,
        false => method_for(setup, newcomer, database, &who.user)?,
    };
    let identity = satisfy(worker, setup, newcomer, &who, method).await?;
    Ok(Proven { who, identity })
}

fn method_for(
    setup: &Setup,
    newcomer: &Newcomer,
    database: Option<&str>,
    user: &str,
) -> Result<Method, Refused> {
    let from = newcomer.origin();
    let method = setup.method_for(Visitor {
        from,
        database,
        user,
    });
    method.ok_or_else(|| Refused::told("no authentication method is found"))
}

async fn satisfy(
    worker: &Worker,
    setup: &Setup,
    newcomer: &mut Newcomer,
    who: &Recognised,
    method: Method,
) -> Result<Identity, Refused> {
    let user = &who.user;
    let challenge = match method {
        Method::Reject => return Err(Refused::told("login rejected")),
        Method::Trust => Challenge::Trust,
        Method::Password => Challenge::Plain,
        Method::Md5 => Challenge::Md5,
        Method::ScramSha256 => Challenge::Scram,
        Method::Peer { map } => {
            return vouched::by_account(setup, newcomer.peer, who, map.as_deref()).await;
        }
        Method::Cert { map } => {
            let secured = newcomer.conn.stream().secured();
            let shown = secured.and_then(|secured| secured.peer.as_deref());
            return vouched::by_certificate(setup, shown, who, map.as_deref());
        }
        Method::Ldap(options) => {
            return Box::pin(elsewhere::by_ldap(worker, setup, newcomer, user, options)).await;
        }
        Method::Pam => return Box::pin(elsewhere::by_pam(worker, newcomer, user)).await,
    };
    challenged(worker, setup, newcomer, who, challenge).await
}

/// Has the client answer a challenge that we can check.
async fn challenged(
    worker: &Worker,
    setup: &Setup,
    newcomer: &mut Newcomer,
    who: &Recognised,
    challenge: Challenge,
) -> Result<Identity, Refused> {
    let (user, known) = (&who.user, who.known(worker.process));
    let secured = newcomer.conn.stream().secured();
    let end_point = secured.and_then(|secured| secured.end_point.clone());
    let policy = ScramPolicy {
        iterations: setup.config.settings.scram_iterations.get(),
        salt_key: &worker.process.salt_key,
        end_point: end_point.as_ref(),
    };
    let (mut acceptor, mut step) = match challenge {
        Challenge::Trust => Acceptor::trusting(&known),
        Challenge::Plain | Challenge::Md5 | Challenge::Scram => {
            let entropy = Entropy::fresh().map_err(|error| {
                tracing::error!("no random bytes for a login: {error}");
                Refused::told("bouncer resources exhaustion")
            })?;
            Acceptor::start(challenge, user, known, policy, entropy)
        }
    };
    loop {
        step = match step {
            Step::Send(request) => {
                send(newcomer, &request).await?;
                take_answer(newcomer, |answer| acceptor.on(answer)).await?
            }
            Step::Derive(job) => {
                let derived = tokio::task::spawn_blocking(|| job.run()).await;
                let derived = Arc::new(derived.map_err(std::io::Error::other)?);
                worker.process.keep_derived(user.clone(), derived.clone());
                acceptor.derived(&derived)
            }
            Step::Done {
                last_words,
                identity,
            } => {
                // It goes along with what follows.
                if let Some(request) = last_words {
                    request.encode(&mut newcomer.said);
                }
                return Ok(identity);
            }
            Step::Refuse(refusal) => {
                tracing::debug!("{} login refused: {refusal}", newcomer.tag());
                return Err(Refused::told(refusal.for_client()));
            }
        };
    }
}

pub(super) async fn send(newcomer: &mut Newcomer, request: &AuthRequest) -> Result<(), Refused> {
    request.encode(&mut newcomer.said);
    newcomer.send_said().await
}

/// Looks at the body of the client's answer, which is wiped then: it may be a password.
pub(super) async fn take_answer<T>(
    newcomer: &mut Newcomer,
    look: impl FnOnce(&[u8]) -> T,
) -> Result<T, Refused> {
    let conn = &mut newcomer.conn;
    let header = conn.hold_frame(PASSWORD_MESSAGE_MAX).await;
    let header = header.map_err(|error| match error.kind() {
        // A header that can't be, or promises too much.
        std::io::ErrorKind::InvalidData => Refused::Told(error.to_string()),
        _ => Refused::Gone(error),
    })?;
    match header.tag {
        ANSWER_TAG => {
            let seen = look(conn.held_body(header));
            conn.wipe_held(header.frame_len());
            Ok(seen)
        }
        // psql leaves like this to ask its user for a password.
        b'X' => Err(Refused::Gone(std::io::ErrorKind::UnexpectedEof.into())),
        _ => Err(Refused::told("unkn pkt")),
    }
}
