//! pgusher beside PgBouncer, in one run.
fn main() {}
