//! The list of workloads.

use crate::{
    crowd::{Habit, Load},
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
    /// Memory for so many clients that did one transaction and stayed.
    Idle(usize),
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
    Workload {
        name: "connect",
        kind: Kind::Load(Load {
            work: Work::Simple,
            clients: 16,
            habit: Habit::Visits,
        }),
    },
    instructions("instructions-simple-16", Work::Simple, 16),
    instructions("instructions-simple-64", Work::Simple, 64),
    instructions("instructions-extended-16", Work::Extended, 16),
    instructions("instructions-extended-64", Work::Extended, 64),
    idle("idle-1000", 1000),
    idle("idle-5000", 5000),
];

const fn load(name: &'static str, work: Work, clients: usize) -> Workload {
    let kind = Kind::Load(Load::staying(work, clients));
    Workload { name, kind }
}

const fn instructions(name: &'static str, work: Work, clients: usize) -> Workload {
    let kind = Kind::Instructions(Load::staying(work, clients));
    Workload { name, kind }
}

const fn idle(name: &'static str, clients: usize) -> Workload {
    let kind = Kind::Idle(clients);
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
