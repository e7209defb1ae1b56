use arrow_array::cast::AsArray;
use candle_core::{Device, Tensor};

use super::*;
use crate::dna;
use crate::kernel::pointwise::relu;
use crate::model::{
    Input, Likelihood, Loaded, Member, Model, Network, NetworkModel, Outputs, Pooling, Prediction, Wanted,
};
use crate::region::Strand;
use crate::schema::{Row, RowBuilder, RowKind, Status};
use crate::tokenizer::Tokenizer;

/// A convolution with ReLU, summed over positions into two logits; small enough to compute by hand.
pub(crate) struct Tiny {
    window: Option<usize>,
    labels: Vec<String>,
    filters: Tensor,
    weights: Tensor,
}

const FILTERS: usize = 3;
const WIDTH: usize = 5;

/// Returns numbers in [-1, 1) that differ from seed to seed.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

impl Network for Tiny {
    fn window(&self) -> Option<usize> {
        self.window
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        let one_hot = |&base: &u8| dna::BASES.map(|other| if other == base { 1.0f32 } else { 0.0 });
        let values: Vec<f32> = sequences.iter().flat_map(|s| s.iter().flat_map(one_hot)).collect();
        Ok(Tensor::from_vec(values, (sequences.len(), sequences[0].len(), 4), &Device::Cpu)?)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        // Not candle's own ReLU, which makes a number of what is none.
        let maps = relu(&input.transpose(1, 2)?.conv1d(&self.filters, WIDTH / 2, 1, 1, 1)?)?;
        let sums = maps.sum(2)?;
        // Multiplied and summed rather than a matrix product, so that no row can see another.
        let logits = sums.unsqueeze(1)?.broadcast_mul(&self.weights)?.sum(2)?;
        let probs = ((logits.neg()?.exp()? + 1.0)?).recip()?;
        let base_scores = maps.sum(1)?;
        let profile = maps.narrow(1, 0, 2)?;
        Ok(Prediction { logits, probs: Some(probs), base_scores: Some(base_scores), profile: Some(profile) })
    }
}

/// Returns a network without a window.
pub(crate) fn any_length() -> Tiny {
    let filters = Tensor::from_vec(noise(1, FILTERS * 4 * WIDTH), (FILTERS, 4, WIDTH), &Device::Cpu).unwrap();
    let weights = Tensor::from_vec(noise(2, 2 * FILTERS), (1, 2, FILTERS), &Device::Cpu).unwrap();
    Tiny { window: None, labels: vec!["bound".into(), "open".into()], filters, weights }
}

/// Returns the filters `[3, 4, 5]` and weights `[2, 3]` of [`tiny`].
pub(crate) fn tiny_weights(seed: u64) -> [Vec<f32>; 2] {
    [noise(seed, FILTERS * 4 * WIDTH), noise(seed + 1000, 2 * FILTERS)]
}

pub(crate) fn tiny(seed: u64, window: Option<usize>) -> Member {
    let filters = Tensor::from_vec(noise(seed, FILTERS * 4 * WIDTH), (FILTERS, 4, WIDTH), &Device::Cpu);
    let weights = Tensor::from_vec(noise(seed + 1000, 2 * FILTERS), (1, 2, FILTERS), &Device::Cpu);
    let model = Tiny {
        window,
        labels: vec!["bound".into(), "open".into()],
        filters: filters.unwrap(),
        weights: weights.unwrap(),
    };
    let (digest, architecture) = (format!("digest{seed}"), "tiny".into());
    Member {
        name: format!("tiny{seed}"),
        loaded: Loaded {
            model: Box::new(NetworkModel::new(Box::new(model)).unwrap()),
            digest,
            architecture,
            unused: Vec::new(),
        },
    }
}

pub(crate) fn ensemble(seeds: &[u64], window: Option<usize>, rc_average: bool) -> Ensemble {
    Ensemble::new(seeds.iter().map(|&seed| tiny(seed, window)).collect(), rc_average, Wanted::default())
        .unwrap()
}

