//! `nyx-extract tiles`.

use nyx::Result;
use nyx::cli::Common;

/// (to be written)
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _common: &Common) -> Result<()> {
    unimplemented!()
}
