//! What a real daemon answered goes through our types unchanged: no member lost, no null turned into a zero.
#![allow(clippy::unwrap_used)]

use agent_api::{container, event, exec, image, json, network, system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn round_trip<T: Serialize + DeserializeOwned>(name: &str, text: &str) {
    let sent: Value = serde_json::from_str(text).unwrap();
    let typed: T = json::from_slice(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let back = serde_json::to_value(&typed).unwrap();
    let mut differences = Vec::new();
    compare("", &sent, &back, &mut differences);
    assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));
}

fn compare(at: &str, sent: &Value, back: &Value, out: &mut Vec<String>) {
    match (sent, back) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&format!("{at}/{key}"), a, b, out),
                    (a, b) => out.push(format!("{at}/{key}: sent {a:?}, back {b:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{at}/{index}"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        // dockerd itself writes [] in the list of images and null in the disk usage for the same thing; we write [].
        (Value::Null, Value::Array(b)) if b.is_empty() && at.ends_with("/RepoDigests") => {}
        (a, b) => out.push(format!("{at}: sent {a}, back {b}")),
    }
}

macro_rules! shapes {
    ($($name:ident: $type:ty;)*) => {$(
        #[test]
        fn $name() {
            round_trip::<$type>(stringify!($name), include_str!(concat!("fixtures/", stringify!($name), ".json")));
        }
    )*};
}

shapes! {
    container_created: container::Inspect;
    container_running: container::Inspect;
    container_exited: container::Inspect;
    container_list: Vec<container::Summary>;
    disk_usage: system::DiskUsage;
    events: Vec<event::Event>;
    exec_ended: exec::ExecInspect;
    exec_new: exec::ExecInspect;
    history: Vec<image::HistoryItem>;
    image: image::Inspect;
    image_list: Vec<image::Summary>;
    info: system::Info;
    network_bridge: network::Network;
    network_list: Vec<network::Network>;
    version: system::Version;
    volume_list: volume::VolumeList;
}
