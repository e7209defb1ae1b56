//! The active-set solver: exact, in 64 bits, with a duality gap as certificate.
//!
//! About one place in ten thousand has a coefficient. A pass over all places finds those whose correlation with
//! the residual exceeds the penalty; they join the working set, which falls apart into clusters of overlapping
//! windows; each cluster that gained a member is solved exactly; the residual, and so the correlations, change
//! only where its windows lie, so the next pass looks there alone. It ends when the true duality gap is within
//! tolerance. All that decides is in 64 bits, but for the first sifting of places, which errs on the safe side.

use super::dictionary::Dictionary;
use super::fit::{Coefficient, Fit, Outcome, Settings};
use super::nnls::{Minimizer, ROUNDING, Skyline};
use super::scan::{Scan, Site};
use super::signal::{NO_BASE, Signal};
use crate::kernel::Instructions;

/// Violators that are always taken at once.
const BATCH: usize = 256;

/// The solver with its buffers, used again for the next region.
pub(super) struct ActiveSet<'d> {
    dictionary: &'d Dictionary,
    scan: Scan<'d>,
    minimizer: Minimizer,
    gram: Skyline,
    linear: Vec<f64>,
    solution: Vec<f64>,
    planes: usize,
    residual: Vec<f64>,
    /// The working set, by position and filter.
    members: Vec<Member>,
    /// Values s·K of the members on their windows, planes fastest.
    values: Vec<f64>,
    /// Where values are packed.
    spare: Vec<f64>,
    found: Vec<Site>,
    /// Positions where the residual has changed since the last pass, in order and disjoint.
    changed: Vec<(usize, usize)>,
}

/// A place in the working set.
#[derive(Clone, Copy, Debug)]
struct Member {
    site: Site,
    /// One past the last position of the window.
    end: usize,
    /// Where its values begin.
    values: usize,
    lambda: f64,
    /// ⟨sK, y⟩.
    with_signal: f64,
    coefficient: f64,
    /// g − λ at the last pass.
    excess: f64,
    /// Whether it joined since its cluster was last solved.
    new: bool,
}

/// What a pass over the places found.
#[derive(Default)]
struct Pass {
    /// Places outside the working set whose correlation exceeds the penalty, with the excess.
    violators: Vec<(f64, Member)>,
    /// The largest g/λ where λ > 0, but at least 1.
    ratio: f64,
    /// The largest excess g − λ, but at least 0.
    excess: f64,
    /// Whether a place without a penalty would still gain.
    unbounded: bool,
}

impl Pass {
    fn note(&mut self, correlation: f64, lambda: f64) {
        let excess = correlation - lambda;
        self.excess = self.excess.max(excess);
        if lambda > 0.0 {
            self.ratio = self.ratio.max(correlation / lambda);
        } else {
            self.unbounded |= excess > ROUNDING;
        }
    }
}

