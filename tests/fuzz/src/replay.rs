//! Plays what the fuzzer has found worth keeping again, without the fuzzer: for the tests of the
//! crates that its targets are about.

use std::path::Path;

/// A target of the fuzzer's: its name, and what must hold.
pub type Target = (&'static str, fn(&[u8]));

/// Plays all that is kept for these targets; each has something.
pub fn all(targets: &[Target]) {
    for &(target, property) in targets {
        assert!(play(target, property) > 0, "{target} has no corpus");
    }
}

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