/// Returns the scores of sequences that the models can read.
pub(crate) fn scores_of(models: &Ensemble, sequences: &[&[u8]]) -> Vec<Scores> {
    let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence)).collect();
    models.predict(&rows).unwrap().into_iter().map(Result::unwrap).collect()
}

/// Returns random bases, one in twenty of them `N`.
pub(crate) fn bases(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length).iter().map(|x| b"ACGTACGTACGTACGTACGN"[((x + 1.0) * 10.0) as usize]).collect()
}

/// Returns a pipe of one row for each sequence.
pub(crate) fn rows(sequences: &[Option<&[u8]>]) -> Pipe {
    let schema = RowKind::Regions.schema(None);
    let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
    for (region, sequence) in sequences.iter().enumerate() {
        builder.push(&Row {
            region: region as u64,
            chrom: Some("chr1"),
            start: 10,
            end: 20,
            strand: Strand::Forward,
            name: None,
            sequence: sequence.map(|bases| std::str::from_utf8(bases).unwrap()),
            status: if sequence.is_some() { Status::Ok } else { Status::NotBases },
        });
    }
    Pipe::new(schema, [builder.finish()].into_iter())
}

/// Runs a pipe to its only batch.
pub(crate) fn collect(pipe: Pipe) -> RecordBatch {
    let schema = pipe.schema().clone();
    let batches: Vec<_> = pipe.into_parts().1.collect::<Result<_>>().unwrap();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

fn statuses(batch: &RecordBatch) -> Vec<&str> {
    schema::strings(batch, schema::STATUS).unwrap().iter().flatten().collect()
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let sequences: Vec<_> = (0..40).map(|seed| bases(seed, 20 + (seed as usize % 3) * 500)).collect();
    let sequences: Vec<_> = sequences.iter().map(|sequence| Some(sequence.as_slice())).collect();
    let models = Arc::new(ensemble(&[1, 2], None, true));
    let whole = collect(score(rows(&sequences), models.clone(), false).unwrap());
    for size in [1, 7, 39] {
        assert_eq!(collect(score(rows(&sequences).rebatch(size), models.clone(), false).unwrap()), whole);
    }
}

#[test]
fn mixed_lengths_come_back_in_row_order() {
    let sequences: Vec<_> = (0..30).map(|seed| bases(seed, 10 + (seed as usize * 7) % 13)).collect();
    let models = ensemble(&[3], None, false);
    let together = scores_of(&models, &sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for (sequence, scores) in sequences.iter().zip(together) {
        assert_eq!(scores_of(&models, &[sequence]), [scores]);
    }
}

#[test]
fn an_ensemble_is_the_mean_of_its_members() {
    let sequence = bases(5, 50);
    let both = &scores_of(&ensemble(&[1, 2], None, false), &[&sequence])[0];
    let each = [1, 2].map(|seed| scores_of(&ensemble(&[seed], None, false), &[&sequence]).remove(0));
    for class in 0..2 {
        assert_eq!(both.logits[class], (each[0].logits[class] + each[1].logits[class]) / 2.0);
        let mean =
            each.each_ref().map(|scores| scores.probs.as_ref().unwrap()[class]).iter().sum::<f32>() / 2.0;
        assert!((both.probs.as_ref().unwrap()[class] - mean).abs() < 1e-6);
    }
}

#[test]
fn the_mean_of_both_strands_is_the_same_for_both_strands() {
    let sequence = bases(6, 40);
    let mut turned = sequence.clone();
    dna::reverse_complement(&mut turned);
    let models = ensemble(&[4], None, true);
    let scores = scores_of(&models, &[&sequence, &turned]);
    assert_eq!(scores[0].logits, scores[1].logits);
    let mut base_scores = scores[1].base_scores.clone().unwrap();
    base_scores.reverse();
    assert_eq!(scores[0].base_scores.as_ref(), Some(&base_scores));
    // Both the positions and the two strands of the profile change places.
    let (a, b) = (scores[0].profile.as_ref().unwrap(), scores[1].profile.as_ref().unwrap());
    for track in 0..2 {
        for index in 0..40 {
            assert_eq!(a[track * 40 + index], b[(1 - track) * 40 + 39 - index]);
        }
    }
    let one = &scores_of(&ensemble(&[4], None, false), &[&sequence])[0];
    assert_ne!(one.logits, scores[0].logits);
}

#[test]
fn what_does_not_fit_stays_with_its_status() {
    let sequences = [30, 31, 29].map(|length| bases(1, length));
    let [fits, long, short] = sequences.each_ref().map(|sequence| Some(sequence.as_slice()));
    let models = Arc::new(ensemble(&[1], Some(30), false));
    let batch = collect(score(rows(&[long, fits, None, short]), models, false).unwrap());
    assert_eq!(statuses(&batch), ["too_long", "ok", "not_bases", "too_short"]);
    for name in [schema::LOGITS, schema::PROBS, schema::BASE_SCORES, schema::PROFILE] {
        let valid: Vec<_> = (0..4).map(|row| batch.column_by_name(name).unwrap().is_valid(row)).collect();
        assert_eq!(valid, [false, true, false, false], "{name}");
    }
    let schema = batch.schema();
    let metadata = |name: &str, key: &str| schema.field_with_name(name).unwrap().metadata().get(key).cloned();
    assert_eq!(metadata(schema::LOGITS, schema::LABELS_KEY).as_deref(), Some("bound,open"));
    assert_eq!(metadata(schema::LOGITS, schema::DIGEST_KEY).as_deref(), Some("digest1"));
    assert_eq!(metadata(schema::PROFILE, SHAPE_KEY).as_deref(), Some("2,30"));
    assert_eq!(batch[schema::PROFILE].as_list::<i32>().value(1).len(), 60);
}

#[test]
fn a_result_that_is_no_number_is_marked_or_refused() {
    let mut member = tiny(1, None);
    let filters = Tensor::ones((FILTERS, 4, WIDTH), candle_core::DType::F32, &Device::Cpu).unwrap();
    let weights = Tensor::full(f32::INFINITY, (1, 2, FILTERS), &Device::Cpu).unwrap();
    let labels = vec!["a".into(), "b".into()];
    let network = Box::new(Tiny { window: None, labels, filters, weights });
    member.loaded.model = Box::new(NetworkModel::new(network).unwrap());
    let models = Arc::new(Ensemble::new(vec![member], false, Wanted::default()).unwrap());
    let input = || rows(&[None, Some(b"ACGTACGT")]);
    let batch = collect(score(input(), models.clone(), false).unwrap());
    assert_eq!(statuses(&batch), ["not_bases", "nonfinite"]);
    assert!(batch[schema::LOGITS].is_valid(1));
    let error = score(input(), models, true).unwrap().into_parts().1.find_map(Result::err).unwrap();
    assert!(error.to_string().starts_with("region 1 (chr1:11-20): "), "{error}");
}

#[test]
fn members_that_disagree_make_no_ensemble() {
    let error = Ensemble::new(vec![tiny(1, Some(10)), tiny(2, Some(11))], false, Wanted::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("tiny1 reads 10 bases and tiny2 reads 11"), "{error}");
    assert_eq!(Ensemble::new(vec![], false, Wanted::default()).err().unwrap().exit_status(), 2);
}

#[test]
fn a_class_is_named_or_counted() {
    let models = ensemble(&[1], None, false);
    assert_eq!(models.class("open").unwrap(), 1);
    assert_eq!(models.class("0").unwrap(), 0);
    for bad in ["2", "closed", "all"] {
        assert!(models.class(bad).unwrap_err().to_string().contains("bound, open"), "{bad}");
    }
}

#[test]
fn lower_case_is_refused_with_its_place() {
    let error = score(rows(&[Some(b"ACGt")]), Arc::new(ensemble(&[1], None, false)), false).unwrap();
    let error = error.into_parts().1.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("region 0") && error.contains("base 4") && error.contains("`t`"), "{error}");
}

#[test]
fn a_dropped_column_is_gone_and_identity_is_not_droppable() {
    let dropped = drop_columns(rows(&[Some(b"ACGT")]), &["sequence".into()]).unwrap();
    let batch = collect(dropped);
    assert!(
        batch.column_by_name(schema::SEQUENCE).is_none() && batch.column_by_name(schema::START).is_some()
    );
    for bad in ["region", "status", "sequences"] {
        let error = drop_columns(rows(&[None]), &[bad.into()]).err().unwrap();
        assert_eq!(error.exit_status(), 2, "{bad}");
    }
}

/// A language model of one token per base. Its numbers are the tokens and their places.
struct Toy {
    tokenizer: Tokenizer,
}

fn toy(wanted: Wanted) -> Result<Ensemble> {
    let model = Box::new(Toy { tokenizer: Tokenizer::open("onehot").unwrap() });
    let loaded = Loaded { model, digest: "d".into(), architecture: "toy".into(), unused: Vec::new() };
    Ensemble::new(vec![Member { name: "toy".into(), loaded }], false, wanted)
}

impl Model for Toy {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        let layers = if wanted.layers.is_empty() { 3 } else { wanted.layers.len() };
        Ok(Outputs {
            embedding: if wanted.embedding.is_some() { 2 } else { 0 },
            likelihood: wanted.likelihood.is_some(),
            attentions: wanted.attentions.map(|_| (layers, 1)),
            ..Outputs::default()
        })
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let answer = |row: &Input| {
            let bases = std::str::from_utf8(row.bases).unwrap();
            let tokens =
                row.tokens.map_or_else(|| self.tokenizer.encode(bases, None).unwrap().ids, <[u32]>::to_vec);
            let layers = if wanted.layers.is_empty() { vec![0, 1, 2] } else { wanted.layers.clone() };
            let tokens: Vec<f32> = tokens.iter().map(|&id| id as f32).collect();
            let cls =
                || layers.iter().flat_map(|&layer| tokens.iter().map(move |id| id + 10.0 * layer as f32));
            let of = |pooling| f32::from(u8::try_from(pooling as usize).unwrap());
            Ok(Scores {
                embedding: wanted.embedding.map(|pooling| vec![of(pooling), tokens.len() as f32]),
                likelihoods: wanted.likelihood.map(|_| tokens.iter().map(|id| -id - 1.0).collect()),
                attentions: wanted.attentions.map(|which| match which {
                    Attentions::Cls => cls().collect(),
                    Attentions::All => cls().flat_map(|value| vec![value; tokens.len()]).collect(),
                }),
                ..Scores::default()
            })
        };
        Ok(rows.iter().map(answer).collect())
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        Some(&self.tokenizer)
    }
}

