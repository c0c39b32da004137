//! Tests: what the fuzzer has found worth keeping is played again, without the fuzzer.

#[path = "../../../tests/fuzz/src/doors.rs"]
#[expect(unreachable_pub, reason = "the fuzzer needs them to be")]
mod doors;

use std::path::Path;

/// A target of the fuzzer's: its name, and what must hold.
type Target = (&'static str, fn(&[u8]));

/// Plays all that is kept for a target; returns how much that was.
fn play(target: &str, property: fn(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let files = std::fs::read_dir(corpus.join(target)).expect("a corpus");
    let mut count = 0;
    for file in files {
        let path = file.expect("a file").path();
        property(&std::fs::read(&path).expect("its bytes"));
        count += 1;
    }
    count
}

#[test]
fn what_the_fuzzer_kept_still_holds() {
    const TARGETS: [Target; 4] = [
        ("acceptor", doors::acceptor),
        ("initiator", doors::initiator),
        ("hba", doors::hba),
        ("rules", doors::rules),
    ];
    for (target, property) in TARGETS {
        assert!(play(target, property) > 0, "{target} has no corpus");
    }
}
