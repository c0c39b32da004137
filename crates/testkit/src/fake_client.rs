//! A client that says exactly what the test wants, byte by byte.

use std::{io, sync::Arc};

use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, ScramSha256},
};

use crate::{
    address::{Address, Socket},
    eventually::in_time,
    inbox::Inbox,
    message::{
        CancelKey, ErrorFields, Message, Side, Startup, encode_all, startup_packet,
        startup_packet_of, transcript,
    },
};

/// A scripted client over TCP or a unix socket.
pub struct FakeClient {
    socket: Arc<Socket>,
    inbox: Inbox,
    address: Address,
    key: Option<CancelKey>,
}

impl FakeClient {
    /// Connects, and says nothing yet.
    pub async fn connect(address: &Address) -> Self {
        let connected = in_time("connecting", Self::try_connect(address)).await;
        connected.unwrap_or_else(|error| panic!("connecting to {address:?}: {error}"))
    }

    /// Connects, if somebody listens.
    pub async fn try_connect(address: &Address) -> io::Result<Self> {
        let socket = Arc::new(Socket::connect(address).await?);
        let inbox = Inbox::new(socket.clone(), Side::Server);
        Ok(Self {
            socket,
            inbox,
            address: address.clone(),
            key: None,
        })
    }

    /// Connects and logs in where no password is asked for.
    pub async fn login_trust(address: &Address, user: &str, database: &str) -> Self {
        let mut client = Self::connect(address).await;
        client
            .startup(&[("user", user), ("database", database)])
            .await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        client
    }

    /// Connects and logs in with a password in clear text.
    pub async fn login_plain(
        address: &Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Self {
        let mut client = Self::connect(address).await;
        client
            .startup(&[("user", user), ("database", database)])
            .await;
        client.read_auth(3).await;
        client.send(Message::password(password)).await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        client
    }

    /// Connects and logs in with an MD5 of the password.
    pub async fn login_md5(address: &Address, user: &str, password: &str, database: &str) -> Self {
        let mut client = Self::connect(address).await;
        client
            .startup(&[("user", user), ("database", database)])
            .await;
        let salt = client.read_auth(5).await;
        let salt = salt.try_into().expect("an MD5 salt has four bytes");
        let answer = md5_hash(user.as_bytes(), password.as_bytes(), salt);
        client.send(Message::password(&answer)).await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        client
    }

    /// Connects and logs in with SCRAM-SHA-256.
    pub async fn login_scram(
        address: &Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Self {
        let mut client = Self::connect(address).await;
        client
            .startup(&[("user", user), ("database", database)])
            .await;
        client.answer_scram(password).await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        client
    }

    /// Goes through the SCRAM exchange up to the server's proof; panics on an error.
    pub async fn answer_scram(&mut self, password: &str) {
        self.read_auth(10).await;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        self.send(Message::sasl_initial("SCRAM-SHA-256", scram.message()))
            .await;
        let challenge = self.read_auth(11).await;
        scram
            .update(&challenge)
            .expect("a well-formed SCRAM challenge");
        self.send(Message::sasl_response(scram.message())).await;
        let proof = self.read_auth(12).await;
        scram
            .finish(&proof)
            .expect("the server's SCRAM proof holds");
    }

    /// Sends a startup packet with these parameters and no others.
    pub async fn startup(&mut self, parameters: &[(&str, &str)]) {
        self.send_raw(&startup_packet(parameters)).await;
    }

    /// The same with this minor version of protocol 3.
    pub async fn startup_of(&mut self, minor: u16, parameters: &[(&str, &str)]) {
        self.send_raw(&startup_packet_of(minor, parameters)).await;
    }

    /// Reads from AuthenticationOk's successor to the first ReadyForQuery; keeps the cancel key.
    pub async fn read_welcome(&mut self) -> Vec<Message> {
        let welcome = self.read_until_ready().await;
        let key = welcome.iter().find(|message| message.tag == b'K');
        self.key = key.and_then(|message| CancelKey::read(&message.body));
        welcome
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) {
        self.send_raw(&message.encode()).await;
    }

    /// Sends messages in one write.
    pub async fn send_all(&mut self, messages: &[Message]) {
        self.send_raw(&encode_all(messages)).await;
    }

    /// Sends bytes in one write.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let sent = in_time("sending", self.try_send_raw(bytes)).await;
        sent.unwrap_or_else(|error| panic!("sending {} bytes: {error}", bytes.len()));
    }

    /// Sends bytes; an error when the peer has gone.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Sends bytes in a write for each.
    pub async fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send_raw(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// The next message.
    pub async fn read(&mut self) -> Message {
        self.try_read()
            .await
            .expect("a message; the server has closed instead")
    }

    /// The next message; `None` when the server has closed or reset.
    pub async fn try_read(&mut self) -> Option<Message> {
        match in_time("a message from the server", self.inbox.next()).await {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("reading: {error}"),
        }
    }

    /// Does anything come back at all?
    pub(crate) async fn answers(&mut self) -> bool {
        matches!(self.inbox.byte().await, Ok(Some(_)))
    }

    /// Messages up to one with this tag.
    pub async fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.try_read().await {
                Some(message) => messages.push(message),
                None => panic!("closed after:\n{}", transcript(&messages)),
            }
            if messages.last().is_some_and(|message| message.tag == tag) {
                return messages;
            }
        }
    }

