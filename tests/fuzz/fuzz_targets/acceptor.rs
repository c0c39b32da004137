//! See `pgusher_fuzz::acceptor`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::doors::acceptor(data));
