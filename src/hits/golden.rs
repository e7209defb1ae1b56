//! Fi-NeMo's own output as the oracle of `--compat`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Mode;
use super::call::{Calling, hits};
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::fit::{Settings, fit};
use super::signal::{Preparation, Signal};
use crate::motif::{self, filters};
use crate::npy::Npz;

#[test]
fn first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/finemo/real_CTCFL");
    let patterns = motif::read(&root.join("modisco.h5")).unwrap();
    let set = filters::build(&patterns, &filters::Choice { compat: true, ..Default::default() }).unwrap();
    let dictionary = Dictionary::new(&set.filters, false);
    let mut npz = Npz::open(&root.join("regions.npz")).unwrap();
    let seq = npz.numbers::<f32>("sequences").unwrap();
    let con = npz.numbers::<f32>("contributions").unwrap();
    let l = seq.shape[2];
    let mut engine = Engine::new(&dictionary);
    let mut found: HashMap<(usize, i64, String, String), (f32, f32, f32)> = HashMap::new();
    let settings = Settings { compat: true, ..Settings::default() };
    let mut steps = Vec::new();
    for r in 0..seq.shape[0] {
        let s = &seq.values[r * 4 * l..][..4 * l];
        let c = &con.values[r * 4 * l..][..4 * l];
        let bases: Vec<u8> =
            (0..l).map(|i| (0..4).find(|b| s[b * l + i] > 0.0).map_or(b'N', |b| b"ACGT"[b])).collect();
        let proj: Vec<f32> = (0..l).map(|i| (0..4).map(|b| s[b * l + i] * c[b * l + i]).sum()).collect();
        let signal =
            Signal::projected(&proj, &bases, Preparation { square_root: false, half_precision: true });
        engine.load(&signal);
        let f = fit(&mut engine, &settings);
        steps.push(f.num_steps);
        for h in hits(&engine, &dictionary, &signal, &f, Calling { compat: true, keep_dissimilar: false }) {
            let filter = &set.filters[h.filter];
            found.insert(
                (r, h.position as i64, set.motifs[filter.motif].name.clone(), filter.strand.as_str().into()),
                (h.coefficient, h.similarity, h.importance),
            );
        }
    }
    let text = std::fs::read_to_string(root.join("hits_pp/hits.tsv")).unwrap();
    let (mut shared, mut total, mut worst) = (0, 0, 0.0f32);
    for line in text.lines().skip(1) {
        let c: Vec<&str> = line.split('\t').collect();
        total += 1;
        if let Some(h) =
            found.get(&(c[14].parse().unwrap(), c[1].parse().unwrap(), c[5].into(), c[12].into()))
        {
            shared += 1;
            let x: f32 = c[6].parse().unwrap();
            worst = worst.max((h.0 - x).abs() / x);
        }
    }
    println!("{total} {shared} {} worst {worst}", found.len());
    let _ = PathBuf::new();
    let _ = Mode::Pp;
}
