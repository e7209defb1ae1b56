//! Pooling over positions, and its inverse by argmax. Ties go to the first position, as in PyTorch.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::pointwise::values;
use super::rule;
use crate::error::Result;

/// What part of a number rounding may have changed.
const TIE: f32 = 1e-5;

/// Returns the maximum over windows of `size` positions, `stride` apart; an incomplete last window is
/// dropped. `[B, L, C]` to `[B, (L - size) / stride + 1, C]`.
///
/// # Errors
///
/// When the input is shorter than one window.
pub fn max(input: &Tensor, size: usize, stride: usize) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Max { size, stride })?)
}

/// Returns how many windows fit.
pub(super) fn windows(length: usize, size: usize, stride: usize) -> candle_core::Result<usize> {
    if length < size || size == 0 {
        candle_core::bail!("{length} positions are fewer than the {size} that are pooled");
    }
    Ok((length - size) / stride + 1)
}

/// Computes the maxima over windows of one row, `[L, C]`.
pub(super) fn max_of_row(input: &[f32], channels: usize, size: usize, stride: usize, output: &mut [f32]) {
    for (window, output) in output.chunks_exact_mut(channels).enumerate() {
        let rows = &input[window * stride * channels..][..size * channels];
        output.copy_from_slice(&rows[..channels]);
        for row in rows.chunks_exact(channels).skip(1) {
            for (output, &value) in output.iter_mut().zip(row) {
                // What is no number stays, as in PyTorch.
                *output = if value > *output || value.is_nan() { value } else { *output };
            }
        }
    }
}

/// Returns the maximum over all positions, `[B, L, C]` to `[B, C]`.
///
/// # Errors
///
/// When there is no position.
pub fn global_max(input: &Tensor) -> Result<Tensor> {
    let length = input.dim(1)?;
    Ok(max(input, length, length)?.squeeze(1)?)
}

/// Returns the mean over all positions, `[B, L, C]` to `[B, C]`.
///
/// # Errors
///
/// When the input has not three axes.
pub fn global_mean(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Mean)?)
}

/// Puts `values` `[B, C]` at the position where `maps` `[B, L, C]` is largest, zeros elsewhere: `[B, L, C]`.
///
/// Differentiable with respect to `values`; the place has no derivative. Under the [rescale rule](super::rule)
/// it has a multiplier: where the two of a pair have their maxima at i and j, the output at i rises by what it
/// falls at j, because the map at i rose above that at j. That difference is shared out to the maps at i and j
/// by how much maps[i] - maps[j] differs within the pair. Chords take both where the maps change over, and so count
/// the leap from one place to another, of which gradients know nothing.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn unpool(values: &Tensor, maps: &Tensor) -> Result<Tensor> {
    Ok(values.contiguous()?.apply_op2(&maps.contiguous()?, Unpool)?)
}

#[derive(Clone, Copy)]
struct Max {
    size: usize,
    stride: usize,
}

/// Returns the maximum of one window, for each channel.
fn largest(rows: &[f32], channels: usize) -> Vec<f32> {
    let mut largest = vec![0.0; channels];
    max_of_row(rows, channels, rows.len() / channels, 1, &mut largest);
    largest
}

/// Returns the position of the maximum of one window, for each channel.
fn argmax(rows: &[f32], channels: usize, best: &mut [usize]) {
    best.fill(0);
    for (position, row) in rows.chunks_exact(channels).enumerate().skip(1) {
        for channel in 0..channels {
            if row[channel] > rows[best[channel] * channels + channel] {
                best[channel] = position;
            }
        }
    }
}

/// The two largest positions of a window: of the inputs, and of what they are compared with.
struct Chosen {
    /// Their numbers within the row.
    places: [usize; 2],
    /// What the window comes to.
    largest: [f32; 2],
}

impl Chosen {
    /// Hands the gradient of a window to the position of the larger maximum, as [`rule`] has it.
    fn rescale(&self, pairs: [&[f32]; 2], gradient: f32, target: &mut [f32]) {
        let difference = self.largest[0] - self.largest[1];
        let place = if difference >= 0.0 { self.places[0] } else { self.places[1] };
        target[place] += gradient * rule::share(difference, pairs[0][place] - pairs[1][place]);
    }

    /// Hands it to each position for the part of the way on which that one is the larger.
    fn follow(&self, pairs: [&[f32]; 2], gradient: f32, target: &mut [f32]) {
        let [i, j] = self.places;
        let before = change_over(pairs, [i, j]);
        target[i] += (f64::from(gradient) * (1.0 - before)) as f32;
        target[j] += (f64::from(gradient) * before) as f32;
    }
}

