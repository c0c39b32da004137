//! Sockets and buffers: the only crate that touches the network.

pub mod conn;
pub mod cpu;
pub mod dial;
pub mod ldap;
pub mod listen;
pub mod passing;
pub mod resolve;
pub mod stream;
pub mod tls;

pub use conn::Conn;
pub use ldap::{LdapClient, LdapError};
pub use listen::{Listener, Watched};
pub use stream::{PeerAddr, Stream, TcpOptions};
