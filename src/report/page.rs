//! The page: what was found, motif by motif and region by region, and how it was made.

use std::fmt::Write;

use super::gather::{Gathered, MotifSummary, Shown};
use super::track::{self, Mark};
use super::{escape, histogram, logo, short};
use crate::motif::Pattern;
use crate::provenance::Step;

const STYLE: &str = include_str!("page.css");

/// Colours that tell motifs apart in tracks and histograms.
const PALETTE: [&str; 8] =
    ["#2b5f8f", "#b4483b", "#3f7d4f", "#8a5a9e", "#b57f1f", "#2f8487", "#a34573", "#5f6b7a"];

/// Bases of a track; what is longer is cut to its busiest stretch.
const TRACK_BASES: usize = 240;

/// Returns the page. `patterns` are the motifs that hits were called with, `step` is the program that writes it.
///
/// Everything is in the page; it refers to nothing outside itself. All text from the data is escaped.
pub fn page(gathered: &Gathered, patterns: &[Pattern], step: &Step) -> String {
    let mut order: Vec<usize> = (0..gathered.motifs.len()).collect();
    order.sort_by_key(|&motif| std::cmp::Reverse(gathered.motifs[motif].hits()));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: motif hits</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body><main>\n"
    );
    html += &logo::symbols();
    html += &heading(gathered);
    html += &motif_table(gathered, &order);
    html += &motif_logos(gathered, &order, patterns);
    html += &regions(gathered);
    html += &provenance(gathered, step);
    html + "</main></body></html>\n"
}

fn heading(gathered: &Gathered) -> String {
    let genome = gathered.genome.as_ref().map_or("no coordinates".into(), |genome| escape(&genome.name));
    let tile = |number: String, text: &str| format!("<div><b>{number}</b><span>{text}</span></div>");
    format!(
        "<header><h1>Motif hits</h1><p>{genome}</p></header>\n<section class=\"tiles\">{}{}{}{}</section>\n",
        tile(gathered.regions.to_string(), "regions"),
        tile(gathered.hits.to_string(), "hits"),
        tile(gathered.regions_with_hits.to_string(), "regions with a hit"),
        tile(gathered.motifs.len().to_string(), "motifs with a hit"),
    )
}

fn motif_table(gathered: &Gathered, order: &[usize]) -> String {
    let mut html = String::from(
        "<section><h2>Motifs</h2>\n<table><thead><tr><th>motif</th><th class=\"n\">hits</th><th class=\"n\">regions</th>\
         <th class=\"n\">share of regions</th><th class=\"n\">forward strand</th><th class=\"n\">mean coefficient</th>\
         <th>coefficients</th><th class=\"n\">mean similarity</th><th>similarities</th></tr></thead><tbody>\n",
    );
    for &index in order {
        let motif = &gathered.motifs[index];
        let percent = |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64);
        let _ = writeln!(
            html,
            "<tr><td><i style=\"background:{}\"></i>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td>{}</td></tr>",
            colour(index),
            escape(&motif.name),
            motif.hits(),
            motif.regions,
            percent(motif.regions, gathered.regions),
            percent(motif.forward, motif.hits()),
            short(motif.coefficients.mean()),
            histogram::draw(&motif.coefficients, 170.0, 56.0, colour(index)),
            short(motif.similarities.mean()),
            histogram::draw(&motif.similarities, 170.0, 56.0, colour(index)),
        );
    }
    html + "</tbody></table></section>\n"
}

