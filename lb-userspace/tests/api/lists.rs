//! How everything is learnt: streaming lists, ordinary ones, what is asked for.

use lb_userspace::source::Extent;
use serde_json::json;

use super::fake::{Answer, Lines};
use super::support::*;

#[test]
fn b1_b2_b4_b6_a_streaming_list_becomes_a_watch_of_the_right_objects() {
    let mut content = Content::new(true);
    content.objects.insert("services", vec![service("a", 80, 7), service("b", 80, 9)]);
    let mut followed = Followed::of(content);
    followed.expect(&["a:80", "b:80"]);
    assert!(followed.connected && followed.problems.is_empty());
    followed.send("services", "MODIFIED", &service("a", 81, 101));
    followed.send("services", "DELETED", &service("b", 80, 102));
    followed.send("services", "PERHAPS", &service("x", 80, 103));
    followed.send("services", "ADDED", &service("c", 80, 104));
    followed.expect(&["a:81", "c:80"]);
    for (resource, label, field) in [
        ("services", "%21service.kubernetes.io%2Fservice-proxy-name", "spec.clusterIP%21%3DNone"),
        (
            "endpointslices",
            "%21service.kubernetes.io%2Fservice-proxy-name%2C%21service.kubernetes.io%2Fheadless",
            "",
        ),
        ("nodes", "", "metadata.name%3Dn1"),
        ("servicecidrs", "", ""),
    ] {
        // Nodes and ServiceCIDRs may come after everything is whole.
        followed.watch(resource);
        let asked = followed.fake.asked(resource);
        let [question] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(
            (question.get("labelSelector"), question.get("fieldSelector")),
            (label, field),
            "{resource}"
        );
        assert_eq!(question.get("allowWatchBookmarks"), "true");
    }
}

#[test]
fn b6_nothing_is_whole_before_services_and_slices_are_listed() {
    let mut held = None;
    let mut followed = Followed::with(Content::new(true), move |content, question| {
        // The first list of slices never ends.
        if question.resource() == "endpointslices" && held.is_none() {
            let (lines, answer) = Lines::new();
            held = Some(lines.clone());
            content.watches.insert("endpointslices".to_owned(), lines);
            return answer;
        }
        content.answer(question)
    });
    followed.until("the Node is known", |followed| followed.connected);
    followed.send("services", "ADDED", &service("a", 80, 101));
    followed.until("a Service is known", |followed| followed.names == ["a:80"]);
    assert_eq!(followed.extent, Extent::Begun);
    followed.watch("endpointslices").send(&end_of_list(100));
    followed.expect(&["a:80"]);
}

#[test]
fn ordinary_lists_come_in_pages_where_streams_are_refused() {
    let mut content = Content::new(false);
    content.objects.insert("services", vec![service("a", 80, 7)]);
    let mut followed = Followed::with(content, |content, question| {
        if question.resource() != "services" || !question.get("watch").is_empty() {
            return content.answer(question);
        }
        let (metadata, name) = match question.get("continue") {
            "" => (json!({"resourceVersion": "100", "continue": "more/&?"}), "a"),
            "more%2F%26%3F" => (json!({"resourceVersion": "100"}), "b"),
            other => panic!("{other}"),
        };
        let list = json!({"metadata": metadata, "items": [service(name, 80, 7)]});
        Answer::Text(200, list.to_string())
    });
    followed.expect(&["a:80", "b:80"]);
    followed.send("services", "ADDED", &service("c", 80, 101));
    followed.expect(&["a:80", "b:80", "c:80"]);
    let asked = followed.fake.asked("services");
    let [stream, first, second, watch] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(stream.get("sendInitialEvents"), "true");
    assert_eq!((first.get("limit"), second.get("limit")), ("500", "500"));
    assert_eq!((watch.get("watch"), watch.get("resourceVersion")), ("true", "100"));
}

#[test]
fn b5_a_server_without_service_cidrs_is_followed_as_well() {
    let mut followed = Followed::with(Content::new(true), |content, question| match question.resource() {
        "servicecidrs" => Answer::Text(404, "404 page not found\n".to_owned()),
        _ => content.answer(question),
    });
    followed.until("all is told", |followed| followed.extent == Extent::Whole && followed.connected);
    assert!(followed.problems.is_empty(), "{:?}", followed.problems);
}

#[test]
fn what_is_no_api_server_is_not_believed_to_be_empty() {
    let mut followed = Followed::with(Content::new(true), |content, question| match question.resource() {
        "services" => Answer::Text(404, "404 page not found\n".to_owned()),
        "endpointslices" if question.get("watch").is_empty() => {
            Answer::Text(200, json!({"items": []}).to_string())
        }
        "endpointslices" => refusal(400, "what is that?"),
        _ => content.answer(question),
    });
    followed.expect_problems(&[
        "EndpointSlice not followed, what is known stays: missing field `metadata`",
        "Service not followed, what is known stays: the server does not have",
    ]);
    assert_eq!(followed.extent, Extent::Begun);
}
