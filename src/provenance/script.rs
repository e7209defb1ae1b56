//! The chain of stages as the shell script that makes the same again.

use super::Step;
use crate::error::{Error, Result};

/// The tool that joins shards.
const MERGE: &str = "nyx-merge";
/// What [`crate::pipe::merge`] puts behind a command that other shards have in other words, around their number.
const OTHERS: [&str; 2] = [" [and ", " other shards]"];

/// Whether a character means nothing to a shell.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c)
}

/// Quotes a word for a POSIX shell when it needs it.
pub fn quote(word: &str) -> String {
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Splits a command into its words, which stay as [`quote`] made them. `None` for what is no such command: a shell
/// might do more with it.
pub fn words(command: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let (mut rest, mut length) = (command, 0);
    while let Some(c) = rest[length..].chars().next() {
        match c {
            ' ' if length > 0 => {
                words.push(&rest[..length]);
                (rest, length) = (&rest[length + 1..], 0);
                continue;
            }
            '\'' => length += 2 + rest[length + 1..].find('\'')?,
            '\\' if rest[length..].starts_with(r"\'") => length += 2,
            c if is_plain(c) => length += 1,
            _ => return None,
        }
    }
    if length == 0 {
        return None;
    }
    words.push(rest);
    Some(words)
}

/// Returns a command as one shard had it, and whether others had it in other words.
fn of_one_shard(command: &str) -> (&str, bool) {
    let [before, after] = OTHERS;
    let cut = command.strip_suffix(after).and_then(|command| command.rsplit_once(before));
    match cut.filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((command, _)) => (command, true),
        None => (command, false),
    }
}

/// Returns the commands of a chain in order, as one types them: those that were joined by pipes are, and so are files
/// that the shell wrote between two of them. Comments say what the chain cannot tell exactly.
///
/// # Errors
///
/// A chain without stages, one whose commands were left out (`--no-pg`), or one with what is no command of nyx: a file
/// may be anybody's, and its script is there to be run.
pub fn script(steps: &[Step]) -> Result<String> {
    if steps.is_empty() {
        return Err(Error::data("there is no command in it: it was made with --no-pg, or not by nyx"));
    }
    if let Some(step) = steps.iter().find(|step| step.command.is_empty()) {
        return Err(Error::data(format!("{} was run with --no-pg: its command is not in it", step.tool)));
    }
    if let Some(step) = steps.iter().find(|step| !is_ours(&step.command)) {
        let shown: String = step.command.chars().take(80).collect();
        return Err(Error::data(format!(
            "`{shown}` is no command of nyx that a shell would run as one: look at it"
        )));
    }
    let mut text = comments(steps);
    for (index, step) in steps.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| &steps[index]);
        text += &joint(before, step);
        text += &command(step, before.is_some());
    }
    Ok(text + "\n")
}

/// Returns whether a command is one, and nyx's: its program is called so, and no word is more than a word to a shell.
fn is_ours(command: &str) -> bool {
    let words = words(of_one_shard(command).0).unwrap_or_default();
    words.first().is_some_and(|program| program.starts_with("nyx") && program.chars().all(is_plain))
}

