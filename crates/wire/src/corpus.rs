//! Tests: what the fuzzer has found worth keeping is played again, without the fuzzer.

#[path = "../../../tests/fuzz/src/properties.rs"]
#[expect(unreachable_pub, reason = "the fuzzer needs them to be")]
mod properties;
#[path = "../../../tests/fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "it belongs to no crate in particular")]
mod replay;

#[test]
fn what_the_fuzzer_kept_still_holds() {
    replay::all(&[
        ("scanner", properties::scanner),
        ("startup", properties::startup),
        ("frontend", properties::frontend),
        ("backend", properties::backend),
        ("pipeline", properties::pipeline),
    ]);
}
