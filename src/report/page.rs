//! The page: what was found, motif by motif and region by region, and how it was made.

use std::fmt::Write;

use super::chart::{self, Point, percent};
use super::folder::{per_region, reversed};
use super::gather::{Gathered, MotifSummary, Shown};
use super::track::{self, Mark};
use super::{chain_element, escape, histogram, logo, recall, short};
use crate::motif::Matrix;
use crate::motif::instance::Instance;
use crate::provenance::{Step, extend};
use crate::region::Strand;

const STYLE: &str = include_str!("page.css");

/// Colours that tell motifs apart in tracks and histograms.
const PALETTE: [&str; 8] =
    ["#2b5f8f", "#b4483b", "#3f7d4f", "#8a5a9e", "#b57f1f", "#2f8487", "#a34573", "#5f6b7a"];

/// Style of pictures that stand alone.
pub(super) const PICTURE_STYLE: &str = ".axis{stroke:#b4bac0}.grid{stroke:#eef0f1;fill:none}.equal{stroke:#b4bac0;\
    stroke-dasharray:4 4}text{font-family:system-ui,sans-serif}.tick{font-size:10px;fill:#7a838c}.cell{font-size:11px}";

/// Bases of a track; what is longer is cut to its busiest stretch.
const TRACK_BASES: usize = 240;

/// Returns the page. `step` is the program that writes it, `parameters` are those of the hit caller where no
/// stream tells them.
///
/// Everything is in the page; it refers to nothing outside itself. All text from the data is escaped.
pub fn page(gathered: &Gathered, step: &Step, parameters: &[(String, String)]) -> String {
    let mut order: Vec<usize> = (0..gathered.motifs.len()).collect();
    order.sort_by_key(|&motif| std::cmp::Reverse(gathered.motifs[motif].hits()));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: motif hits</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body><main>\n"
    );
    html += &logo::symbols();
    html += &heading(gathered);
    // Without motifs there is nothing to say of them: contributions are what was asked for.
    if !gathered.motifs.is_empty() {
        html += &motif_table(gathered, &order);
        html += &seqlet_table(gathered, &order);
        html += &overview(gathered);
        html += &motif_logos(gathered, &order);
    }
    html += &regions(gathered);
    html += &provenance(gathered, step, parameters);
    html += &chain_element(&extend(gathered.chain.clone(), step.clone()));
    html + "</main></body></html>\n"
}

/// Returns the charts of the whole report by Fi-NeMo's names for them.
pub fn charts(gathered: &Gathered) -> Vec<(&'static str, String)> {
    let total = chart::bars(&gathered.hits_per_region(), 540.0, 200.0, PALETTE[0]);
    let mut charts = vec![("total_hit_distribution", total), ("motif_cooccurrence", cooccurrence(gathered))];
    if gathered.seqlets.is_some() {
        charts.push(("hit_vs_seqlet_counts", hits_and_seqlets(gathered)));
        charts.push(("seqlet_confusion", confusion(gathered)));
    }
    charts
}

fn names(gathered: &Gathered) -> Vec<&str> {
    gathered.motifs.iter().map(|motif| motif.name.as_str()).collect()
}

fn cooccurrence(gathered: &Gathered) -> String {
    let counts = recall::cooccurrence(gathered.motifs.len(), &gathered.occurrences);
    let share = |a: usize, b: usize| counts[a][b] as f64 / ((counts[a][a] * counts[b][b]) as f64).sqrt();
    let all = 0..counts.len();
    let values: Vec<Vec<f64>> = all.clone().map(|a| all.clone().map(|b| share(a, b)).collect()).collect();
    let names = names(gathered);
    chart::heat_map(&names, &values, [0x1f, 0x6b, 0x3a], |a, b| {
        format!("{} and {}: {} regions", names[a], names[b], counts[a][b])
    })
}

fn confusion(gathered: &Gathered) -> String {
    let motifs = &gathered.motifs;
    let row = |(motif, counts): (usize, &Vec<u64>)| {
        counts.iter().map(|&count| count as f64 / motifs[motif].counts.seqlets as f64).collect()
    };
    let values: Vec<Vec<f64>> = gathered.confusion.iter().enumerate().map(row).collect();
    let names = names(gathered);
    chart::heat_map(&names, &values, [0x1d, 0x4f, 0x8c], |a, b| {
        let (count, all) = (gathered.confusion[a][b], motifs[a].counts.seqlets);
        format!("{count} of {all} seqlets of {} have hits of {}", names[a], names[b])
    })
}

