//! The command line as people and scripts meet it. No root, no datapath: what is there without either.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

const OBJECTS: [&str; 16] = [
    "service",
    "backend",
    "flow",
    "affinity",
    "event",
    "stats",
    "map",
    "prog",
    "link",
    "status",
    "doctor",
    "bench",
    "cleanup",
    "version",
    "completion",
    "agent",
];
/// Those that need a datapath for their answer.
const READERS: [&str; 9] =
    ["service", "backend", "flow", "affinity", "event", "stats", "map", "prog", "link"];
const NOWHERE: &str = "/nonexistent/sluice";

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

fn sluice(line: &str) -> Output {
    command(line).output().expect("the binary runs")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).expect("text")
}

/// The message of an answer that is one JSON object with nothing but `error`, and nothing else anywhere.
fn json_error(line: &str, status: i32) -> String {
    let output = sluice(line);
    assert_eq!(output.status.code(), Some(status), "{line}");
    assert_eq!(stderr(&output), "", "{line}");
    let Value::Object(object) = serde_json::from_str(stdout(&output)).expect("JSON") else {
        panic!("{line}: no object: {}", stdout(&output));
    };
    assert_eq!(object.keys().collect::<Vec<_>>(), ["error"], "{line}");
    object["error"].as_str().expect("a text").to_owned()
}

#[test]
fn every_object_has_help_in_three_spellings() {
    for object in OBJECTS.iter().chain(&["svc"]) {
        let texts =
            [format!("{object} help"), format!("{object} -h"), format!("help {object}")].map(|line| {
                let output = sluice(&line);
                assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
                assert_eq!(stderr(&output), "", "{line}");
                stdout(&output).to_owned()
            });
        assert!(texts[0].contains("Usage: sluice"), "{}", texts[0]);
        assert!(texts[0].contains("--json") && texts[0].contains("--pin-dir"), "{}", texts[0]);
        assert_eq!(texts[0], texts[1], "{object}");
    }
}

#[test]
fn help_names_every_object_and_its_flags() {
    let output = sluice("help");
    assert_eq!(output.status.code(), Some(0));
    for object in OBJECTS {
        assert!(stdout(&output).contains(&format!("\n  {object} ")), "{object}: {}", stdout(&output));
    }
    let flow = sluice("flow help");
    for flag in ["--service", "--backend", "--client", "--port", "--proto", "--count", "--limit"] {
        assert!(stdout(&flow).contains(flag), "{flag}: {}", stdout(&flow));
    }
    assert!(stdout(&sluice("service help")).contains("--namespace"));
    assert!(stdout(&sluice("stats help")).contains("--all"));
    assert!(stdout(&sluice("agent help")).contains("--manifests"));
}