/// Returns on what part of the straight way from the second of a pair to the first the number at `j`, which is not
/// the smaller one at its beginning, is larger than that at `i`, which is not the smaller one at its end.
fn change_over(pairs: [&[f32]; 2], [i, j]: [usize; 2]) -> f64 {
    let lead = |values: &[f32]| f64::from(values[i]) - f64::from(values[j]);
    let [end, begin] = pairs.map(lead);
    // One place, or two that are the same on all of the way.
    if end - begin > 0.0 { (-begin / (end - begin)).clamp(0.0, 1.0) } else { 0.5 }
}

/// Returns the number at this part of the way from one to another.
fn between(from: f32, to: f32, part: f64) -> f32 {
    ((1.0 - part) * f64::from(from) + part * f64::from(to)) as f32
}

impl Max {
    /// Hands each window's gradient to the largest positions of a pair, as [`rule`] has it.
    fn multipliers(&self, input: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, length, channels) = input.dims3()?;
        let count = windows(length, self.size, self.stride)?;
        let (values, gradients) = (rule::numbers(input)?, rule::numbers(gradient)?);
        let (first, second) = values.split_at(values.len() / 2);
        let mut multipliers = vec![0.0; first.len()];
        let row = length * channels;
        for pair in 0..batch / 2 {
            let pairs = [&first[pair * row..][..row], &second[pair * row..][..row]];
            let target = &mut multipliers[pair * row..][..row];
            for window in 0..count {
                let gradients = &gradients[(pair * count + window) * channels..][..channels];
                let chosen = self.chosen(pairs, channels, window * self.stride * channels);
                for (chosen, &gradient) in chosen.zip(gradients) {
                    match rule::follows_path() {
                        true => chosen.follow(pairs, gradient, target),
                        false => chosen.rescale(pairs, gradient, target),
                    }
                }
            }
        }
        multipliers.extend_from_within(..);
        Tensor::from_vec(multipliers, input.shape(), input.device())
    }

    /// Returns the largest positions of each channel of the window that begins at `start`.
    fn chosen(
        &self,
        pairs: [&[f32]; 2],
        channels: usize,
        start: usize,
    ) -> impl Iterator<Item = Chosen> + use<> {
        let windows = pairs.map(|values| &values[start..][..self.size * channels]);
        let best = windows.map(|values| {
            let mut best = vec![0; channels];
            match rule::follows_path() {
                true => argmax(values, channels, &mut best),
                false => first_largest(values, channels, &mut best),
            }
            best
        });
        let largest = windows.map(|values| largest(values, channels));
        (0..channels).map(move |channel| Chosen {
            places: [0, 1].map(|which| start + best[which][channel] * channels + channel),
            largest: [0, 1].map(|which| largest[which][channel]),
        })
    }
}

/// Returns the first position whose number is the largest of one window but for rounding, for each channel. Where a
/// background is the same everywhere, so are the maps of it, and which of its positions is handed something must not
/// hang on their last bits.
fn first_largest(rows: &[f32], channels: usize, best: &mut [usize]) {
    argmax(rows, channels, best);
    for (channel, best) in best.iter_mut().enumerate() {
        let largest = rows[*best * channels + channel];
        let enough = largest - TIE * largest.abs().max(1.0);
        *best = (0..*best).find(|position| rows[position * channels + channel] >= enough).unwrap_or(*best);
    }
}

impl CustomOp1 for Max {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = layout.shape().dims3()?;
        let count = windows(length, self.size, self.stride)?;
        let input = values(storage, layout)?;
        let mut output = vec![0.0; batch * count * channels];
        output.par_chunks_mut(count * channels).enumerate().for_each(|(b, output)| {
            let row = &input[b * length * channels..][..length * channels];
            max_of_row(row, channels, self.size, self.stride, output);
        });
        Ok((CpuStorage::F32(output), (batch, count, channels).into()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if rule::rescales() {
            return self.multipliers(input, gradient).map(Some);
        }
        let back = MaxBack { size: self.size, stride: self.stride };
        input.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &back).map(Some)
    }
}

/// Carries a gradient to the position of each maximum.
struct MaxBack {
    size: usize,
    stride: usize,
}

impl CustomOp2 for MaxBack {
    fn name(&self) -> &'static str {
        "max_pool_gradient"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, length, channels) = layout.shape().dims3()?;
        let (_, count, _) = gradient_layout.shape().dims3()?;
        let (input, gradient) = (values(input, layout)?, values(gradient, gradient_layout)?);
        let mut output = vec![0.0; input.len()];
        output.par_chunks_mut(length * channels).enumerate().for_each(|(b, output)| {
            let rows = &input[b * length * channels..][..length * channels];
            let mut best = vec![0; channels];
            for window in 0..count {
                let start = window * self.stride;
                argmax(&rows[start * channels..][..self.size * channels], channels, &mut best);
                for (channel, &position) in best.iter().enumerate() {
                    output[(start + position) * channels + channel] +=
                        gradient[(b * count + window) * channels + channel];
                }
            }
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }
}

