//! Steps about clients that come again: who keeps its pod, and who has to leave it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::steps::{Demo, ECHO_ADDRESSES, HTTP, HTTP_ADDRESSES, count, curl};
use crate::lab::Space;

/// The source port of the clients that never change it, as a resolver's may be.
const FIXED_PORT: u16 = 5353;

impl Demo<'_> {
    pub(super) fn affinity(&mut self) -> Result<String> {
        self.all_replicas()?;
        let [to, _] = HTTP_ADDRESSES;
        let url = format!("http://{to}/?[1-15]");
        self.cluster.set_affinity(HTTP, "ClientIP")?;
        self.wait_shown(HTTP, |text| text.contains("ClientIP"))?;
        let mut kept = Vec::new();
        for (name, client) in self.clients() {
            let answers = curl(client, &url).with_context(|| format!("from the {name}"))?;
            let pods = count(answers.iter().map(|answer| answer.pod.as_str()));
            ensure!(pods.len() == 1, "the {name} was answered by {pods:?}");
            kept.extend(pods.into_iter().map(|(pod, times)| format!("{name}: {pod} {times}")));
        }
        self.cluster.set_affinity(HTTP, "None")?;
        self.wait_shown(HTTP, |text| !text.contains("ClientIP"))?;
        let answers = curl(self.client, &url)?;
        let pods = count(answers.iter().map(|answer| answer.pod.as_str()));
        ensure!(pods.len() == 3, "without affinity answered by {pods:?}");
        Ok(format!("{}; then {} pods", kept.join(", "), pods.len()))
    }

    pub(super) fn rollout(&mut self) -> Result<String> {
        self.all_replicas()?;
        let replaced = self.cluster.replicas().len();
        let (client, host) = (self.client, self.node.host());
        let ([to, _], over) = (ECHO_ADDRESSES, AtomicBool::new(false));
        let (rolled, asked) = thread::scope(|scope| {
            let askers =
                [client, host].map(|space: &Space| scope.spawn(|| space.ask_until(FIXED_PORT, to, &over)));
            let rolled = (0..replaced).try_for_each(|_| self.replace_oldest());
            over.store(true, Ordering::Relaxed);
            (rolled, askers.map(thread::ScopedJoinHandle::join))
        });
        rolled?;
        let (mut sent, mut pods) = (0, Vec::new());
        for asked in asked {
            let Ok(asked) = asked else { bail!("a client panicked") };
            let answered = asked?;
            sent += answered.len();
            pods.extend(answered);
        }
        let pods = count(pods.iter().map(|answer| answer.pod.as_str()));
        ensure!(pods.len() > replaced, "only {pods:?} answered");
        Ok(format!("{sent} datagrams from port {FIXED_PORT}, all answered, by {} pods", pods.len()))
    }

    /// One step of a rolling update: a new pod, then the end of the oldest, which still answers what it had.
    fn replace_oldest(&mut self) -> Result<()> {
        self.cluster.scale_up(self.cluster.replicas().len() + 1)?;
        if let Some(pod) = self.cluster.replicas().last() {
            self.wait_listed(HTTP, pod, true)?;
        }
        if let Some(pod) = self.cluster.replicas().first() {
            self.cluster.set_ready(pod, false)?;
            self.wait_listed(HTTP, pod, false)?;
        }
        thread::sleep(Duration::from_millis(300));
        self.cluster.delete_oldest()
    }
}
