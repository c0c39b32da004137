//! Names to addresses, by the system's resolver (getaddrinfo, so nsswitch.conf and /etc/hosts).

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

/// All addresses of a name; an address in text is itself.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(addresses)
}
