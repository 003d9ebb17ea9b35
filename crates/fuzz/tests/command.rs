//! The fuzzer as its users run it.

use std::process::Command;

#[test]
fn a_bounded_run_counts_its_targets_and_a_wrong_target_is_refused() {
    let fuzz = || Command::new(env!("CARGO_BIN_EXE_tidings-fuzz"));
    let output = fuzz().args(["--seconds", "0.05", "--seed", "3", "topic", "filter"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.ends_with("fuzz: 2 passed, 0 failed\n"), "{text}");
    let output = fuzz().arg("tropic").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
