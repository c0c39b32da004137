//! How a session begins: the password, and the welcome.

use super::Session;
use crate::{
    fake_server::{
        login::{Login, MD5_SALT, Newer, Scram, md5_fits},
        record::{End, Seat},
    },
    message::{Message, Tx},
};

impl Session {
    pub(super) async fn log_in(&mut self) -> Result<Seat, End> {
        self.negotiate().await?;
        match self.hall.login() {
            Login::Trust => {}
            Login::Plain(password) => {
                let answer = self.ask_password(Message::auth(3, &[])).await?;
                self.admit(answer.strip_suffix(b"\0") == Some(password.as_bytes()))
                    .await?;
            }
            Login::Md5(password) => {
                let answer = self.ask_password(Message::auth(5, &MD5_SALT)).await?;
                self.admit(md5_fits(self.parameter("user"), &password, &answer))
                    .await?;
            }
            Login::Scram(secret) => self.exchange_scram(&secret).await?,
            Login::Refuse { code, text } => return self.refuse(&code, &text).await,
            Login::Close => return Err(End::Close),
            Login::Behind(gate) => {
                tokio::select! {
                    () = gate.pass() => {}
                    () = self.inbox.peer_gone() => return Err(End::Close),
                }
            }
        }
        let hall = self.hall.clone();
        self.say(&Message::auth_ok());
        for (name, value) in &hall.setup.parameters {
            self.say(&Message::parameter_status(name, value));
        }
        let key = self.connection.key.clone();
        if !key.secret.is_empty() {
            self.say(&Message::backend_key(&key));
        }
        self.say(&Message::ready(Tx::Idle));
        // Counted before the client can know: it never sees more than we admit to.
        let seat = hall.logs_in(&self.connection);
        self.flush().await?;
        Ok(seat)
    }

    async fn negotiate(&mut self) -> Result<(), End> {
        let [_, _, high, low] = self.connection.version.to_be_bytes();
        let asked = u16::from_be_bytes([high, low]);
        match self.hall.setup.newer.clone() {
            _ if asked == 0 => {}
            Newer::SpokenUpTo(newest) if asked <= newest => {}
            Newer::SpokenUpTo(minor) | Newer::Claims(minor) => {
                self.say(&Message::negotiate_version(minor, &[]));
            }
            Newer::Refused { code, text } => return self.refuse(&code, &text).await,
            Newer::HungUpOn => return Err(End::Close),
        }
        Ok(())
    }

    async fn ask_password(&mut self, request: Message) -> Result<Vec<u8>, End> {
        self.say(&request);
        self.flush().await?;
        Ok(self.hear().await?.body)
    }

    async fn admit(&mut self, fits: bool) -> Result<(), End> {
        if fits {
            return Ok(());
        }
        let text = format!(
            "password authentication failed for user \"{}\"",
            self.parameter("user")
        );
        self.refuse("28P01", &text).await
    }

    async fn exchange_scram(&mut self, secret: &str) -> Result<(), End> {
        let mut scram = Scram::new(secret).expect("the secret is as scram_secret() makes it");
        let initial = self
            .ask_password(Message::auth(10, b"SCRAM-SHA-256\0\0"))
            .await?;
        let Some(challenge) = scram.challenge(&initial) else {
            return self.refuse("08P01", "malformed SCRAM message").await;
        };
        let response = self.ask_password(challenge).await?;
        let proof = scram.proof(&response);
        self.admit(proof.is_some()).await?;
        if let Some(proof) = proof {
            self.say(&proof);
        }
        Ok(())
    }

    pub(super) async fn refuse<T>(&mut self, code: &str, text: &str) -> Result<T, End> {
        self.say(&Message::error("FATAL", code, text));
        self.flush().await?;
        Err(End::Close)
    }
}
