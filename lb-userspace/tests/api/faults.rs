//! Servers that break, forget and talk nonsense.

use std::fs;

use serde_json::json;

use super::support::*;

#[test]
fn b17_an_object_that_cannot_be_read_is_named_and_nothing_else_suffers() {
    let mut content = Content::new(true);
    content.objects.insert("services", vec![service("bad", 80_000, 7), service("good", 80, 8)]);
    let mut followed = Followed::of(content);
    followed.expect(&["good:80"]);
    followed.expect_problems(&["Service d/bad: it cannot be read and is left as it was: spec.ports[0].port: invalid value: integer `80000`"]);
    followed.send("services", "MODIFIED", &service("good", 99_999, 101));
    followed.send("services", "MODIFIED", &service("bad", 81, 102));
    followed.expect(&["bad:81", "good:80"]);
    followed.expect_problems(&["Service d/good: it cannot be read"]);
    followed.send("services", "DELETED", &service("good", 99_999, 103));
    followed.expect_problems(&[]);
    followed.expect(&["bad:81"]);
}

#[test]
fn b7_a_broken_watch_goes_on_where_it_was() {
    let mut followed = Followed::of(Content::new(true));
    followed.send("services", "ADDED", &service("a", 80, 101));
    followed.expect(&["a:80"]);
    let torn = followed.watch("services");
    followed.restart(|content| content.version = 101);
    torn.tear();
    followed.send("services", "ADDED", &service("b", 80, 102));
    followed.expect(&["a:80", "b:80"]);
    let asked = followed.fake.asked("services");
    let [_, look, watch] = asked.as_slice() else { panic!("{asked:#?}") };
    assert_eq!((look.get("watch"), look.get("limit")), ("", "1"));
    assert_eq!((watch.get("resourceVersion"), watch.get("sendInitialEvents")), ("101", ""));
}

#[test]
fn b7_a_version_that_is_gone_leads_to_a_new_list_that_replaces() {
    for status in [
        json!({"code": 410, "reason": "Expired", "message": "too old resource version"}),
        json!({"code": 504, "reason": "Timeout", "message": "Too large resource version: 101, current: 90"}),
    ] {
        let mut content = Content::new(true);
        content.objects.insert("services", vec![service("gone", 80, 7), service("stays", 80, 8)]);
        let mut followed = Followed::of(content);
        followed.expect(&["gone:80", "stays:80"]);
        let old = followed.watch("services");
        followed.restart(|content| {
            content.objects.insert("services", vec![service("new", 80, 201), service("stays", 80, 8)]);
        });
        old.send(&json!({"type": "ERROR", "object": status}));
        followed.expect(&["new:80", "stays:80"]);
        assert!(followed.connected, "{:?}", followed.problems);
    }
}

#[test]
fn b7_a_version_that_is_refused_leads_to_a_new_list() {
    let mut content = Content::new(true);
    content.objects.insert("services", vec![service("gone", 80, 7)]);
    let mut followed = Followed::with(content, |content, question| {
        match (question.resource(), question.get("watch"), question.get("resourceVersion")) {
            ("services", "true", "100") => refusal(400, "no such resource version"),
            _ => content.answer(question),
        }
    });
    followed.expect(&["gone:80"]);
    let old = followed.watch("services");
    followed.restart(|content| drop(content.objects.insert("services", vec![service("new", 80, 201)])));
    drop(old);
    followed.expect(&["new:80"]);
    assert!(followed.connected, "{:?}", followed.problems);
}

#[test]
fn b7_a_server_that_refuses_all_watches_is_a_problem_though_its_lists_are_taken() {
    let mut content = Content::new(false);
    content.objects.insert("services", vec![service("a", 80, 7)]);
    // Its version says whether it refuses.
    let mut followed =
        Followed::with(content, |content, question| match (question.resource(), question.get("watch")) {
            ("services", "true") if content.version == 100 => refusal(405, "no watches here"),
            _ => content.answer(question),
        });
    followed.expect_problems(&["Service not followed, what is known stays: watches are refused: no watches"]);
    assert!(!followed.connected);
    followed.content.lock().unwrap().objects.insert("services", vec![service("b", 80, 101)]);
    followed.expect(&["b:80"]);
    followed.content.lock().unwrap().version = 102;
    followed.until("it follows", |followed| followed.connected && followed.problems.is_empty());
}

#[test]
fn b7_a_server_that_was_restored_from_a_backup_is_listed_again() {
    let mut content = Content::new(true);
    content.objects.insert("services", vec![service("a", 80, 7)]);
    let mut followed = Followed::of(content);
    followed.send("services", "ADDED", &service("later", 80, 150));
    followed.expect(&["a:80", "later:80"]);
    // The watch ends before its time, and the server knows nothing of its versions from 101 on.
    let old = followed.watch("services");
    followed.restart(|content| content.version = 100);
    drop(old);
    followed.expect(&["a:80"]);
}

#[test]
fn b7_credentials_are_read_again_once_they_are_refused() {
    let mut followed = Followed::with(Content::new(true), |content, question| {
        if question.authorization == "Bearer new" {
            content.answer(question)
        } else {
            refusal(401, "Unauthorized")
        }
    });
    followed.expect_problems(
        &["EndpointSlice, Node, ServiceCIDR, Service not followed"]
            .map(|_| "the credentials are not accepted: Unauthorized (status 401)"),
    );
    assert!(!followed.connected);
    fs::write(followed.dir.path().join("token"), "new").unwrap();
    followed.expect(&[]);
    followed.until("it answers", |followed| followed.connected && followed.problems.is_empty());
}

#[test]
fn b117_a_server_behind_its_own_service_is_a_problem() {
    let mut content = Content::new(true);
    let kubernetes = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "127.0.0.1", "clusterIPs": ["127.0.0.1"], "ports": [{"port": 443}]}});
    content.objects.insert("services", vec![kubernetes]);
    let mut followed = Followed::of(content);
    followed.expect_problems(&["this is the address of Service kubernetes, which Sluice provides itself"]);
}
