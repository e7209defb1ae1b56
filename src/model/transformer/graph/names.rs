//! What the families call the tensors of an encoder.

/// The families of encoders that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DNABERT.
    Bert,
    /// DNABERT-2, NyxBind.
    MosaicBert,
    /// The Nucleotide Transformer.
    Esm,
}

/// The names of an encoder's tensors.
#[derive(Clone, Debug)]
pub struct Names {
    family: Family,
    prefix: String,
    /// Whether a norm follows the embeddings of an ESM.
    normed: bool,
}

/// Where queries, keys and values come from.
pub enum Projection {
    /// One matrix.
    Joined(String),
    /// A matrix each.
    Apart([String; 3]),
}

/// The modules of a layer.
pub struct LayerNames {
    pub projection: Projection,
    pub output: String,
    pub attention_norm: String,
    pub up: String,
    pub down: String,
    pub feed_forward_norm: String,
}

impl Names {
    pub fn new(family: Family, prefix: &str, normed: bool) -> Self {
        Self { family, prefix: prefix.into(), normed }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    pub fn words(&self) -> String {
        self.name("embeddings.word_embeddings.weight")
    }

    /// Returns the table whose first row is added to every token.
    pub fn types(&self) -> Option<String> {
        (self.family != Family::Esm).then(|| self.name("embeddings.token_type_embeddings.weight"))
    }

    /// Returns the table of positions and the row of the first, where there is such a table.
    pub fn positions(&self) -> Option<(String, u32)> {
        let name = self.name("embeddings.position_embeddings.weight");
        match self.family {
            Family::Bert => Some((name, 0)),
            Family::MosaicBert => None,
            Family::Esm => Some((name, 2)),
        }
    }

    pub fn first_norm(&self) -> Option<String> {
        match self.family {
            Family::Bert | Family::MosaicBert => Some(self.name("embeddings.LayerNorm")),
            Family::Esm => self.normed.then(|| self.name("embeddings.layer_norm")),
        }
    }

    pub fn last_norm(&self) -> Option<String> {
        (self.family == Family::Esm).then(|| self.name("encoder.emb_layer_norm_after"))
    }

    pub fn layer(&self, index: usize) -> LayerNames {
        let name = |part: &str| self.name(&format!("encoder.layer.{index}.{part}"));
        let apart = || {
            Projection::Apart(["query", "key", "value"].map(|part| name(&format!("attention.self.{part}"))))
        };
        let output = name("attention.output.dense");
        match self.family {
            Family::Bert => LayerNames {
                projection: apart(),
                output,
                attention_norm: name("attention.output.LayerNorm"),
                up: name("intermediate.dense"),
                down: name("output.dense"),
                feed_forward_norm: name("output.LayerNorm"),
            },
            Family::MosaicBert => LayerNames {
                projection: Projection::Joined(name("attention.self.Wqkv")),
                output,
                attention_norm: name("attention.output.LayerNorm"),
                up: name("mlp.gated_layers"),
                down: name("mlp.wo"),
                feed_forward_norm: name("mlp.layernorm"),
            },
            Family::Esm => LayerNames {
                projection: apart(),
                output,
                attention_norm: name("attention.LayerNorm"),
                up: name("intermediate.dense"),
                down: name("output.dense"),
                feed_forward_norm: name("LayerNorm"),
            },
        }
    }

    /// Returns the modules of a classifier: those before the last, with tanh behind the last of these, and the last.
    pub fn classifier(&self) -> [String; 2] {
        match self.family {
            Family::Bert | Family::MosaicBert => [self.name("pooler.dense"), "classifier".into()],
            Family::Esm => ["classifier.dense".into(), "classifier.out_proj".into()],
        }
    }

    /// Returns the modules of the head that guesses tokens: a layer, its norm, and the name of the logits' bias.
    pub fn token_head(&self) -> [String; 3] {
        match self.family {
            Family::Bert | Family::MosaicBert => [
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.bias",
            ],
            Family::Esm => ["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"],
        }
        .map(String::from)
    }

    /// Returns the names that the matrix of the logits may have, where it is not the word vectors.
    pub fn decoder(&self) -> &'static str {
        if self.family == Family::Esm { "lm_head.decoder.weight" } else { "cls.predictions.decoder.weight" }
    }
}
