//! `docs/json.md` against what the commands print.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::{Value, json};
use xtask::lab::helper::wire::Transport;
use xtask::lab::manifest::{list, service};
use xtask::lab::{Node, wait_for};

use crate::support::{Mode, SOON, Svc, WAYS, World};

/// What is said of a key: its type, and whether it may be absent.
#[derive(Clone, Debug)]
struct Field {
    kind: String,
    optional: bool,
}

/// The tables of keys by command; keys of objects in objects are joined by dots, `[]` marks elements of a list.
type Page = BTreeMap<String, BTreeMap<String, Field>>;

fn page() -> Page {
    let text = include_str!("../../../docs/json.md");
    let mut page = Page::new();
    for section in text.split("\n## ").skip(1) {
        let (title, rest) = section.split_once('\n').unwrap();
        let command = title.trim_matches('`').to_owned();
        let mut fields = BTreeMap::new();
        for row in rest.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, key, kind, meaning, absent, _] = cells[..] else { panic!("{command}: {row}") };
            if let Some(other) = meaning.strip_prefix("all of `") {
                fields.extend(page[other.trim_end_matches('`')].clone());
                continue;
            }
            assert!(!meaning.is_empty(), "{command}: {row}");
            let field = Field { kind: kind.to_owned(), optional: !absent.is_empty() };
            fields.insert(key.trim_matches('`').to_owned(), field);
        }
        if command == "service show" {
            let backend = page["backend list"].clone().into_iter();
            fields.extend(backend.map(|(key, field)| (format!("backends[].{key}"), field)));
        }
        let example = rest.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        let example: Value = serde_json::from_str(example).unwrap();
        page.insert(command.clone(), fields);
        Judge::new(&page, &command).answer(&example);
    }
    page
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Object(_) => "object",
        Value::Array(items) => match items.first() {
            None => "list",
            Some(Value::String(_)) => "list of text",
            Some(Value::Number(_)) => "list of numbers",
            Some(_) => "list of objects",
        },
        Value::Null => "null",
    }
}

/// An answer under examination.
struct Judge<'p> {
    command: &'p str,
    fields: &'p BTreeMap<String, Field>,
    /// The keys that it has.
    seen: BTreeSet<String>,
}

impl<'p> Judge<'p> {
    fn new(page: &'p Page, command: &'p str) -> Self {
        Self { command, fields: &page[command], seen: BTreeSet::new() }
    }

    fn answer(&mut self, answer: &Value) {
        match answer {
            Value::Array(rows) => rows.iter().for_each(|row| self.object("", row)),
            object => self.object("", object),
        }
    }

    /// Each key is documented with its type, and each that must be there is.
    fn object(&mut self, prefix: &str, object: &Value) {
        let (command, fields) = (self.command, self.fields);
        let Value::Object(object) = object else { panic!("{command}: {prefix} is no object: {object}") };
        for (key, value) in object {
            let path = format!("{prefix}{key}");
            let field = fields.get(&path).unwrap_or_else(|| panic!("{command}: {path} is not documented"));
            assert!(field.kind.starts_with(kind(value)), "{command}: {path} is {value}, not {}", field.kind);
            match value {
                Value::Object(_) => self.object(&format!("{path}."), value),
                Value::Array(items) if field.kind == "list of objects" => {
                    items.iter().for_each(|item| self.object(&format!("{path}[]."), item));
                }
                _ => {}
            }
            self.seen.insert(path);
        }
        for (path, field) in fields {
            let own = path.strip_prefix(prefix).filter(|key| !key.contains(['.', '[']));
            let absent = own.is_some_and(|key| !field.optional && !object.contains_key(key));
            assert!(!absent, "{command}: {path} is absent in {object:?}");
        }
    }
}

/// Keys that there is no occasion for: the kernel counts runs if it is told to, the agents of the lab follow a folder,
/// packets take no way past the host stack here, no source ports are used up, and conversations take too long: others' tests have
/// them.
const NOT_HERE: [(&str, &str); 8] = [
    ("event list", "backend"),
    ("event list", "backend_port"),
    ("prog list", "run_count"),
    ("prog list", "run_time_ns"),
    ("status", "api_server"),
    ("status", "redirect_peer"),
    ("bench", "rows[].figures[].ceiling.interval"),
    ("bench", "rows[].settings.beside_services"),
];

