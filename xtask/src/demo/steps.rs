//! What the demo shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cluster::Cluster;
use super::report::Report;
use crate::lab::helper::wire::{Answer, Failure, Load, LoadReport, Socket};
use crate::lab::{Agent, Node, Pod, Space, now_ns, wait_for};
use crate::sh;

/// Small tables: one node with four pods does not need the defaults of a big machine.
pub(super) const AGENT_FLAGS: &[&str] = &["--max-flows", "65536"];

pub(super) const HTTP: &str = "python-api-service";
pub(super) const ECHO: &str = "python-api-echo";

/// The addresses of `service.yaml`.
pub(super) const HTTP_ADDRESSES: [SocketAddr; 2] = addresses(80, 0x80, 80);
pub(super) const ECHO_ADDRESSES: [SocketAddr; 2] = addresses(7, 7, 7);

const fn addresses(last: u8, last6: u16, port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, last)), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, last6)), port),
    ]
}

/// How soon a change of a manifest has to be in effect.
const SOON: Duration = Duration::from_secs(3);

/// The scene: a node with its agent, a client pod, and the replicas.
pub(super) struct Demo<'n> {
    pub(super) node: &'n Node,
    pub(super) client: &'n Pod,
    pub(super) cluster: Cluster<'n>,
    pub(super) agent: Option<Agent>,
}

