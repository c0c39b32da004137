//! How the fake server treats logins.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use postgres_protocol::{authentication::md5_hash, password};
use sha2::{Digest, Sha256};

use super::Gate;
use crate::message::Message;

/// How the fake server treats logins.
#[derive(Clone)]
pub enum Login {
    /// Everybody gets in.
    Trust,
    /// With this password in clear text.
    Plain(String),
    /// With the MD5 of this password.
    Md5(String),
    /// With SCRAM-SHA-256; the secret is what PostgreSQL would store, see [`scram_secret`].
    Scram(String),
    /// Nobody gets in.
    Refuse {
        /// The SQLSTATE they are told.
        code: String,
        /// The text they are told.
        text: String,
    },
    /// Closes without a word.
    Close,
    /// Trusts, but answers only when the gate opens.
    Behind(Gate),
}

/// What the fake server makes of a protocol that is newer than 3.0.
#[derive(Clone)]
pub enum Newer {
    /// It speaks up to this minor version, and says so to whoever asks for more.
    SpokenUpTo(u16),
    /// It says that of whatever it was asked for.
    Claims(u16),
    /// It refuses in these words.
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The text.
        text: String,
    },
    /// It hangs up.
    HungUpOn,
}

/// What PostgreSQL stores of a password for SCRAM.
pub fn scram_secret(password: &str) -> String {
    password::scram_sha_256(password.as_bytes())
}

/// The same with a single iteration: the password is as good as readable, and clients that prove it
/// cost next to nothing.
pub fn quick_scram_secret(password: &str) -> String {
    let salt = b"0123456789abcdef";
    // Hi() of RFC 5802, section 2.2.
    let salted = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    let server_key = hmac(&salted, b"Server Key");
    let [salt, stored, server] =
        [&salt[..], &stored_key[..], &server_key[..]].map(|bytes| BASE64_STANDARD.encode(bytes));
    format!("SCRAM-SHA-256$1:{salt}${stored}:{server}")
}

/// What PostgreSQL stores of a password for MD5.
pub fn md5_secret(user: &str, password: &str) -> String {
    password::md5(password.as_bytes(), user)
}

pub(super) const MD5_SALT: [u8; 4] = *b"salt";

/// Does the answer to AuthenticationMD5Password fit?
pub(super) fn md5_fits(user: &str, password: &str, answer: &[u8]) -> bool {
    let expected = md5_hash(user.as_bytes(), password.as_bytes(), MD5_SALT);
    answer.strip_suffix(b"\0") == Some(expected.as_bytes())
}

/// The server's half of one SCRAM exchange.
pub(super) struct Scram {
    salt: String,
    iterations: String,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    talk: String,
}

impl Scram {
    /// `SCRAM-SHA-256$iterations:salt$stored:server`.
    pub(super) fn new(secret: &str) -> Option<Self> {
        let (numbers, keys) = secret.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = numbers.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Self {
            salt: salt.to_owned(),
            iterations: iterations.to_owned(),
            stored_key: BASE64_STANDARD.decode(stored).ok()?,
            server_key: BASE64_STANDARD.decode(server).ok()?,
            talk: String::new(),
        })
    }

    /// Answers SASLInitialResponse with the challenge.
    pub(super) fn challenge(&mut self, initial: &[u8]) -> Option<Message> {
        let mut body = crate::message::Body(initial);
        body.text()
            .filter(|mechanism| mechanism == "SCRAM-SHA-256")?;
        body.i32()?;
        let first = std::str::from_utf8(body.0).ok()?;
        let bare = first
            .strip_prefix("n,,")
            .or_else(|| first.strip_prefix("y,,"))?;
        let nonce = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        let challenge = format!("r={nonce}fake,s={},i={}", self.salt, self.iterations);
        self.talk = format!("{bare},{challenge}");
        Some(Message::auth(11, challenge.as_bytes()))
    }

    /// Answers SASLResponse with our own proof, if the client's holds.
    pub(super) fn proof(&mut self, response: &[u8]) -> Option<Message> {
        let response = std::str::from_utf8(response).ok()?;
        let (without_proof, proof) = response.rsplit_once(",p=")?;
        let talk = format!("{},{without_proof}", self.talk);
        let proof = BASE64_STANDARD.decode(proof).ok()?;
        let signature = hmac(&self.stored_key, talk.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if Sha256::digest(client_key).as_slice() != self.stored_key {
            return None;
        }
        let ours = BASE64_STANDARD.encode(hmac(&self.server_key, talk.as_bytes()));
        Some(Message::auth(12, format!("v={ours}").as_bytes()))
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
