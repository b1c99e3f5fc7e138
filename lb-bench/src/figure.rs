//! A figure: what was read of each side, and what was to be reached.

use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Pieces.
    #[serde(rename = "count")]
    Count,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanos,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
    /// Pieces per second.
    #[serde(rename = "/s")]
    Rate,
    /// Millions of packets per second.
    #[serde(rename = "Mpps")]
    Mpps,
    /// 10^9 bits per second.
    #[serde(rename = "Gbit/s")]
    Gbits,
    /// Parts of a hundred.
    #[serde(rename = "percent")]
    Percent,
    /// How many times another number.
    #[serde(rename = "ratio")]
    Ratio,
}

impl Unit {
    /// `value`, with as many places as can be told apart from noise.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Millis => format!("{value:.1} ms"),
            Self::Mebibytes => format!("{value:.0} MiB"),
            Self::Bytes => format!("{value:.0} bytes"),
            Self::Count => format!("{value:.0}"),
            Self::Nanos => format!("{value:.0} ns"),
            Self::Micros => format!("{value:.1} us"),
            Self::Rate => format!("{value:.0} /s"),
            Self::Mpps => format!("{value:.2} Mpps"),
            Self::Gbits => format!("{value:.2} Gbit/s"),
            Self::Percent => format!("{value:.2} %"),
            Self::Ratio => format!("{value:.2}"),
        }
    }
}

/// Which of several samples the value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The least.
    Least,
    /// The one in the middle.
    Median,
    /// The one that 99 of 100 do not exceed.
    P99,
    /// The greatest.
    Worst,
}

/// What was read of one side.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// The value that stands for all.
    pub value: f64,
    /// Which it is.
    pub choice: Choice,
    /// Where the median of the samples is with 95 % confidence; `None`: nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// All of them, in the order in which they were taken.
    pub samples: Vec<f64>,
}

impl Reading {
    /// The chosen of `samples`, if there are any.
    #[must_use]
    pub fn of(choice: Choice, samples: &[f64]) -> Option<Self> {
        let share = match choice {
            Choice::Least => 0.0,
            Choice::Median => 0.5,
            Choice::P99 => 0.99,
            Choice::Worst => 1.0,
        };
        Some(Self { value: percentile(samples, share)?, choice, interval: None, samples: samples.to_vec() })
    }

    /// The value in `unit`, with its interval, or with how many samples it is chosen from.
    #[must_use]
    pub fn text(&self, unit: Unit) -> String {
        if let Some([low, high]) = self.interval {
            let [low, high] = [low, high].map(|bound| unit.text(bound));
            let median = match (self.choice, percentile(&self.samples, 0.5)) {
                (Choice::Least, Some(median)) => format!("median {}, ", unit.text(median)),
                _ => String::new(),
            };
            return format!("{} ({median}95 % {low} to {high})", unit.text(self.value));
        }
        let (value, count) = (unit.text(self.value), self.samples.len());
        let worst = unit.text(self.samples.iter().copied().fold(f64::MIN, f64::max));
        match self.choice {
            _ if count == 1 => value,
            Choice::Least => format!("{value} (least of {count})"),
            Choice::Worst => format!("{value} (worst of {count})"),
            Choice::Median | Choice::P99 => format!("{value} (of {count}; worst {worst})"),
        }
    }
}

/// The least of `samples` that at least `share` (0 to 1) of them do not exceed; `None` if there are none.
#[must_use]
pub fn percentile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Which numbers are the better ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The lesser.
    #[default]
    Less,
    /// The greater.
    More,
}

/// What is to be reached: numbers of the figure's unit.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// It must be as good as this.
    pub must: f64,
    /// And should be as good as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<f64>,
    /// What is good.
    pub better: Better,
}

impl Goal {
    /// At most `must`, better `aim`.
    #[must_use]
    pub const fn at_most(must: f64, aim: Option<f64>) -> Self {
        Self { must, aim, better: Better::Less }
    }

    /// At least `must`, better `aim`.
    #[must_use]
    pub const fn at_least(must: f64, aim: Option<f64>) -> Self {
        Self { must, aim, better: Better::More }
    }

    fn is_met(self, bound: f64, value: f64) -> bool {
        match self.better {
            Better::Less => value <= bound,
            Better::More => value >= bound,
        }
    }
}

/// Whether a goal is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What must be is not.
    Missed,
    /// What must be is held.
    Held,
    /// The aim as well.
    Aim,
}

impl Verdict {
    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missed => "MISSED",
            Self::Held => "held",
            Self::Aim => "held, aim too",
        }
    }
}

/// One line of the table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Its name for programs.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What its numbers are.
    pub unit: Unit,
    /// What Sluice is to reach, where that is said for this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Sluice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sluice: Option<Reading>,
    /// kube-proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<Reading>,
    /// The same without a proxy, or of one thing measured twice: how much the method itself is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Reading>,
    /// What nobody can be better than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Reading>,
}

impl Figure {
    /// A figure of which nothing has been read.
    #[must_use]
    pub fn new(name: impl Into<String>, title: impl Into<String>, unit: Unit) -> Self {
        let (name, title) = (name.into(), title.into());
        Self { name, title, unit, goal: None, sluice: None, kube_proxy: None, control: None, ceiling: None }
    }

    /// Whether Sluice reaches the goal; `None` where there is none.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let (goal, value) = (self.goal?, self.sluice.as_ref()?.value);
        Some(match goal.aim {
            _ if !goal.is_met(goal.must, value) => Verdict::Missed,
            Some(aim) if goal.is_met(aim, value) => Verdict::Aim,
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
        assert_eq!(of(Choice::Least, &[1.0, 2.0]), "1.0 ms (least of 2)");
        assert!(Reading::of(Choice::Worst, &[]).is_none());
        let reading = Reading::of(Choice::Least, &[4.0, 5.0, 9.0]).unwrap();
        let reading = Reading { interval: Some([4.0, 9.0]), ..reading };
        assert_eq!(reading.text(Unit::Nanos), "4 ns (median 5 ns, 95 % 4 ns to 9 ns)");
    }

    #[test]
    fn goals_are_reached_up_to_the_number_itself() {
        let figure = |value, aim| Figure {
            goal: Some(Goal::at_most(3.0, aim)),
            sluice: Reading::of(Choice::Median, &[value]),
            ..Figure::new("start", "", Unit::Seconds)
        };
        assert_eq!(figure(3.01, Some(1.5)).verdict(), Some(Verdict::Missed));
        assert_eq!(figure(3.0, Some(1.5)).verdict(), Some(Verdict::Held));
        assert_eq!(figure(1.5, Some(1.5)).verdict(), Some(Verdict::Aim));
        assert_eq!(figure(0.0, None).verdict(), Some(Verdict::Held));
        assert_eq!(Figure { goal: None, ..figure(1.0, None) }.verdict(), None);
        let rate = |value| Figure { goal: Some(Goal::at_least(2.0, Some(4.0))), ..figure(value, None) };
        assert_eq!(
            [1.9, 2.0, 4.0].map(|value| rate(value).verdict()),
            [Some(Verdict::Missed), Some(Verdict::Held), Some(Verdict::Aim)]
        );
    }
}