fn hits_and_seqlets(gathered: &Gathered) -> String {
    let point = |(index, motif): (usize, &'_ MotifSummary)| Point {
        x: motif.counts.hits as f64,
        y: motif.counts.seqlets as f64,
        label: gathered.motifs[index].name.as_str(),
        colour: colour(index),
    };
    let points: Vec<Point> = gathered.motifs.iter().enumerate().map(point).collect();
    chart::scatter(&points, "hits", "seqlets", 380.0)
}

fn overview(gathered: &Gathered) -> String {
    let note = |name: &str| match name {
        "total_hit_distribution" => ("Hits in a region", "Regions by their number of hits; grey: none."),
        "motif_cooccurrence" => (
            "Motifs in the same region",
            "Regions with both, over the geometric mean of the regions with each.",
        ),
        "hit_vs_seqlet_counts" => ("Hits and seqlets", "One point a motif; dashed: as many of both."),
        _ => (
            "Hits on seqlets",
            "Share of the seqlets of a row on which hits of a column lie, on either strand.",
        ),
    };
    let mut html = String::from("<section><h2>All motifs</h2>\n<div class=\"charts\">");
    for (name, svg) in charts(gathered) {
        let (title, note) = note(name);
        let _ = writeln!(html, "<figure><figcaption><b>{title}</b>{note}</figcaption>{svg}</figure>");
    }
    html + "</div></section>\n"
}

fn seqlet_table(gathered: &Gathered, order: &[usize]) -> String {
    if gathered.seqlets.is_none() {
        return String::new();
    }
    let mut html = String::from(
        "<section><h2>Seqlets</h2>\n<p class=\"note\">Seqlets are the instances that TF-MoDISco made the motifs of. \
         One is found when a hit of its motif begins at the same base on the same strand. Distinct hits and \
         seqlets count once where regions overlap; hits to compare with lie in the windows that TF-MoDISco looked \
         at.</p>\n<table><thead><tr><th>motif</th><th class=\"n\">distinct hits</th><th class=\"n\">to compare</th>\
         <th class=\"n\">seqlets</th><th class=\"n\">found</th><th class=\"n\">not found</th><th class=\"n\">hits \
         only</th><th>recall</th></tr></thead><tbody>\n",
    );
    for &index in order {
        let motif = &gathered.motifs[index];
        let counts = &motif.counts;
        let bar = match gathered.recall && counts.seqlets > 0 {
            true => format!(
                "<span class=\"bar\"><span style=\"width:{:.1}%;background:{}\"></span></span> {}",
                100.0 * counts.recall(),
                colour(index),
                percent(counts.overlaps, counts.seqlets)
            ),
            false => "–".into(),
        };
        let shown = |count: u64| if gathered.recall { count.to_string() } else { "–".into() };
        let _ = writeln!(
            html,
            "<tr><td><i style=\"background:{}\"></i>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{bar}</td></tr>",
            colour(index),
            escape(&motif.name),
            counts.hits,
            counts.restricted,
            counts.seqlets,
            shown(counts.overlaps),
            shown(counts.seqlets_only),
            shown(counts.restricted_only),
        );
    }
    html + "</tbody></table></section>\n"
}

fn heading(gathered: &Gathered) -> String {
    let placed = gathered.shown.iter().any(|region| region.chrom.is_some());
    let unnamed = if placed { "" } else { "no coordinates" };
    let genome = gathered.genome.as_ref().map_or(unnamed.into(), |genome| escape(&genome.name));
    let title = if gathered.motifs.is_empty() { "Contributions" } else { "Motif hits" };
    let tile = |number: String, text: &str| format!("<div><b>{number}</b><span>{text}</span></div>");
    format!(
        "<header><h1>{title}</h1><p>{genome}</p></header>\n<section class=\"tiles\">{}{}{}{}</section>\n",
        tile(gathered.regions.to_string(), "regions"),
        tile(gathered.hits.to_string(), "hits"),
        tile(gathered.regions_with_hits.to_string(), "regions with a hit"),
        tile(
            gathered.motifs.iter().filter(|motif| motif.hits() > 0).count().to_string(),
            "motifs with a hit"
        ),
    )
}

