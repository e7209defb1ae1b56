//! Motifs beside those that they look like: the table and the page of Tomtom.

use std::fmt::Write;

use rayon::prelude::*;

use super::logo::{self, Placed};
use super::{chain_element, escape};
use crate::convert::general::{general, push_general};
use crate::motif::compare::{Match, Profile};
use crate::provenance::{Step, extend};

const STYLE: &str = include_str!("page.css");

/// Pixels of a column in aligned logos, and of a logo's height.
const STEP: f64 = 15.0;
const TALL: f64 = 52.0;

/// A motif with its names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its identifier.
    pub identifier: String,
    /// Its other name.
    pub alternate: Option<String>,
    /// What is compared.
    pub profile: Profile,
}

/// A query and what was found, best first.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The motif that was asked about.
    pub query: Named,
    /// Its matches.
    pub matches: Vec<Match>,
}

/// Names of the columns of [`table`], MEME's.
pub const COLUMNS: [&str; 10] = [
    "Query_ID",
    "Target_ID",
    "Optimal_offset",
    "p-value",
    "E-value",
    "q-value",
    "Overlap",
    "Query_consensus",
    "Target_consensus",
    "Orientation",
];

/// Returns the cells of one line of `tomtom.tsv`.
pub fn cells(query: &Named, target: &Named, found: &Match) -> [String; 10] {
    let strands = [target.profile.consensus(), target.profile.reverse_complement().consensus()];
    let mut line = String::new();
    push_line(
        &mut line,
        (&query.identifier, &query.profile.consensus()),
        (&target.identifier, &strands),
        found,
    );
    let mut cells = line.trim_end_matches('\n').split('\t').map(str::to_string);
    std::array::from_fn(|_| cells.next().expect("a line has ten cells"))
}

/// Adds one line of `tomtom.tsv`, of names with their consensus.
fn push_line(text: &mut String, query: (&str, &str), target: (&str, &[String; 2]), found: &Match) {
    let _ = write!(text, "{}\t{}\t{}\t", query.0, target.0, found.offset);
    for value in [found.p_value, f64::from(found.e_value as f32), f64::from(found.q_value as f32)] {
        push_general(text, value, 6);
        text.push('\t');
    }
    let consensus = &target.1[usize::from(found.reverse)];
    let orientation = if found.reverse { '-' } else { '+' };
    let _ = writeln!(text, "{}\t{}\t{consensus}\t{orientation}", found.overlap, query.1);
}

/// Returns the parts of `tomtom.tsv`, laid out as MEME's: the matches, then comments that say how they were made.
pub fn table(compared: &[Compared], targets: &[Named], step: &Step) -> Vec<String> {
    let consensus =
        |named: &Named| [named.profile.consensus(), named.profile.reverse_complement().consensus()];
    let known: Vec<[String; 2]> = targets.iter().map(consensus).collect();
    let lines = |Compared { query, matches }: &Compared| {
        let (mut text, own) = (String::new(), query.profile.consensus());
        for found in matches {
            let target = (targets[found.target].identifier.as_str(), &known[found.target]);
            push_line(&mut text, (&query.identifier, &own), target, found);
        }
        text
    };
    let mut texts = vec![COLUMNS.join("\t") + "\n"];
    texts.par_extend(compared.par_iter().map(lines));
    texts.push(format!("\n# {} {}\n", step.tool, step.version));
    if !step.command.is_empty() {
        texts.push(format!("# {}\n", step.command));
    }
    texts
}

fn strand(target: &Named, found: &Match) -> Profile {
    if found.reverse { target.profile.reverse_complement() } else { target.profile.clone() }
}

/// Returns the page: each query with its `most` best matches as aligned logos, everything in one file.
pub fn page(compared: &[Compared], targets: &[Named], most: usize, step: &Step) -> String {
    let matched = compared.iter().filter(|compared| !compared.matches.is_empty()).count();
    let tile = |number: usize, text: &str| format!("<div><b>{number}</b><span>{text}</span></div>");
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: motif comparison</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body><main>\n{}\
         <header><h1>Motif comparison</h1></header>\n<section class=\"tiles\">{}{}{}{}</section>\n",
        logo::symbols(),
        tile(compared.len(), "motifs"),
        tile(matched, "with a match"),
        tile(compared.iter().map(|compared| compared.matches.len()).sum(), "matches"),
        tile(targets.len(), "known motifs"),
    );
    html += &overview(compared, targets);
    for (index, compared) in compared.iter().enumerate().filter(|(_, compared)| !compared.matches.is_empty())
    {
        html += &section(index, compared, targets, most);
    }
    let _ = write!(
        html,
        "<section><h2>How this was made</h2>\n<p class=\"note\">{} {}</p><p><code>{}</code></p></section>\n",
        escape(&step.tool),
        escape(&step.version),
        escape(&step.command)
    );
    html += &chain_element(&extend(Vec::new(), step.clone()));
    html + "</main></body></html>\n"
}

fn title(named: &Named) -> String {
    match &named.alternate {
        Some(alternate) if *alternate != named.identifier => {
            format!("{} <span class=\"none\">{}</span>", escape(&named.identifier), escape(alternate))
        }
        _ => escape(&named.identifier),
    }
}

