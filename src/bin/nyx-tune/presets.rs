//! Published searches. `models.md` C.5 to C.7.

use clap::ValueEnum;

use super::SearchArg;

/// A published search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// DNABERT-Enhancer: a grid of 80, for `full`
    DnabertEnhancer,
    /// SigTFB's first stage: 15 trials of Ax, for `sigtfb`
    SigtfbStage1,
    /// SigTFB's second stage: 15 trials of Ax, for `sigtfb`
    SigtfbStage2,
    /// The residual network on pairs of embeddings: Keras Tuner's Hyperband, for `fcnn`
    KerasTuner,
}

impl Preset {
    /// Returns the ranges, by flags of nyx-train.
    pub fn space(self) -> &'static [&'static str] {
        match self {
            Self::DnabertEnhancer => &[
                "learning-rate=1e-3,1e-4,1e-5,1e-6,3e-3,3e-4,3e-5,3e-6",
                "warmup=10%,20%",
                "weight-decay=1e-4,1e-3,5e-3,1e-2,2e-2",
                "train-batch=230",
                "epochs=15",
            ],
            // Ax also draws `motif_std`, which SigTFB never reads.
            Self::SigtfbStage1 => &[
                "learning-rate=log:1e-6..1e-3",
                "weight-decay=log:1e-10..1e-3",
                "linear-std=log:1e-5..1e-2",
                "filters=int:16..100",
                "train-batch=64,128,256",
                "epochs=int:50..200",
            ],
            // Ax also draws `conv_std`; the filters of stage 2 are those of stage 1.
            Self::SigtfbStage2 => &[
                "learning-rate=log:1e-6..1e-1",
                "momentum=log:1e-6..1e-1",
                "weight-decay=log:1e-10..1e-1",
                "linear-std=log:1e-5..1e-1",
                "neurons=int:1..100",
                "pre-concat=int:1..100",
                "freeze=on,off",
                "dropout=log:1e-6..1e-3",
                "train-batch=64,128,256",
                "epochs=int:50..200",
            ],
            // The network has one dropout and one decay where Keras' had one for each layer.
            Self::KerasTuner => &[
                "widths.1=512..2048/256",
                "widths.2=256..1024/128",
                "widths.3=256..1024/128",
                "weight-decay=1e-4,1e-5,1e-6",
                "dropout=0.2..0.5/0.1",
                "learning-rate=1e-3,1e-4,5e-5",
            ],
        }
    }

    /// Returns how trials were chosen.
    pub fn search(self) -> SearchArg {
        match self {
            Self::DnabertEnhancer => SearchArg::Grid,
            Self::SigtfbStage1 | Self::SigtfbStage2 => SearchArg::Bayes,
            Self::KerasTuner => SearchArg::Hyperband,
        }
    }

    /// Returns what was searched by.
    pub fn objective(self) -> &'static str {
        match self {
            Self::DnabertEnhancer => "loss",
            Self::SigtfbStage1 | Self::KerasTuner => "accuracy",
            Self::SigtfbStage2 => "pr_auc",
        }
    }
}