impl Demo<'_> {
    /// Every step, in an order in which each leaves the scene as the next one needs it.
    pub(super) fn all(&mut self, report: &mut Report) {
        report.step("the stable address answers a pod and the host, IPv4 and IPv6 (curl)", || self.answers());
        report.step("300 connections fall on three pods evenly (curl)", || self.even());
        report.step("the UDP Service answers from its stable address", || self.udp());
        report.step("the stable address answers ping, though no interface has it", || self.ping());
        report
            .step("an outside client: NodePort 30080 evenly, LoadBalancer 443 with ClientIP (curl)", || {
                self.outside()
            });
        report.step("a pod turns unready under load: no request lost or late", || self.unready());
        report.step("no pod left: refused at once, everywhere, TCP and UDP", || self.refused());
        report.step("a pod comes back with a new address: used at once", || self.comes_back());
        report.step("ClientIP affinity: a client stays with its pod until that is switched off", || {
            self.affinity()
        });
        report.step("a UDP client keeps its source port while every pod is replaced", || self.rollout());
        report.step("the agent is killed and started again under load: nothing lost", || self.restart());
    }

    pub(super) fn clients(&self) -> [(&'static str, &Space); 2] {
        [("pod", self.client), ("host", self.node.host())]
    }

    fn answers(&self) -> Result<String> {
        let mut answered = 0;
        for (name, client) in self.clients() {
            for to in HTTP_ADDRESSES {
                let bodies =
                    curl(client, &format!("http://{to}/")).with_context(|| format!("from the {name}"))?;
                answered += bodies.len();
            }
        }
        Ok(format!("{answered} of 4 answered"))
    }

    fn even(&self) -> Result<String> {
        let [to, _] = HTTP_ADDRESSES;
        let answers = curl(self.client, &format!("http://{to}/?[1-300]"))?;
        let counts = count(answers.iter().map(|answer| answer.pod.as_str()));
        let text = counts.iter().map(|(pod, count)| format!("{pod} {count}")).collect::<Vec<_>>().join(", ");
        ensure!(counts.len() == 3 && counts.values().all(|count| *count == 100), "{text}");
        Ok(text)
    }

    fn udp(&self) -> Result<String> {
        let mut pods = Vec::new();
        for (name, client) in self.clients() {
            for to in ECHO_ADDRESSES {
                let any = if to.is_ipv4() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                };
                for _ in 0..3 {
                    let socket = client.open_from(Socket::Udp, Some(SocketAddr::new(any, 0)), None)?;
                    let answer = socket.ask_to(to).with_context(|| format!("from the {name} to {to}"))?;
                    ensure!(
                        answer.from == Some(to),
                        "the {name} asked {to} and was answered by {:?}",
                        answer.from
                    );
                    pods.push(answer.pod);
                }
            }
        }
        let counts = count(pods.iter().map(String::as_str));
        ensure!(counts.len() == 3, "only {counts:?} answered");
        Ok(format!("{} of 12 answered, by {} pods", pods.len(), counts.len()))
    }

    fn ping(&self) -> Result<String> {
        let mut received = 0;
        for to in HTTP_ADDRESSES {
            let mut ping = self.client.command("ping");
            let text = sh::read(ping.args(["-c", "3", "-i", "0.1", "-W", "1", &to.ip().to_string()]))?;
            received += text.matches("icmp_seq=").count();
        }
        ensure!(received == 6, "{received} of 6 answered");
        Ok(format!("{received} of 6 answered"))
    }

    fn unready(&self) -> Result<String> {
        let Some(pod) = self.cluster.replicas().last() else { bail!("no replica runs") };
        let mut taken_out = 0;
        let load = self.under_load(Duration::from_secs(10), || {
            std::thread::sleep(Duration::from_secs(4));
            self.cluster.set_ready(pod, false)?;
            self.wait_listed(HTTP, pod, false)?;
            taken_out = now_ns();
            Ok(())
        })?;
        let (before, late) = (load.answered_by(pod.name(), 0), load.answered_by(pod.name(), taken_out));
        self.cluster.set_ready(pod, true)?;
        self.wait_listed(HTTP, pod, true)?;
        let text = format!("{}, late {late}, {} answered {before} before", summary(&load), pod.name());
        ensure!(load.failed.is_empty() && late == 0 && before > 0 && load.sent() >= 3000, "{text}");
        Ok(text)
    }

    fn refused(&mut self) -> Result<String> {
        let last: Vec<_> = self.cluster.replicas().iter().map(|pod| pod.ipv4().to_string()).collect();
        self.cluster.scale_to_zero()?;
        for service in [HTTP, ECHO] {
            self.wait_shown(service, |text| last.iter().all(|addr| !text.contains(addr)))?;
        }
        let (mut refused, mut slowest) = (0, 0);
        for (name, client) in self.clients() {
            for (socket, addresses) in [(Socket::Tcp, HTTP_ADDRESSES), (Socket::Udp, ECHO_ADDRESSES)] {
                for to in addresses {
                    match client.ask(socket, to) {
                        Err(failure) if failure.refused_at_once() => {
                            refused += 1;
                            slowest = slowest.max(failure.took_ms);
                        }
                        other => bail!("{socket:?} from the {name} to {to}: {}", outcome(&other)),
                    }
                }
            }
        }
        Ok(format!("{refused} of 8 refused, the slowest after {slowest} ms"))
    }

    fn comes_back(&mut self) -> Result<String> {
        self.cluster.scale_up(1)?;
        let Some(pod) = self.cluster.replicas().last() else { bail!("no replica runs") };
        let (start, [to, _]) = (Instant::now(), HTTP_ADDRESSES);
        wait_for(SOON, || curl(self.client, &format!("http://{to}/")).is_ok())
            .context("the new address is not used")?;
        let waited = start.elapsed().as_millis();
        for (name, client) in self.clients() {
            for to in HTTP_ADDRESSES {
                let answers =
                    curl(client, &format!("http://{to}/")).with_context(|| format!("from the {name}"))?;
                ensure!(answers.iter().all(|answer| answer.pod == pod.name()), "answered: {answers:?}");
            }
        }
        Ok(format!(
            "{} at {} and {} answers, {waited} ms after its manifest",
            pod.name(),
            pod.ipv4(),
            pod.ipv6()
        ))
    }

    fn restart(&mut self) -> Result<String> {
        let Some(agent) = self.agent.take() else { bail!("no agent runs") };
        let mut again = None;
        let load = self.under_load(Duration::from_secs(5), || {
            std::thread::sleep(Duration::from_secs(1));
            agent.kill()?;
            std::thread::sleep(Duration::from_secs(1));
            again = Some(Agent::start(self.node, AGENT_FLAGS)?);
            Ok(())
        });
        self.agent = again;
        let load = load?;
        ensure!(load.failed.is_empty() && load.pods.len() == 3, "{}", summary(&load));
        Ok(summary(&load))
    }

    /// Eight clients at once in the client pod for `time`, `work` in their midst.
    fn under_load(&self, time: Duration, work: impl FnOnce() -> Result<()>) -> Result<LoadReport> {
        let ([to, _], start) = (HTTP_ADDRESSES, Instant::now());
        self.client.start_load(Load { to, clients: 8, rate: 400 })?;
        let worked = work();
        std::thread::sleep(time.saturating_sub(start.elapsed()));
        let load = self.client.stop_load()?;
        worked.map(|()| load)
    }

    /// Starts the replicas that are missing, and waits until they are used.
    pub(super) fn all_replicas(&mut self) -> Result<()> {
        self.cluster.scale_up(self.cluster.wanted())?;
        self.cluster.replicas().iter().try_for_each(|pod| self.wait_listed(HTTP, pod, true))
    }

    pub(super) fn wait_listed(&self, service: &str, pod: &Pod, listed: bool) -> Result<()> {
        let addr = format!("{}:", pod.ipv4());
        self.wait_shown(service, |text| text.contains(&addr) == listed)
    }

    /// Asks `sluice service show` until its answer is as it should be.
    pub(super) fn wait_shown(&self, service: &str, right: impl Fn(&str) -> bool) -> Result<()> {
        wait_for(SOON, || {
            sh::read(&mut self.node.sluice(&["service", "show", service])).is_ok_and(|text| right(&text))
        })
        .with_context(|| format!("sluice service show {service} does not follow the manifests"))
    }
}

/// What curl gets, each line being the answer to one request over a connection of its own.
pub(super) fn curl(client: &Space, url: &str) -> Result<Vec<Answer>> {
    let mut curl = client.command("curl");
    let output = curl.args(["-sSf", "-m", "10", url]).output().context("start curl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("answer {line:?}"))).collect()
}

pub(super) fn count<'a>(pods: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        *counts.entry(pod).or_default() += 1;
    }
    counts
}

fn summary(load: &LoadReport) -> String {
    let first = load.failed.first().map(|(_, error)| format!(" ({error})")).unwrap_or_default();
    format!("sent {}, answered {}, failed {}{first}", load.sent(), load.answered.len(), load.failed.len())
}

fn outcome(result: &Result<Answer, Failure>) -> String {
    match result {
        Ok(answer) => format!("answered by {}", answer.pod),
        Err(failure) => failure.to_string(),
    }
}
