//! The table of operations and the router say the same, and so do the table and the parameters that handlers read.
//!
//! The router can't be asked what is in it, so its source is read: `cargo fmt` keeps it in one shape.

use std::collections::{BTreeMap, BTreeSet};

use super::operations;

const ROUTER: &str = include_str!("../resources/mod.rs");
const ABSENT: &str = include_str!("../resources/absent.rs");

/// Routes with a rest of a path, and what it may be: the handler takes it apart.
const RESTS: &[(&str, &str, &[&str])] = &[
    (
        "get",
        "/images/{*name}",
        &["/images/{name}/json", "/images/{name}/history", "/images/{name}/get"],
    ),
    ("post", "/images/{*name}", &["/images/{name}/tag"]),
    ("delete", "/images/{*name}", &["/images/{name}"]),
];

/// One method of one route, and the function that answers.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    method: String,
    path: String,
    handler: String,
}

/// The routes of a source file. What `missing!` and `swarm` answer is no operation: it is the refusal of one.
fn routes(source: &str) -> Vec<Route> {
    let mut found = Vec::new();
    for call in source.split(".route(").skip(1) {
        let path = call.split('"').nth(1).unwrap_or_default().to_owned();
        let arguments = call.split_once("\",").map_or("", |(_, rest)| rest);
        let mut rest = arguments;
        while let Some((before, after)) = rest.split_once('(') {
            let method = before
                .rsplit(|c: char| !c.is_ascii_alphabetic())
                .next()
                .unwrap_or_default();
            let handler = after.split(')').next().unwrap_or_default();
            // The next method of the same route stands behind a dot.
            if matches!(method, "get" | "head" | "post" | "put" | "delete") {
                found.push(Route {
                    method: method.to_owned(),
                    path: path.clone(),
                    handler: handler.to_owned(),
                });
            }
            let Some((_, next)) = after.split_once(").") else { break };
            rest = next;
        }
    }
    found
}

fn served() -> Vec<Route> {
    let mut all = routes(ROUTER);
    all.extend(routes(ABSENT));
    let mut plain = Vec::new();
    for route in all {
        let rest = RESTS
            .iter()
            .find(|(method, path, _)| *method == route.method && *path == route.path);
        match rest {
            Some((_, _, paths)) => plain.extend(paths.iter().map(|path| Route {
                path: (*path).to_owned(),
                method: route.method.clone(),
                handler: route.handler.clone(),
            })),
            // The same with a slash at its end.
            None if route.path.ends_with('/') => {}
            // The name of a link has a slash in it, which is not escaped: the same operation.
            None if route.path == "/containers/{id}/{alias}" => {}
            None => plain.push(route),
        }
    }
    plain
}

#[test]
fn every_route_is_an_operation_and_every_operation_a_route() {
    let served: BTreeSet<(String, String)> = served().into_iter().map(|one| (one.path, one.method)).collect();
    assert!(served.len() > 50, "the router was not understood: {served:?}");
    let mut table: BTreeSet<(String, String)> = BTreeSet::new();
    for one in operations() {
        // axum answers HEAD wherever it answers GET; ping's is the one that clients ask for.
        if (one.method, one.path) == ("head", "/_ping") {
            continue;
        }
        assert!(
            table.insert((one.path.to_owned(), one.method.to_owned())),
            "{} {} is in the table twice",
            one.method,
            one.path
        );
    }
    let lacks: Vec<_> = served.difference(&table).collect();
    let more: Vec<_> = table.difference(&served).collect();
    assert!(
        lacks.is_empty() && more.is_empty(),
        "served and not in the table of operations: {lacks:?}\nin the table and not served: {more:?}"
    );
}

/// Parameters that a module reads in a way that the text of it doesn't show.
const READ_BY_OTHERS: &[(&str, &[&str])] = &[
    // `let moment = |key| query.get(key)`.
    ("events", &["since", "until"]),
    ("logs", &["since", "until"]),
    // `size(&query)` of attach.
    ("exec", &["h", "w"]),
    ("attach", &["h", "w", "stdin", "stdout", "stderr"]),
    // The pull takes it from the headers; `save` from its neighbour.
    ("registries", &["X-Registry-Auth"]),
    ("images_stream", &["X-Registry-Auth", "platform"]),
];

fn source_of(module: &str) -> String {
    let file = format!("{}/src/resources/{module}.rs", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// The names in `query.flag("all")`, `.number("t")`, `query.refuse(&["a", "b"])` and so on.
fn read_by(module: &str) -> BTreeSet<String> {
    let source: String = source_of(module).split_whitespace().collect();
    let mut names = BTreeSet::new();
    for part in source.split("query.").skip(1).chain(source.split("(query)").skip(1)) {
        let (call, arguments) = part.split_once('(').unwrap_or_default();
        match call {
            "filters" => {
                names.insert("filters".to_owned());
            }
            "get" | "flag" | "flag_or" | "number" | "has" | "all" | "refuse" => {
                let arguments = arguments.split(')').next().unwrap_or_default();
                names.extend(arguments.split('"').skip(1).step_by(2).map(str::to_owned));
            }
            _ => {}
        }
    }
    names
}

#[test]
fn handlers_read_the_parameters_of_the_table_and_no_others() {
    let mut by_module: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let table = operations();
    for route in served() {
        let module = route.handler.split("::").next().unwrap_or_default().to_owned();
        // `absent` names its functions without a module, and reads nothing.
        let module = if route.handler.contains("::") {
            module
        } else {
            "absent".to_owned()
        };
        let one = table
            .iter()
            .find(|one| one.method == route.method && one.path == route.path);
        let names = one.into_iter().flat_map(|one| &one.parameters);
        by_module
            .entry(module)
            .or_default()
            .extend(names.map(|parameter| parameter.name.to_owned()));
    }
    // `/images/{name}/get` is answered by the module of streams.
    let mut wrong = Vec::new();
    for (module, table) in by_module {
        let mut read = read_by(&module);
        let others = READ_BY_OTHERS.iter().filter(|(name, _)| *name == module);
        read.extend(others.flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())));
        for name in read.difference(&table) {
            wrong.push(format!(
                "{module} reads {name}, which is not in the table of operations"
            ));
        }
        for name in table.difference(&read) {
            wrong.push(format!(
                "{module} does not read {name}, which is in the table of operations"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
