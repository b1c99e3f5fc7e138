//! Whether the agent keeps up, and whether its node should be used.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::model::NodeView;
use crate::reconcile::Progress;

/// How long a change may wait for a sync: twice kube-proxy's `syncPeriod` (B93).
pub const LATE: Duration = Duration::from_secs(60);

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// By the clock that only goes forward.
    pub instant: Instant,
    /// By the one on the wall.
    pub wall: Timestamp,
}

impl Clock {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    /// The time on the wall at `then`.
    #[must_use]
    pub fn wall_at(&self, then: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(self.instant.saturating_duration_since(then));
        self.wall.checked_sub(ago.unwrap_or_default()).unwrap_or(self.wall)
    }
}

/// What the verdict follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The changes of both families.
    pub families: &'a [Progress; 2],
    /// When the agent began.
    pub started: Instant,
    /// Now.
    pub now: Clock,
}

/// The answer to `/livez`, and with `nodeEligible` to `/healthz` (B90, B92).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Now if all is well, else when the last sync was completed.
    pub last_updated: String,
    /// Now.
    pub current_time: String,
    /// Whether load balancers should use the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_eligible: Option<bool>,
    /// Whether both families keep up.
    pub healthy: bool,
    /// Each of them.
    pub status: Families,
}

/// Both families.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Families {
    /// IPv4.
    #[serde(rename = "IPv4")]
    pub v4: Family,
    /// IPv6.
    #[serde(rename = "IPv6")]
    pub v6: Family,
}

/// One family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Family {
    /// When a sync was completed last, or the agent began.
    pub last_updated: String,
    /// Whether no change has been waiting for too long.
    pub healthy: bool,
}

impl Facts<'_> {
    /// Whether no change has been waiting for too long. What has nothing to do is healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.families.iter().all(|progress| self.keeps_up(progress))
    }

    fn keeps_up(&self, progress: &Progress) -> bool {
        progress.waiting.is_none_or(|since| self.now.instant.saturating_duration_since(since) < LATE)
    }

    fn updated(&self, progress: &Progress) -> Timestamp {
        self.now.wall_at(progress.synced.unwrap_or(self.started))
    }

    /// What to tell. `eligible`: of the node, where that is asked for.
    #[must_use]
    pub fn verdict(&self, eligible: Option<bool>) -> Verdict {
        let [v4, v6] = self.families;
        let family = |progress| Family {
            last_updated: self.updated(progress).to_string(),
            healthy: self.keeps_up(progress),
        };
        let healthy = self.is_healthy();
        let last_updated = if healthy && eligible != Some(false) {
            self.now.wall
        } else {
            self.updated(v4).max(self.updated(v6))
        };
        Verdict {
            last_updated: last_updated.to_string(),
            current_time: self.now.wall.to_string(),
            node_eligible: eligible,
            healthy,
            status: Families { v4: family(v4), v6: family(v6) },
        }
    }
}

/// Whether load balancers should use the node (B91). `expected`: there is a Node object of every node, and the list of
/// them has come; one that is missing has been deleted.
#[must_use]
pub fn is_eligible(node: Option<&NodeView>, expected: bool) -> bool {
    node.map_or(!expected, |node| !node.is_leaving())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(waiting: Option<Instant>, synced: Option<Instant>) -> Progress {
        Progress { waiting, synced, ..Progress::default() }
    }

    #[test]
    fn b90_b92_b93_a_family_is_unhealthy_when_a_change_waits_too_long() {
        let started = Instant::now();
        let at = |seconds| Some(started + Duration::from_secs(seconds));
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let wall = |seconds| (begin + SignedDuration::from_secs(seconds)).to_string();
        let now = Clock {
            instant: started + Duration::from_secs(100),
            wall: begin + SignedDuration::from_secs(100),
        };
        for (case, v4, v6, healthy, updated) in [
            ("nothing has ever come", (None, None), (None, None), [true; 2], 100),
            ("idle since long", (None, at(1)), (None, at(2)), [true; 2], 100),
            ("a change waits, not for long", (at(41), at(1)), (None, at(2)), [true; 2], 100),
            ("for too long", (at(40), at(30)), (None, at(2)), [false, true], 30),
            ("for too long, the other family", (None, at(3)), (at(1), None), [true, false], 3),
            ("both", (at(5), at(3)), (at(6), at(4)), [false; 2], 4),
            ("the first sync never ends", (at(5), None), (at(5), None), [false; 2], 0),
            ("a change of the future", (at(200), None), (None, None), [true; 2], 100),
        ] {
            let families = [progress(v4.0, v4.1), progress(v6.0, v6.1)];
            let facts = Facts { families: &families, started, now };
            let verdict = facts.verdict(None);
            let status = &verdict.status;
            assert_eq!([status.v4.healthy, status.v6.healthy], healthy, "{case}");
            assert_eq!(verdict.healthy, healthy == [true; 2], "{case}");
            assert_eq!(verdict.last_updated, wall(updated), "{case}");
            assert_eq!(status.v4.last_updated, wall(v4.1.map_or(0, |at| (at - started).as_secs() as i64)));
            assert_eq!(verdict.current_time, wall(100));
            assert_eq!(verdict.node_eligible, None);
            let leaving = facts.verdict(Some(false));
            assert_eq!((leaving.healthy, leaving.node_eligible), (verdict.healthy, Some(false)), "{case}");
        }
    }

    #[test]
    fn b90_b92_the_answers_have_kube_proxys_fields() {
        let families = [Progress::default(), Progress::default()];
        let now = Clock { instant: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        let facts = Facts { families: &families, started: now.instant, now };
        let epoch = "1970-01-01T00:00:00Z";
        let family = serde_json::json!({"lastUpdated": epoch, "healthy": true});
        let livez = serde_json::json!({"lastUpdated": epoch, "currentTime": epoch, "healthy": true,
            "status": {"IPv4": family, "IPv6": family}});
        assert_eq!(serde_json::to_value(facts.verdict(None)).unwrap(), livez);
        let mut healthz = livez;
        healthz["nodeEligible"] = false.into();
        assert_eq!(serde_json::to_value(facts.verdict(Some(false))).unwrap(), healthz);
    }

    #[test]
    fn b91_a_node_is_eligible_unless_it_is_to_go() {
        let node = |deleting, taint: &str| NodeView {
            deleting,
            taints: vec!["node.kubernetes.io/unschedulable".into(), taint.into()],
            ..NodeView::default()
        };
        for (node, expected, eligible) in [
            (None, false, true),
            (None, true, false),
            (Some(node(false, "x")), true, true),
            (Some(node(true, "x")), true, false),
            (Some(node(false, "ToBeDeletedByClusterAutoscaler")), false, false),
        ] {
            assert_eq!(is_eligible(node.as_ref(), expected), eligible, "{node:?} {expected}");
        }
    }
}