fn motif_table(gathered: &Gathered, order: &[usize]) -> String {
    let mut html = String::from(
        "<section><h2>Motifs</h2>\n<table><thead><tr><th>motif</th><th class=\"n\">hits</th><th class=\"n\">regions</th>\
         <th class=\"n\">forward strand</th><th class=\"n\">CWM similarity</th><th>coefficient</th><th>similarity</th>\
         <th>importance</th><th>hits in a region</th></tr></thead><tbody>\n",
    );
    for &index in order {
        let (motif, colour) = (&gathered.motifs[index], colour(index));
        let values = |values: &histogram::Histogram| match values.total() {
            0 => String::new(),
            _ => format!(
                "{}<small class=\"mean\">mean {}</small>",
                histogram::draw(values, 140.0, 56.0, colour),
                short(values.mean())
            ),
        };
        let similarity = motif.cwm_similarity();
        let similarity = if similarity.is_nan() { "–".into() } else { format!("{similarity:.3}") };
        let _ = writeln!(
            html,
            "<tr><td><i style=\"background:{colour}\"></i>{}</td><td class=\"n\">{}</td><td class=\"n\">{}<small>{}</small></td>\
             <td class=\"n\">{}</td><td class=\"n\">{similarity}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&motif.name),
            motif.hits(),
            motif.regions,
            percent(motif.regions, gathered.regions),
            percent(motif.forward, motif.hits()),
            values(&motif.global_coefficients),
            values(&motif.similarities),
            values(&motif.importances),
            chart::bars(&per_region(motif, gathered.regions), 180.0, 72.0, colour),
        );
    }
    html + "</tbody></table>\n<p class=\"note\">CWM similarity: cosine of the motif and the mean contributions of its \
            distinct hits. Coefficients and importances are those that can be compared between regions. Hits in a \
            region: regions by their number of hits of the motif; grey: none.</p></section>\n"
}

fn motif_logos(gathered: &Gathered, order: &[usize]) -> String {
    let mut html = String::from(
        "<section><h2>Logos</h2>\n<p class=\"note\">Given: the motif that hits were called with. Contributions: their \
         mean over all its hits, each read on the strand of its hit; negative ones below the line. Sequences: \
         information content of the bases under the hits. Grey: outside of the trim.</p>\n<table class=\"logos\"><thead>\
         <tr><th>motif</th><th>given</th><th>contributions of its hits</th><th>sequences of its hits</th></tr></thead>\
         <tbody>\n",
    );
    for &index in order {
        let motif = &gathered.motifs[index];
        let found = motif.aligned.mean_contributions();
        let bits = logo::information(&motif.aligned.frequencies(), [0.25; 4]);
        let _ = writeln!(
            html,
            "<tr><td><i style=\"background:{}\"></i>{}<small>{} distinct hits</small></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            colour(index),
            escape(&motif.name),
            motif.aligned.windows(),
            given(motif, false),
            picture(motif, &found, false, ""),
            picture(motif, &bits, false, "bits"),
        );
        let _ = writeln!(
            html,
            "<tr class=\"more\"><td colspan=\"4\"><details><summary>reverse complement{}</summary><table class=\"logos\">\
             <tr><td>reverse complement</td><td>{}</td><td>{}</td><td>{}</td></tr>{}</table></details></td></tr>",
            if gathered.recall { ", hits without seqlets, seqlets without hits" } else { "" },
            given(motif, true),
            picture(motif, &reversed(&found), true, ""),
            picture(motif, &reversed(&bits), true, "bits"),
            if gathered.recall { apart(motif) } else { String::new() },
        );
    }
    html + "</tbody></table></section>\n"
}

/// Returns rows with what hits and seqlets do not share.
fn apart(motif: &MotifSummary) -> String {
    let row = |title: &str, aligned: &super::gather::Aligned| {
        format!(
            "<tr><td>{title}<small>{}</small></td><td></td><td>{}</td><td>{}</td></tr>",
            aligned.windows(),
            picture(motif, &aligned.mean_contributions(), false, ""),
            picture(motif, &logo::information(&aligned.frequencies(), [0.25; 4]), false, "bits"),
        )
    };
    row("hits only", &motif.hits_only) + &row("seqlets only", &motif.seqlets_only)
}

