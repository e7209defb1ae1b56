//! What all fuzz targets begin with.

#[path = "formats.rs"]
pub mod formats;

/// Lets a panic that nyx turns into an error pass; every other one ends the process, as libFuzzer has it.
pub fn begin() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !nyx::error::is_guarded() {
            hook(panic);
        }
    }));
}
