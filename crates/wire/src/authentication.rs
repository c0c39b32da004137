//! The messages of a login: what a server asks (`R`) and what a client answers (`p`).
//!
//! All answers share one tag, so only the side that asked knows how to read them.

use std::borrow::Cow;

use crate::frame::{ProtocolError, put, put_str, take_str};

/// An authentication message of the server: a demand, a step of SASL, or the good news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRequest {
    /// The login succeeded.
    Ok,
    /// Send the password as it is.
    CleartextPassword,
    /// Send the password hashed with the user name, then with this salt.
    Md5Password {
        /// Four bytes that differ from login to login.
        salt: [u8; 4],
    },
    /// Begin SASL with one of these mechanisms.
    Sasl {
        /// The server's favourite comes first.
        mechanisms: Cow<'static, [Cow<'static, str>]>,
    },
    /// The mechanism's next challenge.
    SaslContinue(Vec<u8>),
    /// The mechanism's last words, before `Ok`.
    SaslFinal(Vec<u8>),
    /// A method that is not spoken here: Kerberos, GSSAPI, SSPI or one yet to be invented.
    Unsupported(u32),
}

/// Mechanisms read from one offer; PostgreSQL knows fewer than five.
const MECHANISMS_MAX: usize = 32;

impl AuthRequest {
    /// The tag of these messages.
    pub const TAG: u8 = b'R';

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, Self::TAG, |body| {
            body.extend_from_slice(&self.code().to_be_bytes());
            match self {
                Self::Ok | Self::CleartextPassword | Self::Unsupported(_) => {}
                Self::Md5Password { salt } => body.extend_from_slice(salt),
                Self::Sasl { mechanisms } => {
                    for mechanism in mechanisms.iter() {
                        put_str(body, mechanism);
                    }
                    body.push(0);
                }
                Self::SaslContinue(data) | Self::SaslFinal(data) => body.extend_from_slice(data),
            }
        });
    }

    /// Reads a message's body.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let (code, data) = body.split_first_chunk::<4>().ok_or(MALFORMED_REQUEST)?;
        let request = match u32::from_be_bytes(*code) {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password {
                salt: data.try_into().map_err(|_| MALFORMED_REQUEST)?,
            },
            10 => Self::Sasl {
                mechanisms: parse_mechanisms(data)?.into(),
            },
            11 => Self::SaslContinue(data.to_vec()),
            12 => Self::SaslFinal(data.to_vec()),
            code => Self::Unsupported(code),
        };
        match request {
            Self::Ok | Self::CleartextPassword if !data.is_empty() => Err(MALFORMED_REQUEST),
            request => Ok(request),
        }
    }

    fn code(&self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::CleartextPassword => 3,
            Self::Md5Password { .. } => 5,
            Self::Sasl { .. } => 10,
            Self::SaslContinue(_) => 11,
            Self::SaslFinal(_) => 12,
            Self::Unsupported(code) => *code,
        }
    }
}

const MALFORMED_REQUEST: ProtocolError = ProtocolError::Body("authentication");

fn parse_mechanisms(mut data: &[u8]) -> Result<Vec<Cow<'static, str>>, ProtocolError> {
    let mut mechanisms = Vec::new();
    loop {
        let (name, rest) = take_str(data).ok_or(MALFORMED_REQUEST)?;
        match (name, rest) {
            ([], []) => return Ok(mechanisms),
            ([], _) => return Err(MALFORMED_REQUEST),
            _ if mechanisms.len() == MECHANISMS_MAX => return Err(MALFORMED_REQUEST),
            _ => {}
        }
        let name = std::str::from_utf8(name).map_err(|_| MALFORMED_REQUEST)?;
        mechanisms.push(name.to_owned().into());
        data = rest;
    }
}

/// The tag of all a client's answers.
pub const ANSWER_TAG: u8 = b'p';

