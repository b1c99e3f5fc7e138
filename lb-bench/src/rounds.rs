//! Variants measured in rounds, and what they say of each other.
//!
//! A machine's speed drifts. So each round measures every variant once, in an order of its own, and variants are compared
//! within a round: what is told is the median of the differences, or quotients, with an interval that the bootstrap gives.

use anyhow::Result;

use crate::figure::percentile;
use crate::{Choice, Reading};

/// Medians of resampled samples that an interval is taken from.
const RESAMPLES: usize = 2000;
/// Two-sided 95 %.
const TAILS: [f64; 2] = [0.025, 0.975];

/// Samples of variants, by variant and round.
#[derive(Clone, PartialEq, Debug)]
pub struct Rounds(Vec<Vec<f64>>);

impl Rounds {
    /// Measures each of `variants` once in each of `rounds` rounds, in random order.
    ///
    /// # Errors
    /// The first of `measure`, which gets the number of a variant.
    pub fn take(
        variants: usize,
        rounds: usize,
        mut measure: impl FnMut(usize) -> Result<f64>,
    ) -> Result<Self> {
        let [rounds] = Self::take_all(variants, rounds, |variant| Ok([measure(variant)?]))?;
        Ok(rounds)
    }

    /// As [`Rounds::take`], where several things are read at once.
    ///
    /// # Errors
    /// As there.
    pub fn take_all<const N: usize>(
        variants: usize,
        rounds: usize,
        mut measure: impl FnMut(usize) -> Result<[f64; N]>,
    ) -> Result<[Self; N]> {
        let mut all = std::array::from_fn(|_| Self(vec![Vec::with_capacity(rounds); variants]));
        let mut order: Vec<usize> = (0..variants).collect();
        for _ in 0..rounds {
            fastrand::shuffle(&mut order);
            for &variant in &order {
                for (one, sample) in all.iter_mut().zip(measure(variant)?) {
                    if let Some(samples) = one.0.get_mut(variant) {
                        samples.push(sample);
                    }
                }
            }
        }
        Ok(all)
    }

    /// The samples of a variant, a round each.
    #[must_use]
    pub fn of(&self, variant: usize) -> &[f64] {
        self.0.get(variant).map_or(&[], Vec::as_slice)
    }

    /// What `variant` takes beyond `base`: the difference of the least samples of each, for neighbours on the machine only
    /// ever add. The samples are the differences by round.
    #[must_use]
    pub fn beyond(&self, variant: usize, base: usize) -> Option<Reading> {
        let least = |variant| percentile(self.of(variant), 0.0);
        let value = least(variant)? - least(base)?;
        let samples = self.pairs(variant, base, |one, other| one - other);
        Some(Reading { value, choice: Choice::Least, interval: interval(&samples), samples })
    }

    /// The median of a variant.
    #[must_use]
    pub fn median(&self, variant: usize) -> Option<Reading> {
        let reading = Reading::of(Choice::Median, self.of(variant))?;
        Some(Reading { interval: interval(self.of(variant)), ..reading })
    }

    /// How many times `base` a variant is: the median of the quotients by round.
    #[must_use]
    pub fn over(&self, variant: usize, base: usize) -> Option<Reading> {
        let samples = self.pairs(variant, base, |one, other| one / other);
        let reading = Reading::of(Choice::Median, &samples)?;
        Some(Reading { interval: interval(&samples), ..reading })
    }

    fn pairs(&self, variant: usize, base: usize, compare: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.of(variant).iter().zip(self.of(base)).map(|(one, other)| compare(*one, *other)).collect()
    }
}

/// Where the median of `samples` is, with 95 % confidence; `None` of fewer than three.
fn interval(samples: &[f64]) -> Option<[f64; 2]> {
    if samples.len() < 3 {
        return None;
    }
    // The same samples give the same interval.
    let mut random = fastrand::Rng::with_seed(1);
    let mut resample =
        || -> Vec<f64> { samples.iter().filter_map(|_| random.choice(samples).copied()).collect() };
    let medians: Vec<f64> = (0..RESAMPLES).filter_map(|_| percentile(&resample(), 0.5)).collect();
    let [low, high] = TAILS.map(|share| percentile(&medians, share));
    Some([low?, high?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_measured_once_in_each_round() {
        let mut asked = Vec::new();
        let rounds = Rounds::take(3, 4, |variant| {
            asked.push(variant);
            Ok(asked.len() as f64)
        })
        .unwrap();
        for round in asked.chunks(3) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2]);
        }
        assert!((0..3).all(|variant| rounds.of(variant).len() == 4));
        assert!(rounds.of(3).is_empty());
        let [ones, twos] = Rounds::take_all(2, 2, |variant| Ok([variant as f64, -1.0])).unwrap();
        assert_eq!((ones.of(1), twos.of(0)), ([1.0, 1.0].as_slice(), [-1.0, -1.0].as_slice()));
        assert!(Rounds::take(1, 1, |_| anyhow::bail!("no")).is_err());
    }

    #[test]
    fn variants_are_compared_within_a_round() {
        // Twice as slow from the second round on, both alike.
        let rounds = Rounds(vec![vec![10.0, 20.0, 20.0, 21.0], vec![5.0, 10.0, 10.0, 10.5]]);
        let over = rounds.over(0, 1).unwrap();
        assert_eq!((over.value, over.interval), (2.0, Some([2.0, 2.0])));
        let beyond = rounds.beyond(0, 1).unwrap();
        assert_eq!((beyond.value, beyond.choice), (5.0, Choice::Least));
        assert_eq!(beyond.samples, [5.0, 10.0, 10.0, 10.5]);
    }

    #[test]
    fn intervals_hold_the_median_and_need_samples() {
        let samples: Vec<f64> = (1..=101).map(f64::from).collect();
        let [low, high] = interval(&samples).unwrap();
        assert!((35.0..51.0).contains(&low) && (51.0..=67.0).contains(&high), "{low} {high}");
        assert_eq!(interval(&[1.0, 2.0]), None);
    }
}
