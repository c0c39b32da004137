//! The list of workloads.

use crate::{
    crowd::Load,
    door::Door,
    measure::{
        Better,
        Measure::{
            self, AllocationsPerTransaction, BytesPerIdleClient, CallsPerTransaction,
            CpuPerTransaction, CpuToAlone, CpuToExtended, CpuToOneWorker, Growth,
            InstructionsPerTransaction, Median, Percent, Permille, Reload, ReloadInWorker,
            SendsPerTransaction, Start, ToPeak, TransactionsPerSecond, Unevenness, WakeUps,
        },
    },
    probe::{
        pools::Pools,
        stalled::Stalled,
        storm::{Onrush, Storm},
    },
    work::Work,
};

/// One line of the benchmark.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// Its name in tables and for `--only`.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) kind: Kind,
    /// What its figures are meant to be.
    pub(crate) aims: &'static [(Measure, Aim)],
}

/// What is measured, and under which load.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// CPU and throughput while clients ask as fast as they are answered.
    Load(Load),
    /// The same, and the clients are pgbench's.
    Pgbench(Load),
    /// System calls for a fixed number of transactions.
    Calls(Load),
    /// How long each client waits, and whether all are served alike.
    Waits(Load),
    /// Throughput when many times more come than can be served at once.
    Overload(Load),
    /// User instructions and allocations for a fixed number of transactions.
    Instructions(Load),
    /// Memory for clients that did one transaction and stayed.
    Idle(Load),
    /// What others cost beside these.
    Beside(Load),
    /// What a process does that has nothing to do.
    Rest(Load),
    /// What many pools cost at rest, and a busy one among them.
    Pools(Pools),
    /// Clients that stopped reading.
    Stalled(Stalled),
    /// As many clients as the limit of open files allows.
    Reach(Load),
    /// Start and RELOAD with so many databases.
    Databases(usize),
    /// How those who are inside fare while others log in.
    Storm(Storm),
    /// What it takes to tell all metrics while clients stay.
    Scrape(Load),
}

/// What a figure of pgusher's is meant to be: at most this if less is better, else at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// To PgBouncer's.
    Ratio(f64),
    /// By itself.
    Amount(f64),
}

impl Aim {
    /// As it stands in tables.
    pub(crate) fn text(self, better: Better) -> String {
        let (Self::Ratio(aim) | Self::Amount(aim)) = self;
        format!("{} {aim}", better.sign())
    }
}