/// Reads the body of a PasswordMessage: one string, and nothing behind it.
pub fn parse_password(body: &[u8]) -> Result<&[u8], ProtocolError> {
    match take_str(body) {
        Some((password, [])) => Ok(password),
        _ => Err(ProtocolError::Body("password")),
    }
}

/// Appends a PasswordMessage. A password cannot hold a NUL: it would end there.
pub fn put_password(out: &mut Vec<u8>, password: &[u8]) {
    // Room at once: growing would leave copies of the password behind in freed memory.
    out.reserve(password.len().saturating_add(6));
    put(out, ANSWER_TAG, |body| {
        body.extend(password.iter().take_while(|&&byte| byte != 0));
        body.push(0);
    });
}

/// A client's choice of mechanism, usually with its first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism chosen.
    pub mechanism: &'a str,
    /// The mechanism's first message; `None` asks the server to speak first.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads a message's body.
    pub fn parse(body: &'a [u8]) -> Result<Self, ProtocolError> {
        const MALFORMED: ProtocolError = ProtocolError::Body("SASLInitialResponse");
        let (mechanism, rest) = take_str(body).ok_or(MALFORMED)?;
        let mechanism = std::str::from_utf8(mechanism).map_err(|_| MALFORMED)?;
        let (len, data) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        // A length of -1 says that there is no response, which is not an empty one.
        let response = match (i32::from_be_bytes(*len), data) {
            (-1, []) => None,
            (len, data) if usize::try_from(len) == Ok(data.len()) => Some(data),
            _ => return Err(MALFORMED),
        };
        Ok(Self {
            mechanism,
            response,
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, ANSWER_TAG, |body| {
            put_str(body, self.mechanism);
            let len = self
                .response
                .map_or(-1, |data| i32::try_from(data.len()).unwrap_or(i32::MAX));
            body.extend_from_slice(&len.to_be_bytes());
            body.extend_from_slice(self.response.unwrap_or_default());
        });
    }
}

