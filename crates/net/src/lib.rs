//! Sockets and buffers: the only crate that touches the network.

pub mod conn;
pub mod listen;
pub mod resolve;
pub mod stream;

pub use conn::Conn;
pub use listen::Listener;
pub use stream::{PeerAddr, Stream, TcpOptions};
