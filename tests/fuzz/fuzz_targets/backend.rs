//! See `pgusher_fuzz::backend`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::properties::backend(data));