/// Appends a SASLResponse; read back, its body is `data` as it is.
pub fn put_sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    put(out, ANSWER_TAG, |body| body.extend_from_slice(data));
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::{backend, frontend};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::whole;

    fn encoded(request: &AuthRequest) -> Vec<u8> {
        let mut out = Vec::new();
        request.encode(&mut out);
        out
    }

    fn body(message: &[u8]) -> &[u8] {
        let (_, body, rest) = whole(message).unwrap().unwrap();
        assert!(rest.is_empty());
        body
    }

    fn offer(names: &[&str]) -> AuthRequest {
        AuthRequest::Sasl {
            mechanisms: names.iter().map(|&name| name.to_owned().into()).collect(),
        }
    }

    #[test]
    fn requests_have_the_bytes_of_the_manual() {
        assert_eq!(encoded(&AuthRequest::Ok), b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(
            encoded(&AuthRequest::Md5Password { salt: *b"salt" }),
            b"R\0\0\0\x0c\0\0\0\x05salt"
        );
        assert_eq!(
            encoded(&offer(&["SCRAM-SHA-256"])),
            b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
        );
    }

    #[test]
    fn another_implementation_reads_our_requests() {
        let message = encoded(&AuthRequest::SaslContinue(b"r=1".to_vec()));
        let parsed = backend::Message::parse(&mut message.as_slice().into())
            .unwrap()
            .unwrap();
        match parsed {
            backend::Message::AuthenticationSaslContinue(body) => assert_eq!(body.data(), b"r=1"),
            _ => panic!("not an AuthenticationSASLContinue"),
        }
    }

    #[test]
    fn another_implementation_writes_the_same_answers() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new().as_slice().into());
        put_password(&mut ours, b"secret");
        SaslInitialResponse {
            mechanism: "SCRAM-SHA-256",
            response: Some(b"n,,n=,r=x"),
        }
        .encode(&mut ours);
        put_sasl_response(&mut ours, b"c=biws");

        frontend::password_message(b"secret", &mut theirs).unwrap();
        frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x", &mut theirs).unwrap();
        frontend::sasl_response(b"c=biws", &mut theirs).unwrap();
        assert_eq!(ours, theirs.to_vec());
    }

    #[test]
    fn methods_we_do_not_speak_keep_their_code() {
        assert_eq!(
            AuthRequest::parse(&[0, 0, 0, 7]),
            Ok(AuthRequest::Unsupported(7))
        );
        assert_eq!(
            AuthRequest::parse(b"\0\0\0\x08token"),
            Ok(AuthRequest::Unsupported(8))
        );
    }

    #[test]
    fn a_request_with_a_bad_body_is_malformed() {
        let bad: [&[u8]; 9] = [
            b"",
            b"\0\0\0",
            b"\0\0\0\0x",
            b"\0\0\0\x03x",
            b"\0\0\0\x05sal",
            b"\0\0\0\x05salty",
            b"\0\0\0\x0aSCRAM\0",
            b"\0\0\0\x0aSCRAM\0\0x",
            b"\0\0\0\x0a\xff\0\0",
        ];
        for body in bad {
            assert_eq!(AuthRequest::parse(body), Err(MALFORMED_REQUEST), "{body:?}");
        }
    }

    #[test]
    fn an_endless_offer_of_mechanisms_is_malformed() {
        let names = vec!["X"; MECHANISMS_MAX + 1];
        assert!(AuthRequest::parse(body(&encoded(&offer(&names)))).is_err());
        assert!(AuthRequest::parse(body(&encoded(&offer(&names[1..])))).is_ok());
    }

    #[test]
    fn a_password_is_one_string_and_nothing_more() {
        assert_eq!(parse_password(b"secret\0"), Ok(&b"secret"[..]));
        assert_eq!(parse_password(b"\0"), Ok(&b""[..]));
        for bad in [&b""[..], b"secret", b"secret\0more\0", b"secret\0\0"] {
            assert!(parse_password(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_initial_response_of_the_wrong_length_is_malformed() {
        let bad: [&[u8]; 7] = [
            b"",
            b"SCRAM\0",
            b"SCRAM\0\0\0\0",
            b"SCRAM\0\0\0\0\x04abc",
            b"SCRAM\0\0\0\0\x02abc",
            b"SCRAM\0\xff\xff\xff\xffabc",
            b"SCRAM\0\xff\xff\xff\xfe",
        ];
        for body in bad {
            assert!(SaslInitialResponse::parse(body).is_err(), "{body:?}");
        }
    }

    fn any_request() -> impl Strategy<Value = AuthRequest> {
        prop_oneof![
            Just(AuthRequest::Ok),
            Just(AuthRequest::CleartextPassword),
            any::<[u8; 4]>().prop_map(|salt| AuthRequest::Md5Password { salt }),
            prop::collection::vec("[A-Z0-9-]{1,20}".prop_map(Cow::from), 0..5).prop_map(
                |mechanisms| AuthRequest::Sasl {
                    mechanisms: mechanisms.into()
                }
            ),
            any::<Vec<u8>>().prop_map(AuthRequest::SaslContinue),
            any::<Vec<u8>>().prop_map(AuthRequest::SaslFinal),
            (13..u32::MAX).prop_map(AuthRequest::Unsupported),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(request in any_request()) {
            prop_assert_eq!(AuthRequest::parse(body(&encoded(&request))), Ok(request));
        }

        #[test]
        fn initial_responses_survive_the_wire(
            mechanism in "[A-Z0-9-]{0,20}",
            data in any::<Option<Vec<u8>>>(),
        ) {
            let response = SaslInitialResponse {
                mechanism: &mechanism,
                response: data.as_deref(),
            };
            let mut out = Vec::new();
            response.encode(&mut out);
            prop_assert_eq!(SaslInitialResponse::parse(body(&out)), Ok(response));
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in any::<Vec<u8>>()) {
            let _ = AuthRequest::parse(&bytes);
            let _ = parse_password(&bytes);
            let _ = SaslInitialResponse::parse(&bytes);
        }
    }
}