/// Puts values where maps are largest.
struct Unpool;

impl Unpool {
    /// Returns the multipliers of values and maps.
    fn multipliers(values: &Tensor, maps: &Tensor, gradient: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let (batch, length, channels) = maps.dims3()?;
        let [of_values, of_maps, gradients] =
            [rule::numbers(values)?, rule::numbers(maps)?, rule::numbers(gradient)?];
        let mut value_multipliers = vec![0.0; of_values.len()];
        let mut map_multipliers = vec![0.0; of_maps.len()];
        let (half, row) = (batch / 2, length * channels);
        for pair in 0..half {
            let pairs = [pair, half + pair].map(|which| &of_maps[which * row..][..row]);
            let places = pairs.map(|maps| {
                let mut best = vec![0; channels];
                argmax(maps, channels, &mut best);
                best
            });
            let gradient = &gradients[pair * row..][..row];
            for channel in 0..channels {
                let [i, j] = [places[0][channel], places[1][channel]].map(|at| at * channels + channel);
                let before = if rule::follows_path() { change_over(pairs, [i, j]) } else { 0.5 };
                value_multipliers[pair * channels + channel] = between(gradient[i], gradient[j], before);
                if i == j {
                    continue;
                }
                let [end, begin] = [pair, half + pair].map(|which| of_values[which * channels + channel]);
                let moved = (gradient[i] - gradient[j]) * between(begin, end, before);
                let rise = (pairs[0][i] - pairs[0][j]) - (pairs[1][i] - pairs[1][j]);
                // Two ties have no rise; then the places differ by nothing that could be shared out.
                if rise > 0.0 {
                    map_multipliers[pair * row + i] = moved / rise;
                    map_multipliers[pair * row + j] = -moved / rise;
                }
            }
        }
        value_multipliers.copy_within(..half * channels, half * channels);
        map_multipliers.copy_within(..half * row, half * row);
        let device = values.device();
        Ok([
            Tensor::from_vec(value_multipliers, values.shape(), device)?,
            Tensor::from_vec(map_multipliers, maps.shape(), device)?,
        ])
    }
}

