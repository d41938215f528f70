#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubesiren_fuzz::body(data));