impl<'d> ActiveSet<'d> {
    /// Creates a solver.
    pub fn new(dictionary: &'d Dictionary, instructions: Instructions) -> Self {
        Self {
            dictionary,
            scan: Scan::new(dictionary, instructions),
            minimizer: Minimizer::default(),
            gram: Skyline::default(),
            linear: Vec::new(),
            solution: Vec::new(),
            planes: 1,
            residual: Vec::new(),
            members: Vec::new(),
            values: Vec::new(),
            spare: Vec::new(),
            found: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Fits a region. A step is a pass over the places.
    pub fn fit(&mut self, signal: &Signal, settings: &Settings) -> Fit {
        self.load(signal);
        let enough = settings.tolerance * signal.length() as f64;
        let (mut steps, mut last) = (0, f64::INFINITY);
        loop {
            let mut pass = self.pass(signal);
            let gap = self.gap(&pass, signal);
            steps += 1;
            // Columns that depend on each other can leave a cluster unsettled; another round helps, or nothing.
            let stuck = pass.violators.is_empty() && gap > 0.9 * last;
            if gap <= enough || stuck || steps > settings.max_steps {
                return self.finish(&pass, signal, steps, enough);
            }
            if pass.violators.is_empty() {
                self.members.iter_mut().for_each(|member| member.new = true);
            }
            last = gap;
            self.enlist(&mut pass.violators, signal.length());
            self.solve(signal);
        }
    }

    fn load(&mut self, signal: &Signal) {
        self.planes = signal.planes();
        self.scan.load(signal);
        self.residual.clear();
        self.residual.extend(signal.values().iter().map(|&value| f64::from(value)));
        self.members.clear();
        self.values.clear();
        self.changed.clear();
        self.changed.push((0, signal.length()));
    }

    /// Looks at all places whose correlation has changed, and at the working set.
    fn pass(&mut self, signal: &Signal) -> Pass {
        self.found.clear();
        let mut found = std::mem::take(&mut self.found);
        self.scan.run(signal, &self.changed, &mut found);
        let mut pass = Pass { ratio: 1.0, ..Pass::default() };
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let correlation = self.correlation(member);
            pass.note(correlation, member.lambda);
            self.members[index].excess = correlation - self.members[index].lambda;
        }
        for &site in &found {
            if self.members.binary_search_by_key(&site, |member| member.site).is_ok() {
                continue;
            }
            let member = self.lay(site, signal);
            let correlation = self.correlation(&member);
            pass.note(correlation, member.lambda);
            if correlation > member.lambda {
                pass.violators.push((correlation - member.lambda, member));
            } else {
                self.values.truncate(member.values);
            }
        }
        self.found = found;
        pass
    }

    /// Lays a filter on the region: appends its values.
    fn lay(&mut self, site: Site, signal: &Signal) -> Member {
        let columns = self.dictionary.columns(site.filter);
        let end = site.position + columns.len();
        let scale = 1.0 / (signal.energy(site.position, end) + 1.0).sqrt();
        let values = self.values.len();
        match signal.bases() {
            Some(bases) => {
                let weight = |(column, &base): (&[f32; 4], &u8)| match base {
                    NO_BASE => 0.0,
                    base => scale * f64::from(column[base as usize]),
                };
                self.values.extend(columns.iter().zip(&bases[site.position..end]).map(weight));
            }
            None => self.values.extend(columns.iter().flatten().map(|&weight| scale * f64::from(weight))),
        }
        let lambda = f64::from(self.dictionary.atoms()[site.filter].lambda);
        let signal = &signal.values()[site.position * self.planes..end * self.planes];
        let with_signal = dot(&self.values[values..], signal);
        Member { site, end, values, lambda, with_signal, coefficient: 0.0, excess: 0.0, new: true }
    }

    /// Returns g = ⟨sK, r⟩.
    fn correlation(&self, member: &Member) -> f64 {
        let window = member.site.position * self.planes..member.end * self.planes;
        dot(self.values_of(member), &self.residual[window])
    }

    fn values_of(&self, member: &Member) -> &[f64] {
        &self.values[member.values..][..(member.end - member.site.position) * self.planes]
    }

    /// Adds violators to the working set: all, or when they are very many the worst at each position; the residual
    /// will change under the others, so that the next pass sees them again. Members that are at rest at zero
    /// leave until the residual under them changes.
    fn enlist(&mut self, violators: &mut Vec<(f64, Member)>, length: usize) {
        self.members.retain(|member| member.coefficient > 0.0 || member.excess > 0.0);
        if violators.len() > BATCH.max(length / 4) {
            violators.sort_by(|(a, at), (b, bt)| {
                let by_position = at.site.position.cmp(&bt.site.position);
                by_position.then(b.total_cmp(a)).then(at.site.cmp(&bt.site))
            });
            violators.dedup_by_key(|(_, member)| member.site.position);
        }
        self.members.extend(violators.iter().map(|(_, member)| *member));
        self.members.sort_unstable_by_key(|member| member.site);
        self.pack();
    }

    /// Forgets the values of all but the members.
    fn pack(&mut self) {
        let mut values = std::mem::take(&mut self.spare);
        values.clear();
        for index in 0..self.members.len() {
            let start = values.len();
            values.extend_from_slice(self.values_of(&self.members[index]));
            self.members[index].values = start;
        }
        self.spare = std::mem::replace(&mut self.values, values);
    }

    /// Solves every cluster that has a new member.
    fn solve(&mut self, signal: &Signal) {
        self.changed.clear();
        let mut first = 0;
        while first < self.members.len() {
            let mut end = self.members[first].end;
            let mut last = first + 1;
            while last < self.members.len() && self.members[last].site.position < end {
                end = end.max(self.members[last].end);
                last += 1;
            }
            if self.members[first..last].iter().any(|member| member.new) {
                self.solve_cluster(first..last);
                self.subtract(first..last, end, signal);
            }
            first = last;
        }
    }

    fn solve_cluster(&mut self, cluster: std::ops::Range<usize>) {
        let mut gram = std::mem::take(&mut self.gram);
        gram.clear();
        let members = &self.members[cluster.clone()];
        let mut first = 0;
        for member in members {
            while members[first].end <= member.site.position {
                first += 1;
            }
            gram.push(first, |column| self.product(&members[column], member));
        }
        self.gram = gram;
        self.linear.clear();
        self.linear.extend(members.iter().map(|member| member.with_signal - member.lambda));
        self.solution.clear();
        self.solution.extend(members.iter().map(|member| member.coefficient));
        self.minimizer.run(&self.gram, &self.linear, &mut self.solution);
        for (member, &coefficient) in self.members[cluster].iter_mut().zip(&self.solution) {
            member.coefficient = coefficient;
            member.new = false;
        }
    }

    /// Returns ⟨sK, s'K'⟩ of two members, the first of which does not begin later.
    fn product(&self, left: &Member, right: &Member) -> f64 {
        let skipped = (right.site.position - left.site.position) * self.planes;
        self.values_of(left)
            .get(skipped..)
            .map_or(0.0, |left| left.iter().zip(self.values_of(right)).map(|(a, b)| a * b).sum())
    }

    /// Recomputes the residual under a cluster, which ends at `end`.
    fn subtract(&mut self, cluster: std::ops::Range<usize>, end: usize, signal: &Signal) {
        let start = self.members[cluster.start].site.position;
        let under = start * self.planes..end * self.planes;
        let mut residual = std::mem::take(&mut self.residual);
        widen(&signal.values()[under.clone()], &mut residual[under.clone()]);
        for member in &self.members[cluster] {
            self.subtract_member(member, member.coefficient, &mut residual);
        }
        self.scan.set_residual(start, &residual[under]);
        self.residual = residual;
        self.changed.push((start, end));
    }

    fn subtract_member(&self, member: &Member, coefficient: f64, residual: &mut [f64]) {
        if coefficient > 0.0 {
            let window = residual[member.site.position * self.planes..].iter_mut();
            for (residual, value) in window.zip(self.values_of(member)) {
                *residual -= coefficient * value;
            }
        }
    }

    fn primal(&self, coefficient: impl Fn(&Member) -> f64) -> f64 {
        let penalty: f64 = self.members.iter().map(|member| member.lambda * coefficient(member)).sum();
        0.5 * dot(&self.residual, &self.residual) + penalty
    }

    /// Returns the value of the dual point σr: σΣr·y − ½σ²Σr², σ ≤ 1 the largest factor with σg ≤ λ.
    fn dual(&self, pass: &Pass, signal: &Signal) -> f64 {
        let factor = 1.0 / pass.ratio;
        let squares = dot(&self.residual, &self.residual);
        factor * dot(&self.residual, signal.values()) - 0.5 * factor * factor * squares
    }

    /// Returns the duality gap; where a place without a penalty would gain, so that no dual point but 0 is at
    /// hand, the violation of the optimality conditions, Σ c·|λ − g| + max(g − λ, 0)·Σc.
    fn gap(&self, pass: &Pass, signal: &Signal) -> f64 {
        if pass.unbounded {
            return self.violation(pass);
        }
        (self.primal(|member| member.coefficient) - self.dual(pass, signal)).max(0.0)
    }

    fn violation(&self, pass: &Pass) -> f64 {
        let total: f64 = self.members.iter().map(|member| member.coefficient).sum();
        if total == 0.0 {
            return f64::INFINITY;
        }
        let slack = |member: &Member| member.coefficient * (member.lambda - self.correlation(member)).abs();
        self.members.iter().map(slack).sum::<f64>() + pass.excess * total
    }

    /// Rounds the coefficients to 32 bits and certifies what is returned: the gap is that of the rounded ones.
    fn finish(&mut self, pass: &Pass, signal: &Signal, steps: u32, enough: f64) -> Fit {
        let violation = pass.unbounded.then(|| self.violation(pass));
        let dual = self.dual(pass, signal);
        let mut residual = std::mem::take(&mut self.residual);
        widen(signal.values(), &mut residual);
        let rounded = |member: &Member| f64::from(member.coefficient as f32);
        for member in &self.members {
            self.subtract_member(member, rounded(member), &mut residual);
        }
        self.residual = residual;
        let gap = violation.unwrap_or_else(|| (self.primal(rounded) - dual).max(0.0));
        let length = signal.length() as f64;
        let coefficients = self.members.iter().filter(|member| rounded(member) > 0.0);
        Fit {
            coefficients: coefficients
                .map(|member| Coefficient {
                    filter: member.site.filter,
                    position: member.site.position,
                    value: member.coefficient as f32,
                })
                .collect(),
            nll: 0.5 * dot(&self.residual, &self.residual) / length,
            dual_gap: gap / length,
            num_steps: steps,
            step_size: f32::NAN,
            outcome: if gap <= enough { Outcome::Converged } else { Outcome::TimedOut },
        }
    }
}

/// Returns Σ a·b in four partial sums.
fn dot<B: Copy + Into<f64>>(a: &[f64], b: &[B]) -> f64 {
    let mut sums = [0.0; 4];
    let (a, rest_a) = a.as_chunks::<4>();
    let (b, rest_b) = b.as_chunks::<4>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane].into();
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, &b)| a * b.into()).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn widen(values: &[f32], target: &mut [f64]) {
    target.iter_mut().zip(values).for_each(|(target, &value)| *target = f64::from(value));
}
