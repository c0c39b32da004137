//! Questions to DNS servers: over UDP, and over TCP when the answer does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa, Soa};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::conf::ResolvConf;

/// Longest answer over UDP.
const ANSWER_LEN_MAX: usize = 4096;

type Reply = Message<Vec<u8>>;

/// The addresses of the first name that has any, among those that it may stand for.
pub(super) async fn addresses(conf: &ResolvConf, name: &str) -> io::Result<Vec<IpAddr>> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no such name");
    for candidate in conf.candidates(name) {
        let four = ask(conf, &candidate, Rtype::A);
        let six = ask(conf, &candidate, Rtype::AAAA);
        let mut found = Vec::new();
        for answer in <[_; 2]>::from(tokio::join!(four, six)) {
            match answer {
                Ok(answer) => found.extend(addresses_in(&answer)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failure = error,
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(failure)
}

/// The addresses of whatever the name leads to.
fn addresses_in(reply: &Reply) -> Vec<IpAddr> {
    let (Some(name), Ok(answer)) = (reply.canonical_name(), reply.answer()) else {
        return Vec::new();
    };
    let four = answer.limit_to::<A>().flatten();
    let four = four.filter(|record| *record.owner() == name);
    let four = four.map(|record| IpAddr::from(record.data().addr()));
    let six = answer.limit_to::<Aaaa>().flatten();
    let six = six.filter(|record| *record.owner() == name);
    four.chain(six.map(|record| IpAddr::from(record.data().addr())))
        .collect()
}

/// The serial number of a zone, or of the one that it is in.
pub(super) async fn serial(conf: &ResolvConf, zone: &str) -> io::Result<u32> {
    let reply = ask(conf, zone, Rtype::SOA).await?;
    let sections = [reply.answer(), reply.authority()];
    let mut records = sections
        .into_iter()
        .flatten()
        .flat_map(|section| section.limit_to::<Soa<_>>())
        .flatten();
    let soa = records.next();
    soa.map(|record| record.data().serial().into_int())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no SOA record"))
}

/// Asks one server after the other. That there is no such name is an answer: `NotFound`.
async fn ask(conf: &ResolvConf, name: &str, kind: Rtype) -> io::Result<Reply> {
    let mut failure = io::Error::other("no DNS server answers");
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            let question = question(name, kind)?;
            let asking = ask_server(*server, &question);
            let answer = match timeout(conf.timeout, asking).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    failure = io::Error::other(format!("DNS server {server}: {error}"));
                    continue;
                }
                Err(_) => {
                    failure = io::Error::other(format!("DNS server {server}: no answer"));
                    continue;
                }
            };
            match answer.header().rcode() {
                Rcode::NOERROR => return Ok(answer),
                Rcode::NXDOMAIN => {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
                }
                other => failure = io::Error::other(format!("DNS server {server}: {other}")),
            }
        }
    }
    Err(failure)
}

fn question(name: &str, kind: Rtype) -> io::Result<Reply> {
    let name: Name<Vec<u8>> =
        Name::from_str(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    // Who can't see the question must not be able to guess its number.
    let number = getrandom::u32().map_err(io::Error::other)? as u16;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(number);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((name, kind)).map_err(io::Error::other)?;
    Ok(message.into_message())
}

async fn ask_server(server: SocketAddr, question: &Reply) -> io::Result<Reply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question.as_slice()).await?;
    let mut buffer = vec![0; ANSWER_LEN_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What does not answer the question is none of our business.
        let Ok(answer) = Message::from_octets(buffer[..len].to_vec()) else {
            continue;
        };
        if answer.is_answer(question) {
            return match answer.header().tc() {
                true => ask_at_length(server, question).await,
                false => Ok(answer),
            };
        }
    }
}

async fn ask_at_length(server: SocketAddr, question: &Reply) -> io::Result<Reply> {
    let mut socket = TcpStream::connect(server).await?;
    let len = u16::try_from(question.as_slice().len()).map_err(io::Error::other)?;
    let mut message = len.to_be_bytes().to_vec();
    message.extend_from_slice(question.as_slice());
    socket.write_all(&message).await?;
    let len = socket.read_u16().await?;
    let mut answer = vec![0; len.into()];
    socket.read_exact(&mut answer).await?;
    let answer = Message::from_octets(answer).map_err(io::Error::other)?;
    match answer.is_answer(question) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use testkit::FakeDns;

    use super::*;

    async fn conf(dns: &FakeDns, more: &str) -> ResolvConf {
        let text = std::fs::read_to_string(dns.resolv_conf()).unwrap();
        ResolvConf::parse(&(text + more))
    }

    #[tokio::test]
    async fn a_name_has_the_addresses_that_its_server_says() {
        let dns = FakeDns::start().await;
        dns.set("db.test", &["10.0.0.1", "10.0.0.2"]);
        let found = addresses(&conf(&dns, "").await, "db.test").await.unwrap();
        assert_eq!(
            found,
            ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
    }

    #[tokio::test]
    async fn an_answer_that_does_not_fit_is_fetched_over_tcp() {
        let dns = FakeDns::start().await;
        let many: Vec<String> = (1..=100).map(|number| format!("10.0.0.{number}")).collect();
        dns.set(
            "db.test",
            &many.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let found = addresses(&conf(&dns, "").await, "db.test").await.unwrap();
        assert_eq!(found.len(), 100);
        assert_eq!(dns.asked("db.test"), 2);
    }

    #[tokio::test]
    async fn a_short_name_is_found_in_the_search_list() {
        let dns = FakeDns::start().await;
        dns.set("db.app.test", &["10.0.0.1"]);
        let conf = conf(&dns, "search none.test app.test").await;
        assert_eq!(addresses(&conf, "db").await.unwrap().len(), 1);
        assert_eq!(dns.asked("db.none.test"), 1);
        assert_eq!(dns.asked("db"), 0);
    }

    #[tokio::test]
    async fn what_no_server_knows_is_told_from_a_server_that_is_silent() {
        let dns = FakeDns::start().await;
        let conf = conf(&dns, "").await;
        let told = addresses(&conf, "db.test").await.unwrap_err();
        assert_eq!(told.to_string(), "no such name");
        dns.set_silent(true);
        let told = addresses(&conf, "db.test").await.unwrap_err();
        assert_eq!(
            told.to_string(),
            format!("DNS server {}: no answer", conf.servers[0])
        );
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_followed_by_the_next() {
        let (silent, dns) = (FakeDns::start().await, FakeDns::start().await);
        silent.set_silent(true);
        dns.set("db.test", &["10.0.0.1"]);
        let mut conf = conf(&silent, "").await;
        conf.servers.push(([127, 0, 0, 1], dns.port()).into());
        assert_eq!(addresses(&conf, "db.test").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_zone_has_a_serial_number() {
        let dns = FakeDns::start().await;
        dns.set_serial(2_026_112_101);
        let conf = conf(&dns, "").await;
        assert_eq!(serial(&conf, "test").await.unwrap(), 2_026_112_101);
    }

    #[tokio::test]
    async fn what_can_not_be_a_name_is_not_asked_for() {
        let dns = FakeDns::start().await;
        let conf = conf(&dns, "").await;
        let long = "a".repeat(64);
        let told = addresses(&conf, &long).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::InvalidInput);
    }
}
