//! The role: an agent without each of its permissions in turn.

use std::fs;

use serde_json::{Value, json};
use xtask::kube::{Cluster, Namespace};
use xtask::lab::{Agent, Machine};
use xtask::sh;

use super::chart::{SERVER, objects, render};
use super::taken::Taken;
use crate::support::{cluster, eventually, told};

/// Who the agent is.
const NAMESPACE: &str = "role";
const ACCOUNT: &str = "agent";

/// What a role permits: API group, resource, verb.
type Permission = [String; 3];

/// What the chart's role permits.
fn permissions() -> Vec<Permission> {
    let role = objects(&render(&[SERVER]).unwrap()).remove("ClusterRole").unwrap();
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut all = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                all.extend(
                    texts(&rule["verbs"]).into_iter().map(|verb| [group.clone(), resource.clone(), verb]),
                );
            }
        }
    }
    all
}

/// A machine whose agent's account has a role of its own.
struct Subject<'a> {
    cluster: &'a Cluster,
    machine: &'a Machine,
    namespace: Namespace<'a>,
}

impl Subject<'_> {
    /// Makes account, role and credentials.
    fn prepare(&self) {
        let plane = self.cluster.plane();
        let (account, kind) = (json!({"namespace": NAMESPACE, "name": ACCOUNT}), "ServiceAccount");
        let subject = json!({"kind": kind, "namespace": NAMESPACE, "name": ACCOUNT});
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "role-test"});
        for object in [
            json!({"apiVersion": "v1", "kind": kind, "metadata": account}),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "role-test"}, "roleRef": role, "subjects": [subject],
            }),
        ] {
            plane.apply(&object).unwrap();
        }
        let kubeconfig = plane.account_kubeconfig(NAMESPACE, ACCOUNT).unwrap();
        fs::rename(kubeconfig, self.cluster.spare_kubeconfig(self.machine.name())).unwrap();
    }

    /// Has the role permit all of these but `missing`, and waits until that is in force.
    fn permit(&self, all: &[Permission], missing: Option<&Permission>) {
        let permitted = |it: &Permission| Some(it) != missing;
        let rules = all.iter().filter(|it| permitted(it)).map(
            |[group, resource, verb]| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}),
        );
        let rules: Vec<_> = rules.collect();
        let metadata = json!({"name": "role-test"});
        let api = self.cluster.api();
        api.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules,
        }))
        .unwrap();
        eventually("the role is in force", || match all.iter().find(|it| self.may(it) != permitted(it)) {
            None => Ok(()),
            Some(other) => Err(format!("{other:?} is not yet as it will be")),
        });
    }

    /// Whether the API server permits it to the account.
    fn may(&self, [group, resource, verb]: &Permission) -> bool {
        let spec = json!({
            "user": format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}"),
            "resourceAttributes": {"group": group, "resource": resource, "verb": verb},
        });
        let kind =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let review =
            self.cluster.api().post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &kind).unwrap();
        review["status"]["allowed"] == true
    }

    /// Takes a permission from an agent that works, has it do what takes that, and waits until its status says what it may
    /// not do.
    fn misses(&self, all: &[Permission], missing: &Permission) {
        let [_, resource, verb] = missing;
        self.permit(all, None);
        let agent =
            Agent::start(self.machine, &["--max-flows", "65536", "--healthz-bind-address", ""]).unwrap();
        let taken = |port| Taken::begin(self.cluster.api(), &self.namespace, self.machine, verb, port);
        let denied = format!("cannot {verb} resource \"{resource}\"");
        let is_told = || {
            let status = self.machine.sluice_json(&["status"]).unwrap_or_default();
            let problems = status["problems"].as_array().into_iter().flatten();
            let mut texts = problems.filter_map(|problem| problem["text"].as_str());
            let is_told = texts.any(|text| text.contains(&denied));
            if is_told { Ok(()) } else { Err(format!("{status}\n{}", agent.log())) }
        };
        let what = format!("{verb} {resource} is missed");
        match (resource.as_str(), verb.as_str()) {
            ("events", "patch") => {
                let taken = taken(30_041);
                told("an Event", || match taken.said()? {
                    0 => Err(agent.log()),
                    _ => Ok(()),
                });
                self.permit(all, Some(missing));
                taken.end();
                eventually("nothing is wrong with it", || {
                    let status = self.machine.sluice_json(&["status"]).unwrap_or_default().to_string();
                    if status.contains(":30041") { Err(status) } else { Ok(()) }
                });
                taken.again();
                told(&what, is_told);
            }
            ("events", _) => {
                self.permit(all, Some(missing));
                let _taken = taken(30_042);
                told(&what, is_told);
            }
            _ => {
                self.permit(all, Some(missing));
                // After a break the agent lists, to see where the server stands, and then watches.
                sh::read(self.machine.host().command("ss").args(["--kill", "dst", "172.18.0.10"])).unwrap();
                eventually(&what, is_told);
            }
        }
    }
}

#[test]
fn b116_an_agent_misses_each_permission_of_the_role() {
    let subject = Subject {
        cluster: cluster(),
        machine: cluster().spare("role").unwrap(),
        namespace: cluster().namespace(NAMESPACE).unwrap(),
    };
    subject.prepare();
    let all = permissions();
    assert_eq!(all.len(), 10);
    for missing in &all {
        subject.misses(&all, missing);
    }
}