impl CustomOp2 for Unpool {
    fn name(&self) -> &'static str {
        "unpool"
    }

    fn cpu_fwd(
        &self,
        placed: &CpuStorage,
        placed_layout: &Layout,
        maps: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = layout.shape().dims3()?;
        if placed_layout.shape().dims2()? != (batch, channels) {
            candle_core::bail!("values {:?} for maps {:?}", placed_layout.shape(), layout.shape());
        }
        let (placed, maps) = (values(placed, placed_layout)?, values(maps, layout)?);
        let mut output = vec![0.0; maps.len()];
        let mut best = vec![0; channels];
        for b in 0..batch {
            argmax(&maps[b * length * channels..][..length * channels], channels, &mut best);
            for (channel, &position) in best.iter().enumerate() {
                output[(b * length + position) * channels + channel] = placed[b * channels + channel];
            }
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(
        &self,
        values: &Tensor,
        maps: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        if rule::rescales() {
            let [values, maps] = Self::multipliers(values, maps, gradient)?;
            return Ok((Some(values), Some(maps)));
        }
        let length = maps.dim(1)?;
        let ones = Tensor::ones(values.shape(), values.dtype(), values.device())?.unsqueeze(1)?;
        let marks = maps.contiguous()?.apply_op2_no_bwd(&ones, &MaxBack { size: length, stride: length })?;
        Ok((Some((marks * gradient)?.sum(1)?), None))
    }
}

struct Mean;

impl CustomOp1 for Mean {
    fn name(&self) -> &'static str {
        "mean_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = layout.shape().dims3()?;
        let input = values(storage, layout)?;
        let mut output = vec![0.0; batch * channels];
        output.par_chunks_mut(channels).enumerate().for_each(|(b, output)| {
            for row in input[b * length * channels..][..length * channels].chunks_exact(channels) {
                output.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            output.iter_mut().for_each(|sum| *sum /= length as f32);
        });
        Ok((CpuStorage::F32(output), (batch, channels).into()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let length = input.dim(1)? as f64;
        (gradient.unsqueeze(1)? / length)?.broadcast_as(input.shape()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::testing::check_completeness;
    use super::super::testing::*;
    use super::*;
    use candle_core::Device;

    #[test]
    fn an_incomplete_window_is_dropped() {
        let input = Tensor::new(&[[[1f32], [5.0], [2.0], [3.0], [9.0]]], &Device::Cpu).unwrap();
        assert_eq!(flat(&max(&input, 2, 2).unwrap()), [5.0, 3.0]);
        assert_eq!(flat(&max(&input, 3, 1).unwrap()), [5.0, 5.0, 9.0]);
        assert!(max(&input, 6, 6).is_err());
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let input = noise_tensor(&[2, 11, 3], 1);
        check_gradient(&input, |x| max(x, 3, 2));
        check_gradient(&input, global_max);
        check_gradient(&input, global_mean);
        let maps = noise_tensor(&[2, 7, 3], 2);
        check_gradient(&noise_tensor(&[2, 3], 3), |x| unpool(x, &maps));
    }

    #[test]
    fn multipliers_share_out_the_difference_of_a_pair() {
        let input = noise_tensor(&[6, 11, 3], 1);
        check_completeness(&input, |x| max(x, 3, 2));
        check_completeness(&input, |x| max(x, 4, 4));
        check_completeness(&input, global_max);
        check_completeness(&input, global_mean);
        // The maxima of most pairs lie at different places.
        check_completeness(&input, |x| unpool(&global_max(x)?, x));
    }

    #[test]
    fn a_chord_gives_each_position_the_part_of_the_way_on_which_it_is_the_largest() {
        // From [4, 0] to [1, 6]: 4 − 3t and 6t change over at t = 4/9.
        let pairs = Tensor::new(&[[[1f32], [6.0]], [[4.0], [0.0]]], &Device::Cpu).unwrap();
        let input = candle_core::Var::from_tensor(&pairs).unwrap();
        let output = global_max(input.as_tensor()).unwrap().sum_all().unwrap();
        let of = |rule: fn(&Tensor) -> Result<candle_core::backprop::GradStore>| {
            flat(rule(&output).unwrap().get(input.as_tensor()).unwrap())[..2].to_vec()
        };
        let crossing = 4.0 / 9.0;
        assert!(distance(&of(rule::chords), &[crossing, 1.0 - crossing]) < 1e-6);
        // The rescale rule gives all to the larger maximum.
        assert!(distance(&of(rule::multipliers), &[0.0, 2.0 / 6.0]) < 1e-6);
    }

    #[test]
    fn chords_of_short_ways_add_up_to_the_difference_and_go_to_the_gradient() {
        let ends = [noise_tensor(&[1, 8, 3], 5), noise_tensor(&[1, 8, 3], 6)];
        let at = |part: f64| ((&ends[0] * (1.0 - part)).unwrap() + (&ends[1] * part).unwrap()).unwrap();
        let layer = |x: &Tensor| max(x, 4, 2);
        let mean =
            |count: usize, rule: fn(&Tensor) -> Result<candle_core::backprop::GradStore>, half: bool| {
                let mut sums = vec![0.0; 24];
                for step in 0..count {
                    let place = |offset: f64| at((step as f64 + offset) / count as f64);
                    let pair = if half { [place(0.5), place(0.5)] } else { [place(1.0), place(0.0)] };
                    let input = candle_core::Var::from_tensor(&Tensor::cat(&pair, 0).unwrap()).unwrap();
                    let output = layer(input.as_tensor()).unwrap();
                    let gradients = rule(&output.sum_all().unwrap()).unwrap();
                    let values = flat(gradients.get(input.as_tensor()).unwrap());
                    sums.iter_mut().zip(&values[..24]).for_each(|(sum, value)| *sum += value / count as f32);
                }
                sums
            };
        let fine = mean(600, rule::gradients, true);
        let direction = flat(&(&ends[1] - &ends[0]).unwrap());
        let wanted = flat(&layer(&ends[1]).unwrap()).iter().sum::<f32>()
            - flat(&layer(&ends[0]).unwrap()).iter().sum::<f32>();
        for count in [1, 7, 40] {
            let chords = mean(count, rule::chords, false);
            let shared: f32 = chords.iter().zip(&direction).map(|(m, d)| m * d).sum();
            assert!((shared - wanted).abs() < 1e-4, "{count}: {shared}, not {wanted}");
        }
        let error = |found: &[f32]| distance(found, &fine);
        assert!(error(&mean(40, rule::chords, false)) < 0.02);
        assert!(error(&mean(40, rule::chords, false)) < error(&mean(40, rule::gradients, true)));
    }

    #[test]
    fn a_tie_goes_to_the_first_position() {
        let maps = Tensor::new(&[[[2f32], [7.0], [7.0]]], &Device::Cpu).unwrap();
        let values = Tensor::new(&[[4f32]], &Device::Cpu).unwrap();
        assert_eq!(flat(&unpool(&values, &maps).unwrap()), [0.0, 4.0, 0.0]);
    }
}