    /// Messages up to the first ReadyForQuery, or to the error that ends the login.
    pub async fn read_until_end_of_login(&mut self) -> Vec<Message> {
        let mut messages = vec![self.read().await];
        while !messages.iter().any(|it| matches!(it.tag, b'Z' | b'E')) {
            messages.push(self.read().await);
        }
        messages
    }

    /// Messages up to ReadyForQuery.
    pub async fn read_until_ready(&mut self) -> Vec<Message> {
        self.read_until(b'Z').await
    }

    /// The answer to a TLS or GSS request.
    pub async fn read_byte(&mut self) -> Option<u8> {
        in_time("a byte from the server", self.inbox.byte())
            .await
            .unwrap_or(None)
    }

    /// Reads an authentication request of this number, and returns what comes with it.
    pub async fn read_auth(&mut self, request: u32) -> Vec<u8> {
        let message = self.read().await;
        let (kind, data) = message.body.split_at_checked(4).unwrap_or_default();
        let fits = message.tag == b'R' && kind == request.to_be_bytes();
        assert!(
            fits,
            "authentication request {request} expected, not {message}"
        );
        data.to_vec()
    }

    /// Reads AuthenticationOk.
    pub async fn read_auth_ok(&mut self) {
        self.read_auth(0).await;
    }

    /// Runs a simple query, and returns all up to ReadyForQuery.
    pub async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(Message::query(sql)).await;
        self.read_until_ready().await
    }

    /// Runs a simple query, and returns the first value of its first row.
    pub async fn query_value(&mut self, sql: &str) -> String {
        let answer = self.query(sql).await;
        let value = answer
            .iter()
            .find_map(Message::values)
            .and_then(|row| row.into_iter().next()?);
        value.unwrap_or_else(|| panic!("{sql}: no value in\n{}", transcript(&answer)))
    }

    /// Reads on to an error, over notices and whatever else comes before it.
    pub async fn expect_error(&mut self) -> ErrorFields {
        let answer = self.read_until(b'E').await;
        let error = answer.last().and_then(Message::error_fields);
        error.unwrap_or_else(|| panic!("an unreadable error:\n{}", transcript(&answer)))
    }

    /// Reads on to the server's close, and returns what came before it.
    pub async fn expect_closed(&mut self) -> Vec<Message> {
        let mut last_words = Vec::new();
        while let Some(message) = self.try_read().await {
            last_words.push(message);
        }
        last_words
    }

    /// The key that the welcome brought.
    pub fn cancel_key(&self) -> &CancelKey {
        self.key
            .as_ref()
            .expect("a welcome with BackendKeyData was read")
    }

    /// Asks the same server to cancel what this client runs; returns when it has closed.
    pub async fn cancel_me(&self) {
        Self::cancel(&self.address, self.cancel_key()).await;
    }

    /// Sends a cancel request over a connection of its own; returns when that is closed.
    pub async fn cancel(address: &Address, key: &CancelKey) {
        let mut carrier = Self::connect(address).await;
        carrier
            .send_raw(&Startup::Cancel(key.clone()).encode())
            .await;
        carrier.expect_closed().await;
    }

    /// Shall send no more, and still reads.
    pub fn half_close(&mut self) {
        self.socket
            .half_close()
            .expect("a connected socket can be closed by half");
    }

    /// Goes without a word: TCP sends a reset.
    pub fn reset(self) {
        self.socket
            .reset_on_drop()
            .expect("a connected socket takes SO_LINGER");
    }

    /// Says farewell and closes.
    pub async fn close(mut self) {
        self.send(Message::terminate()).await;
    }
}