fn motif_logos(gathered: &Gathered, order: &[usize], patterns: &[Pattern]) -> String {
    let mut html = String::from(
        "<section><h2>Logos</h2>\n<p class=\"note\">Given: the motif that hits were called with. Contributions: their \
         mean over all its hits, each read on the strand of its hit; negative ones below the line. Sequences: \
         information content of the bases under the hits.</p>\n<table class=\"logos\"><thead><tr><th>motif</th>\
         <th>given</th><th>contributions of its hits</th><th>sequences of its hits</th></tr></thead><tbody>\n",
    );
    for &index in order {
        let motif = &gathered.motifs[index];
        let _ = writeln!(
            html,
            "<tr><td><i style=\"background:{}\"></i>{}<small>{} hits</small></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            colour(index),
            escape(&motif.name),
            motif.hits(),
            given(motif, patterns),
            logo::draw(&motif.mean_contributions(), 320.0, 96.0, ""),
            logo::draw(&logo::information(&motif.frequencies(), [0.25; 4]), 320.0, 96.0, "bits"),
        );
    }
    html + "</tbody></table></section>\n"
}

fn given(motif: &MotifSummary, patterns: &[Pattern]) -> String {
    match patterns.iter().find(|pattern| pattern.tag == motif.name) {
        Some(Pattern { cwm, .. }) => {
            let column = |position| std::array::from_fn(|base| cwm.at(base, position));
            logo::draw(&(0..cwm.width()).map(column).collect::<Vec<_>>(), 320.0, 96.0, "")
        }
        None => "<span class=\"none\">not given</span>".into(),
    }
}

fn regions(gathered: &Gathered) -> String {
    let mut html = format!(
        "<section><h2>Regions</h2>\n<p class=\"note\">The {} regions with the largest sums of global coefficients. A \
         letter is as tall as the contribution of its base; bars mark hits, with the strand on which the motif \
         reads.</p>\n",
        gathered.shown.len()
    );
    for region in &gathered.shown {
        html += &one_region(region, &gathered.motifs);
    }
    html + "</section>\n"
}

fn one_region(region: &Shown, motifs: &[MotifSummary]) -> String {
    let (from, to) = track::busiest(&region.contributions, TRACK_BASES);
    let mark = |hit: &super::gather::Hit| {
        let (start, end) = region.local(hit.start, hit.end)?;
        let (start, end) = (start.max(from), end.min(to));
        let strand = if hit.forward { '+' } else { '−' };
        let label = format!("{} {strand}", motifs[hit.motif].name);
        (start < end).then(|| Mark {
            start: start - from,
            end: end - from,
            label,
            colour: colour(hit.motif).into(),
        })
    };
    let marks: Vec<Mark> = region.hits.iter().filter_map(mark).collect();
    let mut caption = track::caption(region.chrom.as_deref(), region.start, region.end);
    if let Some(name) = &region.name {
        caption = format!("<b>{}</b> {caption}", escape(name));
    }
    if region.reversed {
        caption += ", reverse strand";
    }
    if to - from < region.sequence.len() {
        let _ = write!(caption, ", bases {} to {to} of {}", from + 1, region.sequence.len());
    }
    let picture =
        track::draw(&region.sequence[from..to], &region.contributions[from..to], &marks, 1120.0, 120.0);
    format!("<figure><figcaption>{caption}</figcaption>{picture}</figure>\n")
}

fn provenance(gathered: &Gathered, step: &Step) -> String {
    let mut html = String::from(
        "<section><h2>How this was made</h2>\n<table><thead><tr><th>stage</th><th>version</th><th>command</th>\
         <th>model</th></tr></thead><tbody>\n",
    );
    for stage in gathered.chain.iter().chain([step]) {
        let model =
            stage.model.as_deref().map_or(String::new(), |model| format!("<code>{}</code>", escape(model)));
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td>{model}</td></tr>",
            escape(&stage.tool),
            escape(&stage.version),
            escape(&stage.command)
        );
    }
    html += "</tbody></table>\n";
    if let Some(genome) = &gathered.genome {
        let bases: u64 = genome.contigs.iter().map(|(_, length)| length).sum();
        let _ = writeln!(
            html,
            "<p class=\"note\">Reference: {}, {} contigs, {bases} bases, digest <code>{}</code></p>",
            escape(&genome.name),
            genome.contigs.len(),
            escape(&genome.digest)
        );
    }
    html + "</section>\n"
}

fn colour(motif: usize) -> &'static str {
    PALETTE[motif % PALETTE.len()]
}