/// All workloads, in the order they run. Poolers have 20 seats unless told otherwise: 16 clients
/// never wait.
pub(crate) const WORKLOADS: &[Workload] = &[
    load("simple-16", Work::Simple, 16).aims(&[(CpuPerTransaction, Aim::Ratio(1.0))]),
    load("simple-100", Work::Simple, 100).aims(&[(CpuPerTransaction, Aim::Ratio(0.82))]),
    load("extended-16", Work::Extended, 16).aims(&[(CpuPerTransaction, Aim::Ratio(0.95))]),
    load("extended-100", Work::Extended, 100).aims(&[(CpuPerTransaction, Aim::Ratio(0.75))]),
    pgbench("pgbench-simple-32", Work::Simple).aims(&[
        (CpuPerTransaction, Aim::Ratio(0.9)),
        (TransactionsPerSecond, Aim::Ratio(1.1)),
        (CpuToOneWorker, Aim::Amount(1.15)),
    ]),
    pgbench("pgbench-extended-32", Work::Extended).aims(&[
        (CpuPerTransaction, Aim::Ratio(0.85)),
        (TransactionsPerSecond, Aim::Ratio(1.1)),
        (CpuToOneWorker, Aim::Amount(1.15)),
    ]),
    pgbench("pgbench-prepared-32", Work::Prepared).aims(&[
        (CpuToExtended, Aim::Amount(0.95)),
        (CpuToOneWorker, Aim::Amount(1.15)),
    ]),
    load("rows", Work::Rows, 4).aims(&[(CpuPerTransaction, Aim::Ratio(0.5))]),
    load("values", Work::Values, 4).aims(&[(CpuPerTransaction, Aim::Ratio(0.5))]),
    large_pkt_buf("pkt-buf-rows", Work::Rows).aims(&[(CpuPerTransaction, Aim::Ratio(0.95))]),
    large_pkt_buf("pkt-buf-values", Work::Values).aims(&[(CpuPerTransaction, Aim::Ratio(0.95))]),
    load("copy-out", Work::CopyOut, 2).aims(&[(CpuPerTransaction, Aim::Ratio(0.75))]),
    load("copy-in", Work::CopyIn, 2).aims(&[(CpuPerTransaction, Aim::Ratio(0.6))]),
    through("tls-16", Load::staying(Work::Simple, 16), Door::Tls)
        .aims(&[(CpuPerTransaction, Aim::Ratio(0.8))]),
    through("tls-100", Load::staying(Work::Simple, 100), Door::Tls)
        .aims(&[(CpuPerTransaction, Aim::Ratio(0.8))]),
    connect("connect", Door::Trust).aims(&[(CpuPerTransaction, Aim::Ratio(1.0))]),
    connect("connect-scram", Door::Scram).aims(&[(CpuPerTransaction, Aim::Ratio(0.8))]),
    connect("connect-scram-plain", Door::ScramPlain),
    connect("connect-tls", Door::Tls),
    connect("connect-tls-scram", Door::TlsScram).aims(&[(CpuPerTransaction, Aim::Ratio(0.7))]),
    storm("storm-scram", Door::Scram, Onrush::Flood),
    storm("storm-tls-scram", Door::TlsScram, Onrush::Flood),
    storm("arrivals-scram", Door::Scram, Onrush::Paced(500)),
    storm("arrivals-tls-scram", Door::TlsScram, Onrush::Paced(500)),
    storm_elsewhere("elsewhere-scram", Door::Scram, Onrush::Flood),
    storm_elsewhere("elsewhere-tls-scram", Door::TlsScram, Onrush::Flood),
    storm_elsewhere("elsewhere-arrivals-tls", Door::TlsScram, Onrush::Paced(500)),
    calls("calls-simple-32", Work::Simple).aims(&[(CallsPerTransaction, Aim::Amount(4.2))]),
    calls("calls-prepared-32", Work::Prepared).aims(&[(SendsPerTransaction, Aim::Amount(2.0))]),
    instructions("instructions-simple-16", Work::Simple, 16).aims(FEW_INSTRUCTIONS),
    instructions("instructions-simple-64", Work::Simple, 64).aims(MORE_INSTRUCTIONS),
    instructions("instructions-extended-16", Work::Extended, 16).aims(NO_ALLOCATIONS),
    instructions("instructions-extended-64", Work::Extended, 64).aims(NO_ALLOCATIONS),
    waits("latency-1", Load::staying(Work::Simple, 1)),
    waits("fairness-200", FAIRNESS).aims(&[
        (Median, Aim::Ratio(1.0)),
        (Percent, Aim::Ratio(1.0)),
        (Permille, Aim::Ratio(1.0)),
        (Unevenness, Aim::Amount(1.15)),
    ]),
    of(
        "overload-400",
        Kind::Overload(Load::staying(Work::Simple, 400)),
    )
    .aims(&[(ToPeak, Aim::Amount(0.9))]),
    idle("idle-1000", 1000, Door::Trust),
    idle("idle-5000", 5000, Door::Trust),
    idle("idle-10000", 10_000, Door::Trust).aims(&[(BytesPerIdleClient, Aim::Amount(2000.0))]),
    idle("idle-tls-2000", 2000, Door::Tls).aims(&[(BytesPerIdleClient, Aim::Amount(8000.0))]),
    of("rest", Kind::Rest(Load::staying(Work::Simple, 16))).aims(&[(WakeUps, Aim::Amount(4.0))]),
    of(
        "beside-10000",
        Kind::Beside(Load::staying(Work::Simple, 10_000)),
    )
    .aims(&[(CpuToAlone, Aim::Amount(1.1))]),
    of("pools-2000", Kind::Pools(POOLS)).aims(&[
        (Measure::CpuAtRest, Aim::Amount(2.0)),
        (CpuToAlone, Aim::Amount(1.1)),
    ]),
    of("stalled-1000", Kind::Stalled(STALLED)).aims(&[(Growth, Aim::Amount(1.5))]),
    of("reach-20000", Kind::Reach(REACH)),
    of("databases-5000", Kind::Databases(5000)).aims(&[
        (Start, Aim::Amount(1000.0)),
        (Reload, Aim::Amount(200.0)),
        (ReloadInWorker, Aim::Amount(10.0)),
    ]),
    of(
        "scrape-10000",
        Kind::Scrape(Load::staying(Work::Simple, 10_000)),
    ),
];