/// Returns what has to be known before the commands are run.
fn comments(steps: &[Step]) -> String {
    let mut versions: Vec<&str> = steps.iter().map(|step| step.version.as_str()).collect();
    versions.dedup();
    let mut text = format!("# nyx {}\n", one_line(&versions.join(", then ")));
    for (index, step) in steps.iter().enumerate() {
        let id = one_line(&step.id);
        for (what, value) in [("model", &step.model), ("tokenizer", &step.tokenizer)] {
            if let Some(value) = value {
                text += &format!("# {id} {what}: {}\n", one_line(value));
            }
        }
        if of_one_shard(&step.command).1 {
            text += &format!("# {id}: the command of one shard; others name other files\n");
        }
        if step.tool == MERGE && index > 0 {
            text += &format!("# shards were joined by: {}\n", one_line(&step.command));
            text += "# one pipeline makes the same rows:\n";
        }
    }
    text
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Returns what stands between a command and the next.
fn joint(before: Option<&Step>, step: &Step) -> String {
    let Some(before) = before else { return String::new() };
    match (&before.output, &step.input) {
        (None, None) => " |\n    ".into(),
        // The shell wrote the file.
        (None, Some(file)) => format!(" > {}\n", quote(file)),
        (Some(written), Some(read)) if written != read => {
            format!("\n# {} is {} here\n", one_line(&quote(written)), one_line(&quote(read)))
        }
        (Some(_), Some(_)) => "\n".into(),
        (Some(file), None) => format!("\n< {} ", quote(file)),
    }
}

/// Returns the command of a stage; one pipeline stands for the shards that were joined.
fn command(step: &Step, piped: bool) -> String {
    if step.tool == MERGE && piped {
        let output = step.output.as_ref().map_or(String::new(), |file| format!(" -o {}", quote(file)));
        return format!("{MERGE} -{output}");
    }
    of_one_shard(&step.command).0.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: &str, input: Option<&str>, output: Option<&str>) -> Step {
        let tool = command.split(' ').next().unwrap_or_default().to_string();
        let text = |word: Option<&str>| word.map(str::to_string);
        Step {
            id: tool.clone(),
            tool,
            version: "1".into(),
            command: command.into(),
            input: text(input),
            output: text(output),
            ..Step::default()
        }
    }

    fn commands(steps: &[Step]) -> String {
        let text = script(steps).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("a.fa"), "a.fa");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_command_is_split_where_a_shell_would_and_nothing_else_is_one() {
        let typed = ["nyx-view", "a b", "it's", "", "$(x)", "a [and b", "-O=tsv", "e\u{301};\n|&"];
        let quoted: Vec<String> = typed.iter().map(|word| quote(word)).collect();
        assert_eq!(words(&quoted.join(" ")).unwrap(), quoted);
        for other in [
            "a; b", "a $x", "a `b`", "a | b", "a > b", "a 'b", r"a \b", "a\nb", "a  b", "", "a ", "~/a",
            "a *",
        ] {
            assert_eq!(words(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_stranger_wrote_into_a_chain_is_no_script() {
        for command in [
            "nyx-view; rm -r x",
            "rm -r x",
            "nyx-view $(x)",
            "'nyx-x' a",
            "nyx-view a [and 1 other shards]; x",
        ] {
            let error = script(&[step(command, None, None)]).unwrap_err().to_string();
            assert!(error.contains("no command of nyx"), "{command}: {error}");
        }
        let named = script(&[step("nyx-view 'a [and 2 other shards]'", None, None)]).unwrap();
        assert!(named.ends_with("\nnyx-view 'a [and 2 other shards]'\n"), "{named}");
        let shards = script(&[step("nyx-view 'a b' [and 2 other shards]", None, None)]).unwrap();
        assert!(shards.ends_with("\nnyx-view 'a b'\n") && shards.contains("one shard"), "{shards}");
    }

    #[test]
    fn pipes_files_and_redirections_are_told_apart() {
        let extract = |output| step("nyx-extract tiles", None, output);
        let score = step("nyx-score -o 's 1'", None, Some("s 1"));
        let view = step("nyx-view 's 1'", Some("s 1"), None);
        assert_eq!(
            commands(&[extract(None), score, view]),
            "nyx-extract tiles |\n    nyx-score -o 's 1'\nnyx-view 's 1'"
        );
        assert_eq!(
            commands(&[extract(None), step("nyx-score 'a b'", Some("a b"), None)]),
            "nyx-extract tiles > 'a b'\nnyx-score 'a b'"
        );
        let from_stdin = [extract(Some("a")), step("nyx-score", None, None)];
        assert_eq!(commands(&from_stdin), "nyx-extract tiles\n< a nyx-score");
    }

    #[test]
    fn shards_are_one_pipeline_again_and_a_comment_says_so() {
        let steps = [step("nyx-extract tiles", None, None), step("nyx-merge -o all 1 2", None, Some("all"))];
        assert_eq!(commands(&steps), "nyx-extract tiles |\n    nyx-merge - -o all");
        assert!(script(&steps).unwrap().contains("# shards were joined by: nyx-merge -o all 1 2\n"));
    }

    #[test]
    fn a_command_that_was_left_out_is_missed() {
        assert!(script(&[]).is_err());
        let left_out = Step { tool: "nyx-score".into(), ..Step::default() };
        let error = script(&[left_out]).unwrap_err().to_string();
        assert!(error.contains("--no-pg"), "{error}");
    }
}
