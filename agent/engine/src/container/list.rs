//! What lists show beyond the record: random names, port filters, sizes.

use std::sync::Arc;

use super::Container;
use crate::Engine;
use crate::error::Result;

const ADJECTIVES: [&str; 40] = [
    "amber", "bold", "brisk", "calm", "clever", "coral", "crisp", "deft", "eager", "early", "fair", "fleet", "fresh",
    "gentle", "glad", "golden", "happy", "hardy", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry",
    "neat", "nimble", "noble", "plucky", "proud", "quick", "quiet", "rapid", "sage", "serene", "sharp", "steady",
    "sunny", "tidy", "vivid",
];
const NOUNS: [&str; 40] = [
    "anchor", "badger", "beacon", "birch", "brook", "canyon", "cedar", "comet", "condor", "delta", "ember", "falcon",
    "fjord", "garnet", "glacier", "harbor", "heron", "island", "jasper", "kestrel", "lagoon", "lantern", "lynx",
    "maple", "meadow", "meteor", "nebula", "orchid", "otter", "pebble", "pine", "plover", "quartz", "raven", "reef",
    "sparrow", "summit", "tundra", "walnut", "willow",
];

/// A name that people can say; later attempts carry a number.
pub(crate) fn random_name(attempt: u32) -> String {
    let pick = |words: &[&'static str; 40]| words[rand::random_range(0..words.len())];
    let name = format!("{}_{}", pick(&ADJECTIVES), pick(&NOUNS));
    if attempt < 4 {
        name
    } else {
        format!("{name}{}", rand::random_range(1..10_000))
    }
}

/// Whether `80`, `80/tcp` or `80-90/tcp` covers a port such as `80/tcp`.
pub(crate) fn port_matches(filter: &str, port: &str) -> bool {
    let (range, protocol) = filter.split_once('/').unwrap_or((filter, "tcp"));
    let (number, own) = port.split_once('/').unwrap_or((port, "tcp"));
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    match (low.parse::<u16>(), high.parse::<u16>(), number.parse::<u16>()) {
        (Ok(low), Ok(high), Ok(number)) => protocol == own && (low..=high).contains(&number),
        _ => false,
    }
}

impl Engine {
    /// Bytes in a container's writable layer.
    pub async fn writable_size(&self, container: &Arc<Container>) -> Result<u64> {
        let id = container.id.to_string();
        self.blocking(move |engine| Ok(engine.store.snapshots().size(&id)?))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_filters() {
        assert!(port_matches("80", "80/tcp") && port_matches("70-90/udp", "80/udp"));
        assert!(!port_matches("80", "80/udp") && !port_matches("81-82", "80/tcp") && !port_matches("x", "80/tcp"));
    }

    #[test]
    fn random_names_are_legal() {
        for attempt in 0..8 {
            assert!(crate::ids::container_name(&random_name(attempt)).is_ok());
        }
    }
}