fn overview(compared: &[Compared], targets: &[Named]) -> String {
    let mut html = String::from(
        "<section><h2>Best matches</h2>\n<table><thead><tr><th>motif</th><th class=\"n\">matches</th><th>best match</th>\
         <th class=\"n\">p-value</th><th class=\"n\">E-value</th><th class=\"n\">q-value</th></tr></thead><tbody>\n",
    );
    for (index, Compared { query, matches }) in compared.iter().enumerate() {
        let Some(best) = matches.first() else {
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td class=\"n\">0</td><td class=\"none\">none</td><td></td><td></td><td></td></tr>",
                title(query)
            );
            continue;
        };
        let _ = writeln!(
            html,
            "<tr><td><a href=\"#motif-{index}\">{}</a></td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            title(query),
            matches.len(),
            title(&targets[best.target]),
            general(best.p_value, 3),
            general(best.e_value, 3),
            general(best.q_value, 3)
        );
    }
    html + "</tbody></table></section>\n"
}

fn section(index: usize, compared: &Compared, targets: &[Named], most: usize) -> String {
    let Compared { query, matches } = compared;
    let mut html = format!(
        "<section id=\"motif-{index}\"><h2>{}</h2>\n<p class=\"note\">Above the known motif, on the strand that fits; \
         below the motif that was asked about. Letters are as tall as their information in bits; grey columns do not \
         overlap.{}</p>\n<table><thead><tr><th>known motif</th><th>alignment</th><th class=\"n\">p-value</th>\
         <th class=\"n\">E-value</th><th class=\"n\">q-value</th><th class=\"n\">overlap</th><th class=\"n\">offset</th>\
         <th>strand</th></tr></thead><tbody>\n",
        title(query),
        if matches.len() > most {
            format!(" The best {most} of {} matches; the table beside this page has all.", matches.len())
        } else {
            String::new()
        }
    );
    for found in matches.iter().take(most) {
        let target = &targets[found.target];
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            title(target),
            aligned(&strand(target, found), &query.profile, found.offset),
            general(found.p_value, 3),
            general(found.e_value, 3),
            general(found.q_value, 3),
            found.overlap,
            found.offset,
            if found.reverse { '−' } else { '+' },
        );
    }
    html + "</tbody></table></section>\n"
}

/// Draws two logos one above the other; the lower one begins at position `offset` of the upper one.
pub fn aligned(above: &Profile, below: &Profile, offset: i64) -> String {
    let heights = |profile: &Profile| logo::information(&profile.columns, [0.25; 4]);
    let (first, second) = (offset.min(0).unsigned_abs() as usize, offset.max(0) as usize);
    let ends = [first + above.columns.len(), second + below.columns.len()];
    let (start, end) = (first.max(second), ends[0].min(ends[1]));
    let (width, height) = (ends[0].max(ends[1]) as f64 * STEP, 2.0 * TALL + 8.0);
    let mut svg = format!(
        "<svg class=\"logo\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         style=\"max-width:none\">"
    );
    for (row, shift, bottom) in [(above, first, TALL), (below, second, height - 2.0)] {
        for outside in (shift..shift + row.columns.len()).filter(|position| !(start..end).contains(position))
        {
            let _ = write!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{STEP}\" height=\"{TALL}\" fill=\"#eef0f1\"/>",
                outside as f64 * STEP,
                bottom - TALL
            );
        }
        for Placed { position, base, bottom: low, top } in logo::stack(&heights(row)) {
            let scale = TALL / 2.0;
            let x = (shift + position) as f64 * STEP + 0.03 * STEP;
            if (top - low) * scale > 0.1 {
                svg += &logo::letter(base, x, bottom - top * scale, 0.94 * STEP, (top - low) * scale);
            }
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\"/>",
            shift as f64 * STEP,
            (shift + row.columns.len()) as f64 * STEP
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Profile {
        let column =
            |base: u8| std::array::from_fn(|index| f64::from(u8::from(crate::dna::BASES[index] == base)));
        Profile { columns: text.bytes().map(column).collect(), sites: 20.0 }
    }

    #[test]
    fn letters_of_an_overlap_stand_above_each_other() {
        let x = |svg: &str, letter: char| -> Vec<f64> {
            svg.split(&format!("#base-{letter}\" transform=\"matrix("))
                .skip(1)
                .map(|rest| rest.split(' ').nth(4).unwrap().parse().unwrap())
                .collect()
        };
        // The query begins at position 2 of the target, then the target at position 2 of the query.
        let svg = aligned(&letters("AAG"), &letters("GTT"), 2);
        assert_eq!(x(&svg, 'G')[0], x(&svg, 'G')[1]);
        assert_eq!(svg.matches("<rect").count(), 4);
        let svg = aligned(&letters("GTT"), &letters("AAG"), -2);
        assert_eq!(x(&svg, 'G')[0], x(&svg, 'G')[1]);
        assert_eq!(x(&svg, 'A').len(), 2);
    }
}
