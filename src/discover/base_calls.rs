//! Motif windows of models that predict every base (BertSNR, DeepSNR, D-AEDNet).

/// How base-level predictions become a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaseCalls {
    /// A base is positive when its score is above this.
    pub threshold: f32,
    /// Bases of a window, W.
    pub width: usize,
    /// Share of a window that must be positive.
    pub share: f64,
}

impl Default for BaseCalls {
    fn default() -> Self {
        Self { threshold: 0.5, width: 11, share: 0.8 }
    }
}

impl BaseCalls {
    /// Returns the first base of the window of a sequence with these scores: the windows that are positive enough
    /// are found from the left, and the middle of the first unbroken run of them is where the motif lies. `None`
    /// where no window is positive or the one in the middle does not fit.
    pub fn window(&self, scores: &[f32]) -> Option<usize> {
        let needed = self.share * self.width as f64;
        let enough = |window: &[f32]| {
            let positive = window.iter().filter(|&&score| score > self.threshold).count();
            positive as f64 >= needed
        };
        let mut windows = scores.windows(self.width.max(1)).map(enough);
        let left = windows.position(|enough| enough)?;
        let further = windows.take_while(|&enough| enough).count();
        let right = left + further + self.width;
        let start = ((left + right) / 2).checked_sub(self.width / 2)?;
        (start + self.width <= scores.len()).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(from: usize, to: usize) -> Vec<f32> {
        (0..30).map(|i| if (from..to).contains(&i) { 0.9 } else { 0.1 }).collect()
    }

    #[test]
    fn the_window_lies_in_the_middle_of_the_first_run() {
        let calls = BaseCalls::default();
        assert_eq!(calls.window(&scores(10, 21)), Some(10));
        assert_eq!(calls.window(&scores(10, 19)), Some(9), "nine of eleven are enough");
        assert_eq!(calls.window(&scores(10, 18)), None, "eight are not");
        assert_eq!(calls.window(&scores(0, 0)), None);
        assert_eq!(calls.window(&[1.0; 5]), None, "shorter than a window");
        assert_eq!(calls.window(&[0.5; 30]), None, "the threshold itself is not above it");
    }

    /// What the published script wrote for published weights is the oracle.
    #[test]
    fn real_models_give_the_published_windows() {
        let Some(folder) = crate::testing::shared("golden/models/deepsnr_daednet") else { return };
        for factor in ["CDX2", "CTCFL", "E2F6", "GATA2", "KLF4", "MEF2A", "TFAP2A"] {
            let mut file = crate::npy::Npz::open(&folder.join(format!("{factor}.npz"))).unwrap();
            let sequences = file.texts("seqs_first200").unwrap();
            for model in ["DeepSNR", "D_AEDNet"] {
                let scores = file.numbers::<f32>(&format!("{model}_prob_first200")).unwrap();
                let expected = file.texts(&format!("{model}_motifs_first200")).unwrap();
                for ((scores, sequence), expected) in scores.values.chunks(100).zip(&sequences).zip(&expected)
                {
                    let found = match BaseCalls::default().window(scores) {
                        Some(start) => &sequence[start..start + 11],
                        None => &"N".repeat(11),
                    };
                    assert_eq!(found, expected, "{factor} {model} {sequence}");
                }
            }
        }
    }
}
