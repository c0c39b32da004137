//! What a file of callgrind's counts says.

use std::collections::HashSet;

/// What one process did in its life.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In user mode.
    pub(crate) instructions: u64,
    /// Calls of the allocator for a new block, or for a larger one.
    pub(crate) allocations: u64,
}

/// The allocator of the C library, which both Rust's and the poolers' own build on.
const ALLOCATORS: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "memalign",
    "posix_memalign",
    "aligned_alloc",
];

impl Counts {
    /// Reads such a file; `None` if it has no totals, as when the process was killed.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let totals = text.lines().find_map(|it| it.strip_prefix("totals:"))?;
        Some(Self {
            instructions: totals.trim().parse().ok()?,
            allocations: allocations(text),
        })
    }
}

/// `cfn=(7) malloc` names who is called, `calls=5 0` says how often. A name stands where its number
/// comes first; from then on the number stands for it.
fn allocations(text: &str) -> u64 {
    let mut allocators = HashSet::new();
    let (mut total, mut calls_allocator) = (0, false);
    for line in text.lines() {
        let (called, named) = match (line.strip_prefix("cfn="), line.strip_prefix("fn=")) {
            (Some(called), _) => (true, called),
            (None, Some(named)) => (false, named),
            (None, None) => {
                let calls = line.strip_prefix("calls=").filter(|_| calls_allocator);
                let count = calls.and_then(|calls| calls.split_whitespace().next());
                total += count
                    .and_then(|count| count.parse::<u64>().ok())
                    .unwrap_or(0);
                continue;
            }
        };
        let (number, name) = named.split_once(' ').unwrap_or((named, ""));
        if ALLOCATORS.contains(&name) {
            allocators.insert(number);
        }
        calls_allocator = called && allocators.contains(number);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = "events: Ir\n\
        fn=(1) main\n5 12\ncob=(2) libc\ncfn=(7) malloc\ncalls=3 0\n5 90\ncfn=(8) free\ncalls=9 0\n\
        fn=(7)\n1 40\ncfn=(9) _int_malloc\ncalls=3 0\n1 60\n\
        fn=(3) other\n2 4\ncfn=(7)\ncalls=2 0\n2 60\n\
        totals: 1234\n";

    #[test]
    fn the_total_stands_at_the_end_of_the_counts() {
        assert_eq!(Counts::read(SOME).unwrap().instructions, 1234);
    }

    #[test]
    fn calls_of_the_allocator_are_added_up_and_what_it_calls_itself_is_not() {
        assert_eq!(Counts::read(SOME).unwrap().allocations, 5);
    }

    #[test]
    fn counts_without_a_total_are_not_believed() {
        assert_eq!(Counts::read("events: Ir\n"), None);
    }
}
