//! Hooks that run, each of which leaves a file.

use serde_json::json;

use super::draft::{Check, Draft};
use super::draw::Draw;

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

pub fn hooks(draft: &mut Draft, draw: &mut Draw) {
    for kind in draw.some(&KINDS, 35) {
        let mut list = Vec::new();
        for number in 0..draw.below(2) + 1 {
            let mut hook = match kind {
                // Paths of this one are the container's.
                "startContainer" => json!({"path": "/bin/probe", "args": ["probe", "nothing"]}),
                _ => {
                    let name = format!("hook-{kind}-{number}");
                    // Root of a user namespace may not write there.
                    if kind != "createContainer" || draft.users.is_none() {
                        leaves(draft, kind, &name);
                        json!({"path": "/usr/bin/touch", "args": ["touch", draft.place.at(&name)]})
                    } else {
                        json!({"path": "/bin/true"})
                    }
                }
            };
            if draw.chance(40) {
                hook["env"] = json!(["A=b", "PATH=/usr/bin:/bin", "EMPTY="]);
            }
            if draw.chance(40) {
                hook["timeout"] = draw.between(5, 100_000).into();
            }
            list.push(hook);
        }
        draft.set(&format!("/hooks/{kind}"), list);
    }
}

fn leaves(draft: &mut Draft, kind: &str, name: &str) {
    let path = draft.place.folder.join(name);
    let what = format!("hooks.{kind}");
    let judge = Box::new(move |_: &super::seen::Seen<'_>| match path.exists() {
        true => Ok(()),
        false => Err("it has not run".to_owned()),
    });
    let list = if kind == "poststop" {
        &mut draft.afterwards
    } else {
        &mut draft.checks
    };
    list.push(Check { what, judge });
}

/// Annotations are handed on, and mean nothing else.
pub fn annotations(draft: &mut Draft, draw: &mut Draw) {
    let mut all = serde_json::Map::new();
    for number in 0..draw.below(5) {
        let length = draw.below(40);
        all.insert(
            format!("org.example.key-{number}"),
            draw.word("abc =:/\\\"\n漢", length).into(),
        );
    }
    draft.set("/annotations", all.clone());
    let wanted = (draft.place.id.clone(), draft.place.folder.display().to_string(), all);
    draft.check("the state", move |seen| {
        let state: serde_json::Value = serde_json::from_str(&(seen.state)()).map_err(|error| error.to_string())?;
        let (id, bundle, annotations) = &wanted;
        let found = state["annotations"].as_object().cloned().unwrap_or_default();
        let fits = state["id"] == id.as_str()
            && state["bundle"] == bundle.as_str()
            && state["status"] == "running"
            && state["pid"] == seen.process.0
            && found == *annotations;
        if fits { Ok(()) } else { Err(state.to_string()) }
    });
}
