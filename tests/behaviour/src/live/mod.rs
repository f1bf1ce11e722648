//! What happens with a container that lives: figures, processes, limits, health, restarts, states, events.

mod figures;
mod health;
mod restarts;
mod states;
mod takeover;
mod websocket;

pub use figures::block_device;
use harness::Test;
use serde_json::Value;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    let mut tests = figures::tests();
    tests.extend(health::tests());
    tests.extend(restarts::tests());
    tests.extend(states::tests());
    tests.extend(takeover::tests());
    tests.extend(websocket::tests());
    tests
}

/// What happened to a container until now: action and attributes.
fn events(world: &World, container: &str) -> Vec<(String, Value)> {
    let filters = format!("%7B%22container%22%3A%5B%22{container}%22%5D%7D");
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    // Exactly now: rounded down it would leave out what has just happened.
    let until = format!("{}.{:09}", until.as_secs(), until.subsec_nanos());
    let target = format!("/events?since=0&until={until}&filters={filters}");
    let body = world.server.get(&target).expect(200).text();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let action = event["Action"].as_str().unwrap().to_owned();
        (action, event["Actor"]["Attributes"].clone())
    };
    body.lines().map(event).collect()
}

/// Only the actions.
fn actions(world: &World, container: &str) -> Vec<String> {
    events(world, container).into_iter().map(|(action, _)| action).collect()
}