fn given(motif: &MotifSummary, reverse: bool) -> String {
    let Some(known) = &motif.known else { return "<span class=\"none\">not given</span>".into() };
    let columns = columns(&known.cwm);
    picture(motif, &if reverse { reversed(&columns) } else { columns }, reverse, "")
}

/// Returns the columns of a matrix.
pub(super) fn columns(matrix: &Matrix) -> Vec<[f64; 4]> {
    (0..matrix.width()).map(|position| std::array::from_fn(|base| matrix.at(base, position))).collect()
}

fn picture(motif: &MotifSummary, columns: &[[f64; 4]], reverse: bool, unit: &str) -> String {
    if columns.is_empty() {
        return "<span class=\"none\">none</span>".into();
    }
    let trim = motif.known.as_ref().map(|known| if reverse { known.reverse } else { known.forward });
    logo::draw_trimmed(columns, trim, 300.0, 92.0, unit)
}

fn regions(gathered: &Gathered) -> String {
    let ranked = if gathered.by_contributions { "absolute contributions" } else { "global coefficients" };
    let mut html = format!(
        "<section><h2>Regions</h2>\n<p class=\"note\">The {} regions with the largest sums of {ranked}. A letter is as \
         tall as the contribution of its base; bars mark hits, with the strand on which the motif reads. Of long \
         regions the whole track stands above, with the stretch below it shaded.</p>\n",
        gathered.shown.len()
    );
    for region in &gathered.shown {
        html += &one_region(region, &gathered.motifs);
    }
    html + "</section>\n"
}

fn one_region(region: &Shown, motifs: &[MotifSummary]) -> String {
    let (from, to) = track::busiest(&region.contributions, TRACK_BASES);
    let mark = |hit: &Instance| {
        let (start, end) = region.local(hit.start, hit.end)?;
        let strand = if hit.strand == Strand::Reverse { '−' } else { '+' };
        let label = format!("{} {strand}", motifs[hit.motif as usize].name);
        Some(Mark { start, end, label, colour: colour(hit.motif as usize).into() })
    };
    let all: Vec<Mark> = region.hits.iter().filter_map(mark).collect();
    let inside = |mark: &Mark| {
        let (start, end) = (mark.start.max(from), mark.end.min(to));
        (start < end).then(|| Mark { start: start - from, end: end - from, ..mark.clone() })
    };
    let marks: Vec<Mark> = all.iter().filter_map(inside).collect();
    let mut caption = track::caption(region.chrom.as_deref(), region.start, region.end);
    if region.chrom.is_none() {
        caption = format!("region {}, {caption}", region.region);
    }
    if let Some(name) = &region.name {
        caption = format!("<b>{}</b> {caption}", escape(name));
    }
    if region.reversed {
        caption += ", reverse strand";
    }
    let mut pictures = String::new();
    if to - from < region.sequence.len() {
        let _ = write!(caption, ", bases {} to {to} of {}", from + 1, region.sequence.len());
        pictures += &track::overview(&region.contributions, &all, (from, to), 1120.0, 64.0);
    }
    pictures +=
        &track::draw(&region.sequence[from..to], &region.contributions[from..to], &marks, 1120.0, 120.0);
    if let Some(values) = &region.hypothetical {
        pictures += &all_bases(values, region.sequence.len(), from, to);
    }
    format!("<figure><figcaption>{caption}</figcaption>{pictures}</figure>\n")
}

/// Draws the contributions of all four bases, which a click unfolds.
fn all_bases(values: &[f32], length: usize, from: usize, to: usize) -> String {
    let column = |position: usize| std::array::from_fn(|base| f64::from(values[base * length + position]));
    let columns: Vec<[f64; 4]> = (from..to).map(column).collect();
    let picture = logo::draw(&columns, 1120.0, 120.0, "");
    format!("<details><summary>all four bases (hypothetical contributions)</summary>{picture}</details>")
}

fn provenance(gathered: &Gathered, step: &Step, parameters: &[(String, String)]) -> String {
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
    if !parameters.is_empty() {
        html += "<details><summary>parameters of the hit caller</summary><table>";
        for (name, value) in parameters {
            let _ = writeln!(
                html,
                "<tr><td><code>{}</code></td><td><code>{}</code></td></tr>",
                escape(name),
                escape(value)
            );
        }
        html += "</table></details>\n";
    }
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