fn floats(batch: &RecordBatch, name: &str, row: usize) -> Vec<f32> {
    schema::float_items(schema::lists(batch, name).unwrap(), row).unwrap().to_vec()
}

#[test]
fn a_model_without_classes_gives_what_it_is_asked_for_and_no_logits() {
    let wanted = Wanted {
        embedding: Some(Pooling::MeanOfBases),
        likelihood: Some(Likelihood::Masked),
        attentions: Some(Attentions::Cls),
        layers: vec![0, 2],
        ..Wanted::default()
    };
    let models = Arc::new(toy(wanted).unwrap());
    let batch = collect(score(rows(&[Some(b"ACG"), None, Some(b"TTTTT")]), models.clone(), false).unwrap());
    assert!(batch.column_by_name(schema::LOGITS).is_none() && batch.column_by_name(schema::PROBS).is_none());
    let embeddings = batch[schema::EMBEDDING].as_fixed_size_list();
    assert_eq!(
        embeddings.values().as_primitive::<arrow_array::types::Float32Type>().values()[..2],
        [2.0, 3.0]
    );
    assert!(embeddings.is_null(1));
    assert_eq!(floats(&batch, schema::LIKELIHOODS, 0), [-1.0, -2.0, -3.0]);
    let sums = schema::f32s(&batch, schema::LOG_LIKELIHOOD).unwrap();
    assert_eq!((sums.value(0), sums.is_null(1), sums.value(2)), (-6.0, true, -20.0));
    assert_eq!(floats(&batch, schema::ATTENTIONS, 0), [0.0, 1.0, 2.0, 20.0, 21.0, 22.0]);
    let schema = batch.schema();
    let metadata = |name: &str, key: &str| schema.field_with_name(name).unwrap().metadata().get(key).cloned();
    assert_eq!(metadata(schema::EMBEDDING, schema::METHOD_KEY).as_deref(), Some("bases"));
    assert_eq!(metadata(schema::LOG_LIKELIHOOD, schema::METHOD_KEY).as_deref(), Some("masked"));
    assert_eq!(metadata(schema::ATTENTIONS, SHAPE_KEY).as_deref(), Some("2,1,*"));
    assert_eq!(metadata(schema::ATTENTIONS, LAYERS_KEY).as_deref(), Some("0,2"));
    assert_eq!(
        models.provenance(),
        "d toy, embedding bases, likelihood masked, attentions cls of layers 0+2"
    );
}