/// What takes an interface that sends frames of XDP: a unit test has it.
const ELSEWHERE: &str = "bench generate";

/// What `sluice LINE -j` prints.
fn answer(node: &Node, line: &str) -> Value {
    let words: Vec<_> = line.split_whitespace().collect();
    let output = node.sluice(&words).arg("-j").stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A Service with session affinity, one without endpoints, one whose endpoint is where nobody serves, an object that is wrong, and traffic of every kind.
fn occasions(world: &World) -> [Svc<'_>; 3] {
    world.lead_astray();
    let astray = world.service("json-astray", &[&world.remote]);
    let (served, empty) = (world.service("json", &[&world.a]), world.service("json-empty", &[]));
    let mut items = vec![service(&served.name, &served.addresses, &served.ports)];
    items[0]["spec"]["sessionAffinity"] = json!("ClientIP");
    items[0]["metadata"]["annotations"] = json!({"lb.sluice/new-flow-rate": "500"});
    items[0]["spec"]["type"] = json!("LoadBalancer");
    items[0]["spec"]["externalTrafficPolicy"] = json!("Local");
    items[0]["spec"]["loadBalancerSourceRanges"] = json!(["172.18.0.0/16"]);
    items[0]["spec"]["ports"][0]["nodePort"] = json!(30_700);
    items[0]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.70"}]}});
    items.extend(served.slices(&[&world.a]));
    world.node.write(&served.file(), &list(&items)).unwrap();
    world.node.write("wrong.json", &json!({"apiVersion": "v1", "kind": "Service", "metadata": 7})).unwrap();
    let told =
        |line: &str, what: &str| answer(&world.node, line)[what].as_array().is_some_and(|it| !it.is_empty());
    wait_for(SOON, || told("status", "problems")).unwrap();
    wait_for(SOON, || {
        world.everywhere(|_, client, way| {
            let _ = served.ask(client, way);
            let _ = empty.ask(client, way);
        });
        answer(&world.node, "affinity").as_array().is_some_and(|clients| !clients.is_empty())
    })
    .unwrap();
    wait_for(SOON, || answer(&world.node, "stats")["sweep"].is_object()).unwrap();
    // A process of the host listens where a Service has its node port, and a pod reaches itself.
    world.node.host().serve(Transport::Tcp, 30_700, "shadowed").unwrap();
    assert_eq!(served.ask(&world.a, WAYS[0]).unwrap().pod, "a");
    [served, empty, astray]
}

#[test]
fn every_command_prints_what_its_documentation_says() {
    let page = page();
    let world = World::new("json", Mode::Host, &["--sweep-interval", "1"]);
    let node = &world.node;
    let services = occasions(&world);
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut hold = |command, line| {
        let mut judge = Judge::new(&page, command);
        judge.answer(&answer(node, line));
        seen.entry(command).or_default().append(&mut judge.seen);
    };
    for (command, line) in [
        ("service list", "service"),
        ("service show", "service show default/json"),
        ("backend list", "backend"),
        ("flow list", "flow"),
        ("flow list --count", "flow --count"),
        ("affinity list", "affinity"),
        ("event list", "event list"),
        ("stats", "stats --all"),
        ("map list", "map"),
        ("map show", "map show flows4"),
        ("prog list", "prog"),
        ("link list", "link"),
        ("status", "status"),
        ("doctor", "doctor --all"),
        ("bench", "bench prog-ns --rounds 3 --runs 20 --flows 2 --services 2"),
        ("version", "version"),
        ("Error", "service show default/nonexistent"),
        ("Error", "nonsense"),
        ("Error", "cleanup"),
    ] {
        hold(command, line);
    }
    drop(services);
    assert!(world.take_agent().stop().unwrap().success());
    hold("cleanup", "cleanup");
    hold("Error", "service");
    for (command, fields) in page.iter().filter(|(command, _)| *command != ELSEWHERE) {
        let answered = seen.get(command.as_str()).unwrap_or_else(|| panic!("{command} was not tried"));
        let expected = |key: &&String| !NOT_HERE.contains(&(command, key));
        let missing: Vec<_> = fields.keys().filter(expected).filter(|key| !answered.contains(*key)).collect();
        assert!(missing.is_empty(), "{command}: {missing:?} in no answer");
    }
}