const NO_ALLOCATIONS: &[(Measure, Aim)] = &[(AllocationsPerTransaction, Aim::Amount(0.0))];
const FEW_INSTRUCTIONS: &[(Measure, Aim)] = &[
    (InstructionsPerTransaction, Aim::Amount(4000.0)),
    NO_ALLOCATIONS[0],
];
const MORE_INSTRUCTIONS: &[(Measure, Aim)] = &[
    (InstructionsPerTransaction, Aim::Amount(5000.0)),
    NO_ALLOCATIONS[0],
];

/// Twenty clients for each seat.
const FAIRNESS: Load = Load::staying(Work::Simple, 200).telling(&[("default_pool_size", "10")]);
const REACH: Load = Load::staying(Work::Simple, 20_000).telling(&[("max_client_conn", "21000")]);
const POOLS: Pools = Pools {
    users: 40,
    databases: 50,
};
const STALLED: Stalled = Stalled {
    streamed: 1000,
    queried: 50,
};

impl Workload {
    /// The same, meant to come to these figures.
    const fn aims(self, aims: &'static [(Measure, Aim)]) -> Self {
        Self { aims, ..self }
    }
}

const fn of(name: &'static str, kind: Kind) -> Workload {
    Workload {
        name,
        kind,
        aims: &[],
    }
}

const fn load(name: &'static str, work: Work, clients: usize) -> Workload {
    of(name, Kind::Load(Load::staying(work, clients)))
}

/// Where PgBouncer reads and writes in larger pieces than it does by itself.
const fn large_pkt_buf(name: &'static str, work: Work) -> Workload {
    let load = Load::staying(work, 4).telling(&[("pkt_buf", "65536")]);
    of(name, Kind::Load(load))
}

const fn pgbench(name: &'static str, work: Work) -> Workload {
    of(name, Kind::Pgbench(Load::staying(work, 32)))
}

const fn calls(name: &'static str, work: Work) -> Workload {
    of(name, Kind::Calls(Load::staying(work, 32)))
}

const fn waits(name: &'static str, load: Load) -> Workload {
    of(name, Kind::Waits(load))
}

const fn instructions(name: &'static str, work: Work, clients: usize) -> Workload {
    of(name, Kind::Instructions(Load::staying(work, clients)))
}

const fn through(name: &'static str, load: Load, door: Door) -> Workload {
    of(name, Kind::Load(load.through(door)))
}

const fn connect(name: &'static str, door: Door) -> Workload {
    of(name, Kind::Load(Load::visiting(door, 16)))
}

const fn storm(name: &'static str, door: Door, onrush: Onrush) -> Workload {
    let inside = Load::staying(Work::Simple, 16).through(door);
    let storm = Storm {
        inside,
        logins: 1000,
        onrush,
        elsewhere: false,
    };
    of(name, Kind::Storm(storm))
}

/// The same, if those who come went to another pooler: what nobody could better.
const fn storm_elsewhere(name: &'static str, door: Door, onrush: Onrush) -> Workload {
    let mut workload = storm(name, door, onrush);
    if let Kind::Storm(storm) = &mut workload.kind {
        storm.elsewhere = true;
    }
    workload
}

const fn idle(name: &'static str, clients: usize, door: Door) -> Workload {
    let load = Load::staying(Work::Simple, clients).through(door);
    of(name, Kind::Idle(load))
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

    #[test]
    fn an_aim_says_which_way_it_is_meant() {
        assert_eq!(Aim::Ratio(0.82).text(Better::Less), "≤ 0.82");
        assert_eq!(Aim::Amount(2000.0).text(Better::More), "≥ 2000");
    }
}