#[test]
fn attentions_of_all_tokens_say_so_and_any_new_column_can_be_dropped() {
    let wanted = || Wanted {
        likelihood: Some(Likelihood::Unmasked),
        attentions: Some(Attentions::All),
        ..Wanted::default()
    };
    let scored = || score(rows(&[Some(b"AC")]), Arc::new(toy(wanted()).unwrap()), false).unwrap();
    let batch = collect(scored());
    let expected: Vec<f32> = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0].iter().flat_map(|&x| [x, x]).collect();
    assert_eq!(floats(&batch, schema::ATTENTIONS, 0), expected);
    let schema = batch.schema();
    let metadata = schema.field_with_name(schema::ATTENTIONS).unwrap().metadata();
    assert_eq!(metadata.get(SHAPE_KEY).map(String::as_str), Some("3,1,*,*"));
    assert!(metadata.get(LAYERS_KEY).is_none());
    assert!(batch.column_by_name(schema::EMBEDDING).is_none());
    let dropped = drop_columns(scored(), &[schema::LIKELIHOODS.into(), schema::ATTENTIONS.into()]).unwrap();
    let dropped = collect(dropped);
    assert!(dropped.column_by_name(schema::LIKELIHOODS).is_none());
    assert_eq!(schema::f32s(&dropped, schema::LOG_LIKELIHOOD).unwrap().value(0), -3.0);
}

#[test]
fn a_network_over_bases_has_no_embedding_to_give() {
    let wanted = Wanted { embedding: Some(Pooling::Cls), ..Wanted::default() };
    let error = Ensemble::new(vec![tiny(1, None)], false, wanted).err().unwrap();
    assert!(error.to_string().contains("embeddings") && error.exit_status() == 2, "{error}");
}

#[test]
fn the_letters_of_a_second_sequence_are_checked_too() {
    let batch = collect(rows(&[Some(b"ACG")]));
    let schema = schema::with_field(&batch.schema(), Field::new(schema::SECOND, DataType::Utf8, true));
    let second: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["ACx"]));
    let batch = schema::with_columns(&batch, &schema, vec![(schema::SECOND, second)]).unwrap();
    let pipe = Pipe::new(schema, [Ok(batch)].into_iter());
    let scored = score(pipe, Arc::new(toy(Wanted::default()).unwrap()), false).unwrap();
    let error = scored.into_parts().1.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("region 0") && error.contains("`x`"), "{error}");
}
