//! What is written about metrics, and what the metrics server says without a datapath.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lb_common::Reason;
use lb_common::maps;
use lb_userspace::bpf::pin::PinDir;
use lb_userspace::http;
use lb_userspace::metrics::{ALL, Exporter, Facts, Metrics};

use crate::support::{Fake, get};

fn written(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_page_of_metrics_is_the_table_of_them() {
    let page = written("docs/metrics.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected = ALL.iter().map(|metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        format!("| `{}` | {kind} | {} | {} | {} |", metric.name, labels.join(", "), metric.unit, metric.help)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

/// The words of `text` that are names of metrics, of those that Sluice tells.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    let ours = ["kubeproxy_", "rest_client_", "sluice_", "process_"];
    words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// What stands between the quotes of each `LABEL="…"` and its kin.
fn values<'a>(text: &'a str, label: &str) -> impl Iterator<Item = &'a str> {
    let places = text.match_indices(label).filter_map(move |(at, _)| {
        let rest = text.get(at + label.len()..).filter(|rest| rest.starts_with(['=', '!']))?;
        let rest = rest.trim_start_matches(['=', '!', '~', '\\']);
        rest.strip_prefix('"')?.split(['"', '\\']).next()
    });
    places.flat_map(|value| value.split('|'))
}

#[test]
fn alerts_and_dashboard_name_metrics_and_labels_that_there_are() {
    for file in ["deploy/monitoring/alerts.yaml", "deploy/monitoring/dashboard.json"] {
        let text = written(file);
        let names = named(&text);
        assert!(names.len() > 15, "{file}");
        for name in names {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let found = ALL.iter().any(|metric| {
                let histogram = format!("{:?}", metric.kind) == "HISTOGRAM";
                metric.name == name && !histogram || histogram && Some(metric.name) == base
            });
            assert!(found, "{file} names {name}");
        }
        for reason in values(&text, "reason") {
            assert!(Reason::ALL.iter().any(|known| known.name() == reason), "{file}: {reason}");
        }
        for effect in values(&text, "effect") {
            assert!(Reason::ALL.iter().any(|known| known.effect().name() == effect), "{file}: {effect}");
        }
        for map in values(&text, "map") {
            let like = |spec: &maps::MapSpec| {
                spec.name == map || map.ends_with('.') && spec.name.starts_with(map.trim_end_matches('.'))
            };
            assert!(maps::ALL.iter().any(like), "{file}: {map}");
        }
    }
    assert!(serde_json::from_str::<serde_json::Value>(&written("deploy/monitoring/dashboard.json")).is_ok());
    let rules: serde_json::Value = serde_saphyr::from_str(&written("deploy/monitoring/alerts.yaml")).unwrap();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        for key in ["alert", "expr"] {
            assert!(rule[key].is_string(), "{rule}");
        }
        assert!(
            rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string(),
            "{rule}"
        );
    }
}

#[tokio::test]
async fn b94_the_metrics_server_has_kube_proxys_paths() {
    let fake = Fake::new();
    fake.reports.send_modify(|report| report.operations = 7);
    let exporter = Exporter::new(PinDir::new("/nowhere"), fake.health.clone(), None, Facts::default);
    let metrics = Metrics::new(exporter, &serde_json::json!({"flags": {}})).unwrap();
    let listener = http::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(http::serve(listener, move |path| metrics.clone().answer(path)));
    for (path, kind, expected) in [
        ("/healthz", "text/plain; charset=utf-8", "ok"),
        ("/proxyMode", "text/plain; charset=utf-8", "ebpf"),
        ("/configz", "application/json", r#"{"sluice":{"flags":{}}}"#),
    ] {
        let (head, body) = get(addr, path).await.unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("content-type: {kind}")),
            "{head}"
        );
        assert_eq!(body, expected, "{path}");
    }
    let (head, body) = get(addr, "/metrics").await.unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(
        body.contains(
            "\n# TYPE sluice_reconcile_operations_total counter\nsluice_reconcile_operations_total 7\n"
        ),
        "{body}"
    );
    assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    assert!(get(addr, "/debug/pprof").await.unwrap().0.starts_with("HTTP/1.1 404 "));
    // Who asks all at once waits for one reading of the maps, and is answered.
    let all = futures::future::join_all((0..40).map(|_| get(addr, "/metrics"))).await;
    assert!(
        all.iter().all(|answer| answer.as_ref().is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200 ")))
    );
}
