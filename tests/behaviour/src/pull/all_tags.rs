//! Pull of a name without a tag: all that the registry has of it.

use harness::image::Packing;
use harness::{Test, tests};
use serde_json::Value;

use super::{Port, unique};

pub fn tests() -> Vec<Test<Port>> {
    tests![
        all_tags_are_pulled,
        without_a_tag_the_api_pulls_all,
        a_tag_in_the_name_is_the_only_one,
        a_tag_that_cannot_be_had_ends_the_pull,
        no_tags_are_not_found,
    ]
}

/// An own repository with these tags, each of another image.
fn publish(port: &Port, what: &str, tags: &[&str]) -> String {
    let repository = format!("tests/{what}-{}", harness::tools::tag());
    for tag in tags {
        port.registry.push(&repository, tag, &unique(tag), true, Packing::Gzip);
    }
    repository
}

fn of(port: &Port, repository: &str) -> Vec<String> {
    let name = format!("{}/{repository}", port.registry.address);
    let mut names = port.image_names();
    names.retain(|found| found.starts_with(&name));
    let mut tags: Vec<String> = names.iter().map(|found| found[name.len() + 1..].to_owned()).collect();
    tags.sort();
    tags
}

fn forget(port: &Port, repository: &str) {
    for tag in of(port, repository) {
        let name = format!("{}/{repository}:{tag}", port.registry.address);
        port.daemon.docker(&["rmi", &name]).ok();
    }
}

fn pull(port: &Port, query: &str) -> Vec<Value> {
    let target = format!("/images/create?{query}");
    let text = port.daemon.server.call("POST", &target, None).expect(200).text();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn statuses<'a>(records: &'a [Value], begin: &str) -> Vec<(&'a str, &'a str)> {
    let all = records.iter().map(|record| {
        (
            record["status"].as_str().unwrap_or(""),
            record["id"].as_str().unwrap_or(""),
        )
    });
    all.filter(|(status, _)| status.starts_with(begin)).collect()
}

fn all_tags_are_pulled(port: &Port) {
    let repository = publish(port, "all", &["1", "2", "latest"]);
    let name = format!("{}/{repository}", port.registry.address);
    for client in [harness::daemon::Daemon::docker, harness::daemon::Daemon::iechor] {
        client(&port.daemon, &["pull", "--all-tags", &name]).ok();
        assert_eq!(of(port, &repository), ["1", "2", "latest"]);
        let what = port
            .daemon
            .docker(&["run", "--rm", &format!("{name}:2"), "cat", "/what"]);
        assert_eq!(what.ok(), "2");
        forget(port, &repository);
    }
    // Clients add the tag that people mean.
    port.daemon.docker(&["pull", &name]).ok();
    assert_eq!(of(port, &repository), ["latest"]);
    forget(port, &repository);
}

fn without_a_tag_the_api_pulls_all(port: &Port) {
    let repository = publish(port, "api", &["a", "b"]);
    let name = format!("{}/{repository}", port.registry.address);
    let records = pull(port, &format!("fromImage={name}&tag="));
    assert_eq!(of(port, &repository), ["a", "b"]);
    let from = format!("Pulling from {repository}");
    let mut told = statuses(&records, "Pulling from");
    // They come in the registry's order, which is any.
    told.sort();
    assert_eq!(told, [(from.as_str(), "a"), (from.as_str(), "b")]);
    assert_eq!(statuses(&records, "Digest: sha256:").len(), 2, "{records:?}");
    let done = format!("Status: Downloaded newer image for {name}");
    assert_eq!(statuses(&records, "Status:"), [(done.as_str(), "")]);
    // Also with the colon of a tag that is not there, and when there is nothing new.
    let records = pull(port, &format!("fromImage={name}%3A"));
    let done = format!("Status: Image is up to date for {name}");
    assert_eq!(statuses(&records, "Status:"), [(done.as_str(), "")]);
    forget(port, &repository);
}

fn a_tag_in_the_name_is_the_only_one(port: &Port) {
    let repository = publish(port, "one", &["a", "b"]);
    pull(port, &format!("fromImage={}/{repository}%3Ab", port.registry.address));
    assert_eq!(of(port, &repository), ["b"]);
    forget(port, &repository);
}

fn a_tag_that_cannot_be_had_ends_the_pull(port: &Port) {
    let repository = publish(port, "part", &["1"]);
    let mut other = unique("other");
    other.architecture = "s390x";
    port.registry.push_index(&repository, "2", &[other]);
    port.registry.push(&repository, "3", &unique("3"), true, Packing::Gzip);
    let records = pull(port, &format!("fromImage={}/{repository}", port.registry.address));
    let last = records.last().unwrap();
    let words = last["errorDetail"]["message"].as_str().unwrap_or_default();
    assert!(words.contains("no matching manifest"), "{last}");
    assert!(statuses(&records, "Status:").is_empty(), "{records:?}");
    // What came before stays, in the registry's order, which is any.
    let mut before: Vec<&str> = statuses(&records, "Pulling from").iter().map(|(_, tag)| *tag).collect();
    before.sort();
    assert_eq!(of(port, &repository), before);
    assert!(!before.contains(&"2"), "{before:?}");
    forget(port, &repository);
}

fn no_tags_are_not_found(port: &Port) {
    let target = format!("/images/create?fromImage={}/tests/never-pushed", port.registry.address);
    let reply = port.daemon.server.call("POST", &target, None).expect(404);
    assert!(reply.message().contains("not found"), "{}", reply.message());
    // One that is there, and holds manifests without a name alone.
    let repository = format!("tests/nameless-{}", harness::tools::tag());
    port.registry.push_nameless(&repository, &unique("nameless"));
    let target = format!("/images/create?fromImage={}/{repository}", port.registry.address);
    let reply = port.daemon.server.call("POST", &target, None).expect(404);
    assert!(reply.message().contains("not found"), "{}", reply.message());
}
