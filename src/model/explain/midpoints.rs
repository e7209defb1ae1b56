//! The oracle of integrated gradients: the mean of gradients at the middle of each step, in the order of the sequence.

use super::*;

/// Returns the hypothetical contributions `[L, 4]` of a logit by the gradients at the middle of so many steps.
pub(crate) fn hypothetical(
    network: &dyn Network,
    sequence: &[u8],
    class: usize,
    count: usize,
) -> Result<Vec<f64>> {
    let input: Vec<f32> = network.encode(&[sequence])?.flatten_all()?.to_vec1()?;
    let backgrounds = [zeros(sequence, &input)];
    let question = Question { network, class, input: &input, backgrounds: &backgrounds };
    let mut mean = vec![0.0; input.len()];
    let places: Vec<usize> = (0..count).collect();
    for places in places.chunks(question.pass()) {
        let at = |&place: &usize| -> Vec<f32> {
            let part = ((place as f64 + 0.5) / count as f64) as f32;
            input.iter().zip(&backgrounds[0]).map(|(&x, &r)| r + part * (x - r)).collect()
        };
        let inputs: Vec<Vec<f32>> = places.iter().map(at).collect();
        let batch = question.batch(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let gradients = rule::gradients(&question.forward(batch.as_tensor())?)?;
        let values: Vec<f32> = gradients.get(batch.as_tensor()).unwrap().flatten_all()?.to_vec1()?;
        for gradient in values.chunks_exact(input.len()) {
            mean.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += f64::from(value) / count as f64);
        }
    }
    Ok(question.hypothetical(&[mean]))
}
