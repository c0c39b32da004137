//! On which processors the two ends of a connection run, if both are on this machine.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::sockopt::socket_incoming_cpu;
use rustix::thread::sched_getcpu;

/// The processor that this thread runs on.
pub fn current() -> Option<u32> {
    u32::try_from(sched_getcpu()).ok()
}

/// The processor on which the other end of a TCP socket last said something (`SO_INCOMING_CPU`,
/// socket(7)). `None` for those on other machines: of them the kernel tells where the network's
/// interrupts are looked after, which may be the same for all.
pub(crate) fn of_peer(socket: &impl AsFd, peer: IpAddr, local: Option<SocketAddr>) -> Option<u32> {
    let is_here = peer.is_loopback() || local.is_some_and(|local| local.ip() == peer);
    is_here.then(|| socket_incoming_cpu(socket).ok()).flatten()
}
