//! Pages of HTML.

use std::path::Path;

use super::{Checked, broken, history};
use crate::error::Result;
use crate::input;
use crate::provenance::Step;
use crate::report::chain_of;

/// Checks a page: that it ends, and that what it opens it closes.
pub fn page(path: &Path) -> Result<Checked> {
    let text = input::read_text(path)?;
    if !text.ends_with("</body></html>\n") {
        return Err(broken("cut: the page does not end with </html>"));
    }
    for element in ["section", "svg", "table", "template", "style"] {
        let count = |mark: &str| text.matches(mark).count();
        let (begins, ends) = (count(&format!("<{element}")), count(&format!("</{element}>")));
        if begins != ends {
            return Err(broken(format!("damaged: {begins} <{element}> and {ends} </{element}>")));
        }
    }
    let steps = steps_in(&text)?;
    let checked = Checked::of("HTML page").holds("end of the page, and its elements are closed");
    let checked = checked.made_by(&steps)?;
    Ok(checked.cannot_tell("numbers in a page have no second place to be compared with"))
}

/// Reads the stages of a page.
pub fn chain(path: &Path) -> Result<Vec<Step>> {
    steps_in(&input::read_text(path)?)
}

fn steps_in(text: &str) -> Result<Vec<Step>> {
    match chain_of(text) {
        Some(chain) => history::steps_of(&serde_json::from_str(&chain)?),
        None => Ok(Vec::new()),
    }
}
