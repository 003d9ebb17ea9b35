//! Bounded fuzzing.
fn main() {}
