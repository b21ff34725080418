#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onceward_fuzz::check(
    onceward::__private::fuzzing::AVRO_RESOLUTION,
    bytes
));
