use super::*;

/// Scores that show which bases or tokens were read: their weighted sum, and for each base its place in the
/// window.
struct Toy {
    unit: Unit,
    profile: bool,
    tokenizer: Tokenizer,
}

fn toy(unit: Unit) -> Toy {
    Toy { unit, profile: false, tokenizer: Tokenizer::open("kmer:3").unwrap() }
}

fn long(unit: Unit, overlap: Option<usize>) -> Long {
    Long::new(Box::new(toy(unit)), overlap).unwrap()
}

fn weighted(numbers: impl Iterator<Item = u32>) -> f32 {
    (1u32..).zip(numbers).map(|(place, number)| (place * number) as f32).sum()
}

impl Model for Toy {
    fn window(&self) -> Option<usize> {
        match self.unit {
            Unit::Bases(window) => Some(window),
            Unit::Tokens(_) => None,
        }
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    fn outputs(&self, _: &Wanted) -> Result<Outputs> {
        Ok(Outputs { classes: 1, profile: self.profile.then_some((1, 1)), ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], _: &Wanted) -> Result<Vec<Answer>> {
        let answer = |row: &Input| match self.unit {
            Unit::Bases(window) => {
                assert_eq!(row.bases.len(), window, "only what fits is read");
                let sum = weighted(row.bases.iter().map(|&base| u32::from(base)));
                let base_scores = Some((0..window).map(|place| (place * place) as f32).collect());
                Ok(Scores {
                    logits: vec![sum],
                    probs: Some(vec![sum / 2.0]),
                    base_scores,
                    ..Scores::default()
                })
            }
            Unit::Tokens(limit) => {
                let tokens = row.tokens.unwrap();
                assert!(tokens.len() <= limit && tokens[0] == 2 && tokens[tokens.len() - 1] == 3);
                let sum = weighted(tokens.iter().copied());
                Ok(Scores { logits: vec![sum], embedding: Some(vec![sum, 1.0]), ..Scores::default() })
            }
        };
        Ok(rows.iter().map(answer).collect())
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        Some(&self.tokenizer)
    }

    fn token_limit(&self) -> Option<usize> {
        match self.unit {
            Unit::Bases(_) => None,
            Unit::Tokens(limit) => Some(limit),
        }
    }
}

fn bases(length: usize) -> Vec<u8> {
    (0..length).map(|place| b"ACGT"[place * place / 3 % 4]).collect()
}

fn close(a: f32, b: f64) -> bool {
    (f64::from(a) - b).abs() <= 1e-5 * b.abs()
}

/// Returns the first bases of windows, by stepping until the end is reached.
fn starts(length: usize, window: usize, step: usize) -> Vec<usize> {
    let mut starts = vec![0];
    while starts[starts.len() - 1] + window < length {
        starts.push((starts[starts.len() - 1] + step).min(length - window));
    }
    starts
}

#[test]
fn windows_are_merged_by_their_mean_and_bases_by_the_windows_that_hold_them() {
    for (overlap, step) in [(None, 5), (Some(0), 10), (Some(9), 1), (Some(3), 7)] {
        let model = long(Unit::Bases(10), overlap);
        for length in [10, 11, 19, 20, 21, 57] {
            let bases = bases(length);
            let scores = model.predict(&[Input::of(&bases)], &Wanted::default()).unwrap().remove(0).unwrap();
            let starts = starts(length, 10, step);
            let sum = |start: &usize| {
                f64::from(weighted(bases[*start..start + 10].iter().map(|&base| u32::from(base))))
            };
            let mean = starts.iter().map(sum).sum::<f64>() / starts.len() as f64;
            assert!(close(scores.logits[0], mean), "{overlap:?} {length}: {} {mean}", scores.logits[0]);
            assert!(close(scores.probs.unwrap()[0], mean / 2.0));
            let base_scores = scores.base_scores.unwrap();
            assert_eq!(base_scores.len(), length);
            for (place, &score) in base_scores.iter().enumerate() {
                let places = starts.iter().filter_map(|&start| place.checked_sub(start).filter(|&p| p < 10));
                let squares: Vec<f64> = places.map(|place| (place * place) as f64).collect();
                let expected = squares.iter().sum::<f64>() / squares.len() as f64;
                assert!((f64::from(score) - expected).abs() < 1e-4, "base {place} of {length}");
            }
        }
    }
}

#[test]
fn a_row_has_the_numbers_it_has_alone_and_shorter_rows_are_too_short() {
    let model = long(Unit::Bases(10), None);
    let sequences: Vec<Vec<u8>> = [9, 30_011, 10, 0, 41].map(bases).into();
    let rows: Vec<Input> = sequences.iter().map(|bases| Input::of(bases)).collect();
    let together = model.predict(&rows, &Wanted::default()).unwrap();
    for (row, answer) in rows.iter().zip(&together) {
        assert_eq!(&model.predict(&[*row], &Wanted::default()).unwrap()[0], answer);
    }
    assert_eq!((&together[0], &together[3]), (&Err(Misfit::TooShort), &Err(Misfit::TooShort)));
    assert_eq!(together[2], model.model.predict(&rows[2..3], &Wanted::default()).unwrap()[0]);
}

#[test]
fn pieces_of_tokens_have_their_own_specials() {
    let model = long(Unit::Tokens(12), Some(4));
    let tokenizer = Tokenizer::open("kmer:3").unwrap();
    // From 512 bases on the tokenizer makes pieces of its own, whose seams are no tokens of the row.
    for length in [5, 12, 13, 40, 700] {
        let bases = bases(length);
        let tokens = tokenizer.encode(std::str::from_utf8(&bases).unwrap(), None).unwrap();
        let body: Vec<u32> = tokens
            .ids
            .iter()
            .zip(&tokens.starts)
            .filter(|(_, start)| **start >= 0)
            .map(|(&id, _)| id)
            .collect();
        assert_eq!(body.len(), length - 2);
        let size = body.len().min(10);
        let starts = starts(body.len(), size, 6);
        let sum = |start: &usize| {
            let piece = [&[2], &body[*start..start + size], &[3]].concat();
            f64::from(weighted(piece.into_iter()))
        };
        let mean = starts.iter().map(sum).sum::<f64>() / starts.len() as f64;
        let given = Input { tokens: Some(&tokens.ids), ..Input::of(&bases) };
        for row in [Input::of(&bases), given] {
            let scores = model.predict(&[row], &Wanted::default()).unwrap().remove(0).unwrap();
            assert!(close(scores.logits[0], mean), "{length}");
            assert_eq!(scores.embedding.unwrap()[1], 1.0);
        }
    }
}

#[test]
fn what_cannot_be_merged_or_cut_is_refused() {
    let error = |model: Toy, overlap| Long::new(Box::new(model), overlap).err().unwrap().to_string();
    assert!(error(toy(Unit::Bases(10)), Some(10)).contains("would not advance"));
    assert!(error(toy(Unit::Tokens(2)), None).contains("no room"));
    let any = super::super::NetworkModel::new(Box::new(crate::score::tests::any_length())).unwrap();
    let error = Long::new(Box::new(any), None).err().unwrap();
    assert!(error.to_string().contains("leave it out") && error.exit_status() == 2, "{error}");
    let profile = Long::new(Box::new(Toy { profile: true, ..toy(Unit::Bases(10)) }), None).unwrap();
    let error = profile.outputs(&Wanted::default()).unwrap_err().to_string();
    assert!(error.contains("profiles"), "{error}");
    assert_eq!(long(Unit::Tokens(12), Some(4)).describe(), "windows of 10 tokens, 6 apart");
    let pair = Input { second: Some(b"ACGTACGTACGT"), ..Input::of(b"ACGTACGTACGT") };
    let error = long(Unit::Bases(10), None).predict(&[pair], &Wanted::default()).unwrap_err();
    assert!(error.to_string().contains("pairs"), "{error}");
}
