//! Tests: what the fuzzer has found worth keeping is played again, without the fuzzer.

#[path = "../../../tests/fuzz/src/doors.rs"]
#[expect(unreachable_pub, reason = "the fuzzer needs them to be")]
mod doors;
#[path = "../../../tests/fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "it belongs to no crate in particular")]
mod replay;

#[test]
fn what_the_fuzzer_kept_still_holds() {
    replay::all(&[
        ("acceptor", doors::acceptor),
        ("initiator", doors::initiator),
        ("hba", doors::hba),
        ("rules", doors::rules),
    ]);
}
