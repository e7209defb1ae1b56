//! Self-contained HTML pages and SVG pictures.
//!
//! [`hit_table`] reads hits and [`known`] the motifs they were called with; [`gather`] goes through
//! contributions once and keeps what a report shows; [`recall`] compares hits with seqlets; [`page`] writes
//! the page, [`tables`] and [`folder`] the files beside it. The pictures are pure functions from numbers to
//! SVG: [`logo`], [`track`], [`histogram`], [`chart`]. [`saturation`] draws heat maps of scored mutants, [`rows`] the first rows of a stream. Pages hold everything they need and open without a
//! network. [`hit_rows`] writes rows of hits as they came, with columns added. Base order is A C G T.

use crate::provenance::Step;

pub mod chart;
pub mod evaluation;
pub mod folder;
pub mod gather;
pub mod histogram;
pub mod hit_rows;
pub mod hit_table;
pub mod known;
pub mod logo;
pub mod page;
pub mod recall;
pub mod rows;
pub mod saturation;
pub mod tables;
pub mod tomtom;
pub mod track;

/// Fill colours of A, C, G and T.
pub const COLOURS: [&str; 4] = ["#109648", "#255C99", "#F7B32B", "#D62839"];

/// Returns `text` with the characters that mean something in HTML written as entities.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// How the element begins that tells a page's history to programs.
const CHAIN_BEGINS: &str = "<template id=\"nyx.pg\">";
/// How it ends.
const CHAIN_ENDS: &str = "</template>";

/// Returns the stages that made a page for `nyx replay`, in an element that no browser shows.
pub fn chain_element(chain: &[Step]) -> String {
    let text = serde_json::to_string(chain).expect("stages are texts and numbers");
    format!("{CHAIN_BEGINS}{}{CHAIN_ENDS}\n", escape(&text))
}

/// Returns the JSON of the stages that made a page, if it has them.
pub fn chain_of(page: &str) -> Option<String> {
    let (_, after) = page.split_once(CHAIN_BEGINS)?;
    let (mut text, _) = after.split_once(CHAIN_ENDS).map(|(text, rest)| (text.to_string(), rest))?;
    for (entity, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, character);
    }
    Some(text)
}

/// Returns a number with three significant digits, short and never in the way.
pub fn short(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || !number.is_finite() {
        return if number == 0.0 { "0".into() } else { number.to_string() };
    }
    match size {
        ..0.001 => format!("{number:.1e}"),
        ..0.1 => format!("{number:.4}"),
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn a_command_cannot_end_the_element_that_tells_it() {
        let step = Step { command: "nyx-view '</template><b>&lt;'".into(), ..Step::default() };
        let element = chain_element(std::slice::from_ref(&step));
        assert_eq!(element.matches('<').count(), 2, "{element}");
        let chain = chain_of(&format!("<p>&lt;</p>{element}</body>")).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&chain).unwrap(), [step]);
        assert_eq!(chain_of("<p></p>"), None);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.00012, 0.0421, 1.234, 56.78, 1234.5].map(short),
            ["0", "1.2e-4", "0.0421", "1.23", "56.8", "1234"]
        );
    }
}
