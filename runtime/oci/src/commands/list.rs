//! `list`.

use crate::args::{Global, List};
use crate::error::{Error, Result};
use crate::state;

pub fn run(global: &Global, args: &List) -> Result<u8> {
    let all = state::all(&global.root)?;
    if args.quiet {
        all.iter().for_each(|container| println!("{}", container.record.id));
        return Ok(0);
    }
    let states: Vec<serde_json::Value> = all.iter().map(state::Container::json).collect();
    match &*args.format {
        "json" => println!("{}", serde_json::to_string(&states)?),
        "table" => table(&states),
        other => return Err(Error::new(format!("invalid format {other:?}: table or json"))),
    }
    Ok(0)
}

fn table(states: &[serde_json::Value]) {
    const COLUMNS: [(&str, &str); 6] = [
        ("ID", "id"),
        ("PID", "pid"),
        ("STATUS", "status"),
        ("BUNDLE", "bundle"),
        ("CREATED", "created"),
        ("OWNER", "owner"),
    ];
    let cell = |state: &serde_json::Value, key: &str| match &state[key] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(states.iter().map(|state| COLUMNS.map(|(_, key)| cell(state, key))));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(text, width)| format!("{text:width$}"))
            .collect();
        println!("{}", line.join("   ").trim_end());
    }
}
