//! The file itself: the same configuration in other letters, and files that are no configuration.

use serde_json::Value;

use super::draw::Draw;

/// Writes a configuration; what this adds changes nothing.
pub fn write(config: &Value, draw: &mut Draw) -> String {
    let mut config = config.clone();
    if draw.chance(40) {
        // The specification: "MUST ignore unknown properties".
        for _ in 0..draw.below(4) {
            let place = *draw.pick(&[
                "",
                "/process",
                "/linux",
                "/root",
                "/process/user",
                "/mounts/0",
                "/linux/resources",
            ]);
            if let Some(object) = config.pointer_mut(place).and_then(Value::as_object_mut) {
                object.insert("x-unknown".to_owned(), nest(draw.below(60) as usize, draw));
            }
        }
    }
    if draw.chance(20) {
        // What is null is absent.
        for (place, key) in [
            ("", "hooks"),
            ("", "annotations"),
            ("/linux", "seccomp"),
            ("/process", "rlimits"),
            ("", "mounts"),
        ] {
            if let Some(object) = config.pointer_mut(place).and_then(Value::as_object_mut) {
                object.entry(key).or_insert(Value::Null);
            }
        }
    }
    let text = match draw.chance(30) {
        true => serde_json::to_string_pretty(&config).unwrap_or_default(),
        false => config.to_string(),
    };
    if draw.chance(20) { escape(&text) } else { text }
}

fn nest(depth: usize, draw: &mut Draw) -> Value {
    let seeds = [
        Value::Null,
        1.5e300.into(),
        (-1).into(),
        "text".into(),
        true.into(),
        u64::MAX.into(),
    ];
    let mut value = draw.pick(&seeds).clone();
    for _ in 0..depth {
        value = if draw.chance(50) {
            Value::from(vec![value])
        } else {
            serde_json::json!({"deeper": value})
        };
    }
    value
}

/// Letters as `\uXXXX`, in strings.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let (mut inside, mut escaped) = (false, false);
    for letter in text.chars() {
        match letter {
            '"' if !escaped => inside = !inside,
            'a' | 'o' if inside && !escaped => {
                out.push_str(&format!("\\u{:04x}", letter as u32));
                continue;
            }
            _ => {}
        }
        escaped = inside && letter == '\\' && !escaped;
        out.push(letter);
    }
    out
}

/// Makes a file that is no JSON of it.
pub fn spoil(text: String, draw: &mut Draw) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    let at = draw.below(bytes.len() as u64) as usize;
    match draw.below(8) {
        0 | 1 => bytes.truncate(at),
        2 => bytes.extend(draw.pick(&["}", "x", "{}", ",", "\0"]).bytes()),
        3 => bytes[0] = *draw.pick(b"[x\"\0("),
        4 => bytes.splice(0..0, *b"\xef\xbb\xbf\x00").for_each(drop),
        // Not UTF-8, and not what a string may have as it is.
        5 => insert_into_name(&mut bytes, b'\xff'),
        6 => insert_into_name(&mut bytes, b'\n'),
        _ => {
            let depth = 100 + draw.below(100_000) as usize;
            // An end that does not fit.
            bytes = [vec![b'{'; 1], b"\"x\":".to_vec(), vec![b'['; depth], b"}".to_vec()].concat();
        }
    }
    bytes
}

fn insert_into_name(bytes: &mut Vec<u8>, byte: u8) {
    let at = bytes
        .windows(10)
        .position(|window| window == b"ociVersion")
        .or_else(|| bytes.iter().position(|b| *b == b'"').map(|at| at + 1));
    bytes.insert(at.unwrap_or(0), byte);
}
