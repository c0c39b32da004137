//! A scripted DNS server.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use crate::scratch::Scratch;

/// The kind of question that asks for IPv4 addresses.
const A: u16 = 1;
/// The kind of question that asks about a zone.
const SOA: u16 = 6;
/// Longest answer over UDP.
const UDP_LEN_MAX: usize = 512;

/// A DNS server that knows what the test tells it, and counts what it is asked. It answers over UDP
/// and, what does not fit, over TCP.
pub struct FakeDns {
    port: u16,
    known: Arc<Mutex<Known>>,
    doormen: [JoinHandle<()>; 2],
    scratch: Scratch,
}

#[derive(Default)]
struct Known {
    names: BTreeMap<String, Vec<Ipv4Addr>>,
    serial: u32,
    silent: bool,
    asked: Vec<(String, u16)>,
}

impl FakeDns {
    /// A server that knows no name.
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let udp = udp.expect("a UDP port");
            let addr = udp.local_addr().expect("its address");
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(addr).await {
                break (udp, tcp);
            }
        };
        let port = udp.local_addr().expect("its address").port();
        let known = Arc::<Mutex<Known>>::default();
        let doormen = [
            tokio::spawn(answer_datagrams(udp, known.clone())),
            tokio::spawn(answer_at_length(tcp, known.clone())),
        ];
        let scratch = Scratch::new("dns").expect("a directory");
        let text = format!("nameserver 127.0.0.1:{port}\noptions timeout:1 attempts:1\n");
        std::fs::write(scratch.path().join("resolv.conf"), text).expect("resolv.conf");
        Self {
            port,
            known,
            doormen,
            scratch,
        }
    }

    /// Its port, of both kinds.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A resolv.conf that leads here.
    pub fn resolv_conf(&self) -> PathBuf {
        self.scratch.path().join("resolv.conf")
    }

    /// From now on the name has these addresses; without any, there is no such name.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses
            .iter()
            .map(|text| text.parse().expect("an address"));
        let addresses: Vec<_> = addresses.collect();
        let mut known = hold(&self.known);
        match addresses.is_empty() {
            true => known.names.remove(name),
            false => known.names.insert(name.to_owned(), addresses),
        };
    }

    /// From now on this is the serial number of all zones.
    pub fn set_serial(&self, serial: u32) {
        hold(&self.known).serial = serial;
    }

    /// From now on nobody gets an answer, or everybody again.
    pub fn set_silent(&self, silent: bool) {
        hold(&self.known).silent = silent;
    }

    /// How often it was asked for the addresses of a name.
    pub fn asked(&self, name: &str) -> usize {
        self.count(name, A)
    }

    /// How often it was asked for the serial number of a zone.
    pub fn asked_for_serial(&self, zone: &str) -> usize {
        self.count(zone, SOA)
    }

    fn count(&self, name: &str, kind: u16) -> usize {
        let known = hold(&self.known);
        let asked = known.asked.iter();
        asked
            .filter(|(asked, of)| asked == name && *of == kind)
            .count()
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.doormen.iter().for_each(JoinHandle::abort);
    }
}

async fn answer_datagrams(socket: UdpSocket, known: Arc<Mutex<Known>>) {
    let mut buffer = [0; UDP_LEN_MAX];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(mut answer) = hold(&known).answer(&buffer[..len]) else {
            continue;
        };
        if answer.len() > UDP_LEN_MAX {
            // Truncated: the question, and no answer.
            answer.truncate(len);
            answer[2] |= 0b10;
            answer[7] = 0;
        }
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn answer_at_length(listener: TcpListener, known: Arc<Mutex<Known>>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let known = known.clone();
        tokio::spawn(async move {
            let mut question = vec![0; socket.read_u16().await?.into()];
            socket.read_exact(&mut question).await?;
            let answer = hold(&known).answer(&question);
            if let Some(answer) = answer {
                let len = u16::try_from(answer.len()).expect("an answer of that length");
                socket.write_u16(len).await?;
                socket.write_all(&answer).await?;
            }
            std::io::Result::Ok(())
        });
    }
}

impl Known {
    /// The answer to a question; `None`: silence.
    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, len) = read_question(question)?;
        self.asked.push((name.clone(), kind));
        if self.silent {
            return None;
        }
        let addresses = self.names.get(&name);
        let records: Vec<Vec<u8>> = match kind {
            A => {
                let addresses = addresses.into_iter().flatten();
                addresses.map(|ip| ip.octets().to_vec()).collect()
            }
            SOA => vec![soa(self.serial)],
            _ => Vec::new(),
        };
        let is_known = kind == SOA || addresses.is_some();
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
        let count = u8::try_from(records.len()).expect("so many records");
        answer.extend([0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&question[12..len]);
        for record in records {
            // The name of the question, the kind, the Internet, a minute.
            answer.extend([0xc0, 12, 0]);
            answer.extend([
                u8::try_from(kind).expect("a small kind"),
                0,
                1,
                0,
                0,
                0,
                60,
                0,
            ]);
            answer.push(u8::try_from(record.len()).expect("a short record"));
            answer.extend(record);
        }
        Some(answer)
    }
}

fn hold(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().expect("nobody panics with it")
}

/// The name that is asked about, the kind, and where the question ends.
fn read_question(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + len)?;
        at += 1 + len;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).into_owned());
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

/// The data of an SOA record without names.
fn soa(serial: u32) -> Vec<u8> {
    let mut data = vec![0, 0];
    for number in [serial, 60, 60, 60, 60] {
        data.extend(number.to_be_bytes());
    }
    data
}
