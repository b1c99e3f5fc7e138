//! A figure: what was read of each side, and what was to be reached.

use serde::Serialize;

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Pieces.
    #[serde(rename = "count")]
    Count,
}

impl Unit {
    /// `value`, with as many places as can be told apart from noise.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Millis => format!("{value:.1} ms"),
            Self::Mebibytes => format!("{value:.0} MiB"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// Which of several samples the value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    /// The one in the middle.
    Median,
    /// The one that 99 of 100 do not exceed.
    P99,
    /// The greatest.
    Worst,
}

/// What was read of one side.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Reading {
    /// The value that stands for all.
    pub(super) value: f64,
    /// Which it is.
    pub(super) choice: Choice,
    /// All of them, in the order in which they were taken.
    pub(super) samples: Vec<f64>,
}

impl Reading {
    /// The chosen of `samples`, if there are any.
    pub(super) fn of(choice: Choice, samples: &[f64]) -> Option<Self> {
        let share = match choice {
            Choice::Median => 0.5,
            Choice::P99 => 0.99,
            Choice::Worst => 1.0,
        };
        Some(Self { value: percentile(samples, share)?, choice, samples: samples.to_vec() })
    }

    /// The value in `unit`, with how many samples it is chosen from.
    pub(super) fn text(&self, unit: Unit) -> String {
        let (value, count) = (unit.text(self.value), self.samples.len());
        let worst = unit.text(self.samples.iter().copied().fold(f64::MIN, f64::max));
        match self.choice {
            _ if count == 1 => value,
            Choice::Worst => format!("{value} (worst of {count})"),
            Choice::Median | Choice::P99 => format!("{value} (of {count}; worst {worst})"),
        }
    }
}

/// The least of `samples` that at least `share` (0 to 1) of them do not exceed.
pub(super) fn percentile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// What is to be reached: numbers of the figure's unit, that it must not and should not exceed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Goal {
    /// It must not exceed this.
    pub(super) must: f64,
    /// And should not exceed this.
    pub(super) aim: Option<f64>,
}

/// Whether a goal is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// What must be is exceeded.
    Missed,
    /// What must be is held.
    Held,
    /// The aim as well.
    Aim,
}

impl Verdict {
    /// For people.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Missed => "MISSED",
            Self::Held => "held",
            Self::Aim => "held, aim too",
        }
    }
}

/// One line of the table.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Figure {
    /// Its name for programs.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) title: String,
    /// What its numbers are.
    pub(super) unit: Unit,
    /// What Sluice is to reach, where that is said for this size.
    pub(super) goal: Option<Goal>,
    /// Sluice.
    pub(super) sluice: Option<Reading>,
    /// kube-proxy.
    pub(super) kube_proxy: Option<Reading>,
    /// What nobody can be better than: the same without a proxy.
    pub(super) control: Option<Reading>,
}

impl Figure {
    /// Whether Sluice reaches the goal; `None` where there is none.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let (goal, value) = (self.goal?, self.sluice.as_ref()?.value);
        Some(match goal.aim {
            _ if value > goal.must => Verdict::Missed,
            Some(aim) if value <= aim => Verdict::Aim,
            _ => Verdict::Held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&hundred, 1.0), Some(100.0));
        assert_eq!(percentile(&[3.0, 1.0], 0.5), Some(1.0));
        assert_eq!(percentile(&[7.0], 0.0), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn readings_say_how_many_they_are_chosen_from() {
        let of = |choice, samples: &[f64]| Reading::of(choice, samples).unwrap().text(Unit::Millis);
        assert_eq!(of(Choice::Median, &[4.0]), "4.0 ms");
        assert_eq!(of(Choice::Median, &[-0.25, 9.0, 1.0]), "1.0 ms (of 3; worst 9.0 ms)");
        assert_eq!(of(Choice::Worst, &[1.0, 2.0]), "2.0 ms (worst of 2)");
        assert!(Reading::of(Choice::Worst, &[]).is_none());
    }

    #[test]
    fn goals_are_reached_up_to_the_number_itself() {
        let figure = |value, aim| Figure {
            name: "start",
            title: String::new(),
            unit: Unit::Seconds,
            goal: Some(Goal { must: 3.0, aim }),
            sluice: Reading::of(Choice::Median, &[value]),
            kube_proxy: None,
            control: None,
        };
        assert_eq!(figure(3.01, Some(1.5)).verdict(), Some(Verdict::Missed));
        assert_eq!(figure(3.0, Some(1.5)).verdict(), Some(Verdict::Held));
        assert_eq!(figure(1.5, Some(1.5)).verdict(), Some(Verdict::Aim));
        assert_eq!(figure(0.0, None).verdict(), Some(Verdict::Held));
        assert_eq!(Figure { goal: None, ..figure(1.0, None) }.verdict(), None);
    }
}
