//! The list of workloads.

use crate::{
    crowd::Load,
    door::Door,
    probe::storm::{Onrush, Storm},
    work::Work,
};

/// One line of the benchmark.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// Its name in tables and for `--only`.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) kind: Kind,
}

/// What is measured, and under which load.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// CPU and throughput while clients ask as fast as they are answered.
    Load(Load),
    /// User instructions for a fixed number of transactions.
    Instructions(Load),
    /// Memory for clients that did one transaction and stayed.
    Idle(Load),
    /// How those who are inside fare while others log in.
    Storm(Storm),
    /// What it takes to tell all metrics while clients stay.
    Scrape(Load),
}

/// All workloads, in the order they run. Poolers have 20 seats: 16 clients never wait.
pub(crate) const WORKLOADS: &[Workload] = &[
    load("simple-16", Work::Simple, 16),
    load("simple-100", Work::Simple, 100),
    load("extended-16", Work::Extended, 16),
    load("extended-100", Work::Extended, 100),
    load("rows", Work::Rows, 4),
    load("copy-out", Work::CopyOut, 2),
    load("copy-in", Work::CopyIn, 2),
    through("tls-16", Load::staying(Work::Simple, 16), Door::Tls),
    through("tls-100", Load::staying(Work::Simple, 100), Door::Tls),
    connect("connect", Door::Trust),
    connect("connect-scram", Door::Scram),
    connect("connect-scram-plain", Door::ScramPlain),
    connect("connect-tls", Door::Tls),
    connect("connect-tls-scram", Door::TlsScram),
    storm("storm-scram", Door::Scram, Onrush::Flood),
    storm("storm-tls-scram", Door::TlsScram, Onrush::Flood),
    storm("arrivals-scram", Door::Scram, Onrush::Paced(500)),
    storm("arrivals-tls-scram", Door::TlsScram, Onrush::Paced(500)),
    instructions("instructions-simple-16", Work::Simple, 16),
    instructions("instructions-simple-64", Work::Simple, 64),
    instructions("instructions-extended-16", Work::Extended, 16),
    instructions("instructions-extended-64", Work::Extended, 64),
    idle("idle-1000", 1000, Door::Trust),
    idle("idle-5000", 5000, Door::Trust),
    idle("idle-tls-2000", 2000, Door::Tls),
    scrape("scrape-10000", 10_000),
];

const fn load(name: &'static str, work: Work, clients: usize) -> Workload {
    let kind = Kind::Load(Load::staying(work, clients));
    Workload { name, kind }
}

const fn instructions(name: &'static str, work: Work, clients: usize) -> Workload {
    let kind = Kind::Instructions(Load::staying(work, clients));
    Workload { name, kind }
}

const fn through(name: &'static str, load: Load, door: Door) -> Workload {
    let kind = Kind::Load(load.through(door));
    Workload { name, kind }
}

const fn connect(name: &'static str, door: Door) -> Workload {
    let kind = Kind::Load(Load::visiting(door, 16));
    Workload { name, kind }
}

const fn storm(name: &'static str, door: Door, onrush: Onrush) -> Workload {
    let inside = Load::staying(Work::Simple, 16).through(door);
    let kind = Kind::Storm(Storm {
        inside,
        logins: 1000,
        onrush,
    });
    Workload { name, kind }
}

const fn scrape(name: &'static str, clients: usize) -> Workload {
    let kind = Kind::Scrape(Load::staying(Work::Simple, clients));
    Workload { name, kind }
}

const fn idle(name: &'static str, clients: usize, door: Door) -> Workload {
    let kind = Kind::Idle(Load::staying(Work::Simple, clients).through(door));
    Workload { name, kind }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn workloads_have_names_of_their_own() {
        let names: BTreeSet<_> = WORKLOADS.iter().map(|it| it.name).collect();

        assert_eq!(names.len(), WORKLOADS.len());
    }
}
