//! TLS between the two of us, and what becomes of certificates good and bad.

mod forged;
mod judge;
mod loading;
mod names;
mod resumption;
mod talk;
mod trust;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use testkit::{Authority, Certificate};

use super::records::Records;
use super::*;

/// Settings that show this certificate to clients.
fn serving(certificate: &Certificate) -> Settings {
    let mut settings = Settings::default();
    let files = [("cert", &certificate.cert), ("key", &certificate.key)];
    set(&mut settings, "client_tls_sslmode", "require");
    for (name, path) in files {
        let path = path.to_str().unwrap();
        set(&mut settings, &format!("client_tls_{name}_file"), path);
    }
    settings
}

fn set(settings: &mut Settings, key: &str, value: &str) {
    settings.set(key, value).unwrap();
}

fn clients(settings: &Settings) -> Arc<ClientTls> {
    Tls::load(settings).unwrap().clients.unwrap()
}

fn servers(settings: &Settings) -> Arc<ServerTls> {
    Tls::load(settings).unwrap().servers.unwrap()
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Our two sides, connected by hand.
struct Pair {
    client: Records,
    server: Records,
}

impl Pair {
    /// Who has both settings: `client_tls_…` for one side, `server_tls_…` for the other.
    fn of(settings: &Settings) -> Self {
        Self::between(&clients(settings), &servers(settings))
    }

    fn between(accepting: &ClientTls, connecting: &ServerTls) -> Self {
        let accepted = accepting.session().unwrap();
        let connected = connecting.session(localhost()).unwrap();
        Self {
            client: Records::new(connected, Vec::new()),
            server: Records::new(accepted, Vec::new()),
        }
    }

    /// Takes the handshake to its end, or to the first error.
    fn shake_hands(&mut self) -> Result<(), rustls::Error> {
        self.client.advance()?;
        self.settle()
    }

    /// Carries over what either side has said until both are silent.
    fn settle(&mut self) -> Result<(), rustls::Error> {
        while !self.client.sealed().is_empty() || !self.server.sealed().is_empty() {
            carry(&mut self.client, &mut self.server, usize::MAX)?;
            carry(&mut self.server, &mut self.client, usize::MAX)?;
        }
        Ok(())
    }
}

/// Takes at most so many bytes from one side to the other.
fn carry(from: &mut Records, to: &mut Records, most: usize) -> Result<(), rustls::Error> {
    let count = from.sealed().len().min(most);
    let mut arrived = to.partial().to_vec();
    arrived.extend_from_slice(&from.sealed()[..count]);
    from.sent(count);
    to.take_in(&mut arrived, 0).map(drop)
}

/// All text that waits to be read, taken in pieces of this size.
fn read_all(records: &mut Records, piece: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while records.has_text() {
        let mut room = vec![0; piece];
        let count = records.read(&mut room).unwrap();
        all.extend_from_slice(&room[..count]);
    }
    all
}
