//! Bytes of a client connection, in any segments, against a strict reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_proxy::fuzzed::only_well_formed_messages_pass(
    bytes
));
