//! `--shard`: which part of an input a command takes.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nyx::error::{Error, InFile, Result};
use nyx::extract::shard::{Census, Shard, rows_of};
use nyx::input::standard;
use nyx::pipe::Pipe;
use nyx::provenance::{self, Share};

/// The flag of inputs that have to be read to be shared out.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct ShardArg {
    /// Only the i-th of n parts: contiguous, of about as many bases each, with the regions' own ordinals, so that
    /// nyx-merge can prove that they are the whole. The input is read twice; standard input goes through a temporary
    /// file
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

/// Returns the rows of a shard of what `open` opens, and which they are; all rows without a shard.
///
/// `inputs` are what `open` reads: it is called twice, once to count.
pub fn rows(
    shard: Option<Shard>,
    inputs: &[&Path],
    open: impl Fn() -> Result<Pipe>,
) -> Result<(Pipe, Option<Share>)> {
    let Some(shard) = shard else { return Ok((open()?, None)) };
    let again = Again::new(inputs)?;
    let share = Census::of(open()?)?.share(shard);
    again.rewind()?;
    Ok((rows_of(open()?, share), Some(share)))
}

/// Returns which regions of the rows at `input` a shard takes; `None` without a shard.
///
/// # Errors
///
/// When the rows are a shard already: parts of parts are no parts of the whole.
pub fn of_rows(shard: Option<Shard>, input: &Path) -> Result<Option<Share>> {
    let Some(shard) = shard else { return Ok(None) };
    let again = Again::new(&[input])?;
    let pipe = nyx::input::open_pipe(input)?;
    if let Some(share) = provenance::share(&pipe.schema().metadata)?.filter(|share| share.parts > 1) {
        return Err(Error::usage(format!(
            "--shard: the rows are {share} already; leave --shard out, there or here"
        )));
    }
    let share = Census::of(pipe)?.share(shard);
    again.rewind()?;
    Ok(Some(share))
}

/// Inputs that can be read a second time.
pub struct Again {
    /// Standard input and the offset at which it began.
    stdin: Option<(File, u64)>,
}

impl Again {
    /// Makes sure that the inputs can be read twice. When one of them is standard input and that is a pipe, it is
    /// copied to a file without a name, and this process begins again with that file as its standard input.
    ///
    /// # Errors
    ///
    /// An input that is a FIFO; a temporary directory that is full.
    pub fn new(inputs: &[&Path]) -> Result<Self> {
        for path in inputs.iter().filter(|path| **path != Path::new("-")) {
            if !std::fs::metadata(path).in_file(path)?.is_file() {
                let what = "--shard reads its input twice, and this is no file: save it, or pipe it into standard input";
                return Err(Error::usage(what)).in_file(path);
            }
        }
        if !inputs.contains(&Path::new("-")) {
            return Ok(Self { stdin: None });
        }
        let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        if !stdin.metadata()?.is_file() {
            return Err(begin_again_with(spool(&mut stdin)?));
        }
        let offset = stdin.stream_position()?;
        Ok(Self { stdin: Some((stdin, offset)) })
    }

    /// Sets standard input back to where it began.
    pub fn rewind(mut self) -> Result<()> {
        if let Some((stdin, offset)) = &mut self.stdin {
            stdin.seek(SeekFrom::Start(*offset))?;
            standard::rewound_input();
        }
        Ok(())
    }
}

/// Copies what can be read once to a file that vanishes with the last process that has it open.
fn spool(stdin: &mut File) -> Result<File> {
    let mut file =
        tempfile::tempfile().map_err(|error| Error::from(error).at("a temporary file (TMPDIR)"))?;
    io::copy(stdin, &mut file)?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Becomes this command again, with `stdin` as its standard input; returns only when that fails.
fn begin_again_with(stdin: File) -> Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(name).args(arguments).stdin(stdin).exec().into(),
        Err(error) => error.into(),
    }
}