#[test]
fn wrong_usage_ends_with_2() {
    for line in [
        "",
        "nonsense",
        "service nonsense",
        "service --nonsense",
        "service show a b",
        "service show a/b/c",
        "backend show 10.0.0.0.1",
        "backend show 10.0.0.1:http",
        "flow list --port 65536",
        "flow list --proto icmp",
        "flow list --client here",
        "flow list --backend :80",
        "flow list --limit -1",
        "event --reason flow_opened",
        "event --address here",
        "affinity show here",
        "affinity --client here",
        "map show a b",
        "bench nonsense",
        "bench prog-ns --rounds 0",
        "cleanup now",
        "version --pin-dir",
        "completion",
        "completion tcsh",
        "agent --nonsense",
        "agent --manifests /m --socket-lb none",
        "agent --config /nonexistent",
    ] {
        let output = sluice(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(stdout(&output), "", "{line}");
        assert!(!stderr(&output).is_empty(), "{line}");
        for flag in ["-j", "-p"] {
            let message = json_error(&format!("{flag} {line}"), 2);
            assert!(!message.is_empty() && !message.starts_with("error"), "{line}: {message}");
        }
    }
}

#[test]
fn a_refusal_under_json_is_json_wherever_the_flag_stands() {
    for line in [
        "-j service nonsense",
        "service -j nonsense",
        "service nonsense -j",
        "service nonsense --json",
        "service nonsense --pretty",
    ] {
        assert!(json_error(line, 2).contains("nonsense"), "{line}");
    }
}

#[test]
fn without_a_datapath_the_error_names_the_directory() {
    for object in READERS {
        for command in ["", "list", "show"] {
            if (object, command) == ("stats", "list") {
                continue;
            }
            let line = format!("{object} {command} --pin-dir {NOWHERE}");
            let output = sluice(&line);
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert_eq!(stdout(&output), "", "{line}");
            let expected = format!(
                "error: no datapath is installed under {NOWHERE}: is an agent running with this --pin-dir?\n"
            );
            assert_eq!(stderr(&output), expected, "{line}");
            let message = json_error(&format!("-j {line}"), 1);
            assert_eq!(format!("error: {message}\n"), expected, "{line}");
        }
    }
}

#[test]
fn global_options_stand_before_or_after() {
    for line in [
        "-j --pin-dir /a/b service list",
        "service -j --pin-dir /a/b list",
        "service list --pin-dir=/a/b -j",
        "-p svc --pin-dir /a/b",
    ] {
        assert!(json_error(line, 1).contains("under /a/b:"), "{line}");
    }
}

#[test]
fn version_tells_what_the_binary_is() {
    let output = sluice("version");
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")), "{}", stdout(&output));
    for line in ["-j version", "version -j", "version show --pretty"] {
        let json: Value = serde_json::from_slice(&sluice(line).stdout).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"), "{line}");
        assert_eq!(json["schema"], lb_common::SCHEMA, "{line}");
        assert!(json["programs_embedded"].is_boolean(), "{line}");
    }
    let output = sluice("--version");
    assert_eq!(stdout(&output), concat!("sluice ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn status_answers_without_an_agent_and_without_a_datapath() {
    let output = sluice(&format!("status --pin-dir {NOWHERE}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("not running"), "{}", stdout(&output));
    let json: Value =
        serde_json::from_slice(&sluice(&format!("-j status --pin-dir {NOWHERE}")).stdout).unwrap();
    assert_eq!(json["running"], false);
    assert_eq!(json["synced"], false);
    assert_eq!(json["pin_dir"], NOWHERE);
}

#[test]
fn cleanup_of_nothing_is_done() {
    let line = format!("cleanup --pin-dir {NOWHERE}");
    let output = sluice(&line);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("nothing is installed under {NOWHERE}\n"));
    let json: Value = serde_json::from_slice(&sluice(&format!("-j {line}")).stdout).unwrap();
    assert_eq!(json["removed"], false);
}

#[test]
fn a_closed_pipe_is_no_error() {
    for line in ["version", "-j version", "help", "version help", "status --pin-dir /nonexistent"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(line).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{line}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = command("version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("No space left"), "{}", stderr(&output));
}

#[test]
fn completions_know_every_object_and_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = sluice(&format!("completion {shell}"));
        assert_eq!(output.status.code(), Some(0), "{shell}: {}", stderr(&output));
        for word in OBJECTS.iter().chain(&["svc", "list", "show", "pin-dir", "socket-lb"]) {
            assert!(stdout(&output).contains(word), "{shell}: {word}");
        }
    }
}

/// What is shown of a page: no requests, and characters as they are.
fn shown(page: &str) -> String {
    let text: Vec<_> = page.lines().filter(|line| !line.starts_with('.')).collect();
    let escapes = [
        ("\\-", "-"),
        ("\\&", ""),
        ("\\*(Aq", "'"),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\\\", "\\"),
    ];
    escapes.into_iter().fold(text.join("\n"), |text, (escape, is)| text.replace(escape, is))
}

/// The text however its lines are broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_object_has_a_man_page_with_the_examples_of_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let output = sluice(&format!("-j man {}", pages.display()));
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let list: Value = serde_json::from_str(stdout(&output)).unwrap();
    let page = |name: &str| {
        let path = pages.join(format!("{name}.1"));
        assert!(
            list["pages"].as_array().unwrap().iter().any(|page| page == path.to_str().unwrap()),
            "{list}"
        );
        shown(&std::fs::read_to_string(path).unwrap())
    };
    let main = page("sluice");
    assert_eq!(list["pages"].as_array().unwrap().len(), OBJECTS.len() + 1);
    for object in OBJECTS {
        assert!(main.contains(&format!("sluice-{object}(1)")), "{object}: {main}");
        let (page, help) = (page(&format!("sluice-{object}")), sluice(&format!("{object} help")));
        assert!(page.contains("--pin-dir"), "{object}: {page}");
        let Some((_, examples)) = stdout(&help).split_once("Examples:\n") else {
            assert_eq!(object, "version", "has no examples");
            continue;
        };
        assert!(words(&page).contains(&words(examples)), "{object}: {examples} is not in {page}");
    }
    assert!(page("sluice-service").contains("show [NAMESPACE/]NAME"), "{}", page("sluice-service"));
}
