#![no_main]

#[path = "../target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(init: target::begin(), |bytes: &[u8]| target::formats::check("bed", bytes));
