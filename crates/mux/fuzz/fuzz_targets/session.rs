#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| berth_mux::fuzzing::session(input));
