//! Go's `Printf` verbs for the values JSON has.

use serde_json::Value;

use super::funcs;

/// A width beyond it is a mistake, and would only fill the memory.
const MAX_WIDTH: usize = 4096;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

pub fn format(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut args = args.iter();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+0 #".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                _ => spec.sharp = true,
            }
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut value = 0usize;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                value = (value * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
            value
        };
        spec.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                Some(arg) => out.push_str(&spec.apply(verb, arg)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let extra: Vec<_> = args
        .map(|arg| format!("{}={}", funcs::kind(arg), funcs::display(arg)))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

impl Spec {
    fn apply(&self, verb: char, arg: &Value) -> String {
        let (text, numeric) = match (verb, arg) {
            ('v', Value::Null) => ("<nil>".to_owned(), false),
            ('v', Value::Number(_)) => (self.sign(arg, funcs::display(arg)), true),
            ('v' | 's', Value::String(text)) => (self.cut(text), false),
            ('v', arg) => (funcs::display(arg), false),
            ('s', Value::Array(_) | Value::Object(_)) => (funcs::display(arg), false),
            ('t', Value::Bool(yes)) => (yes.to_string(), false),
            ('q', Value::String(text)) => (quote(&self.cut(text)), false),
            ('d', Value::Number(number)) if !number.is_f64() => (self.sign(arg, number.to_string()), true),
            ('c', Value::Number(number)) => {
                let c = number
                    .as_u64()
                    .and_then(|code| u32::try_from(code).ok())
                    .and_then(char::from_u32);
                (c.unwrap_or('\u{fffd}').to_string(), false)
            }
            ('x' | 'X' | 'o' | 'b', Value::Number(number)) if !number.is_f64() => (self.radix(verb, number), true),
            ('x' | 'X', Value::String(text)) => {
                let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                (if verb == 'X' { hex.to_uppercase() } else { hex }, false)
            }
            ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
                let float = number.as_f64().unwrap_or_default();
                let text = match verb {
                    'e' => exponent(float, self.precision.unwrap_or(6)),
                    'g' => shortest(float),
                    _ => format!("{float:.*}", self.precision.unwrap_or(6)),
                };
                (self.sign(arg, text), true)
            }
            (verb, Value::Null) => (format!("%!{verb}(<nil>)"), false),
            (verb, arg) => (format!("%!{verb}({}={})", funcs::kind(arg), funcs::display(arg)), false),
        };
        self.fill(text, numeric)
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_owned(),
        }
    }

    fn sign(&self, arg: &Value, text: String) -> String {
        let negative = arg.as_f64().is_some_and(|number| number < 0.0);
        match (negative, self.plus, self.space) {
            (false, true, _) => format!("+{text}"),
            (false, false, true) => format!(" {text}"),
            _ => text,
        }
    }

    fn radix(&self, verb: char, number: &serde_json::Number) -> String {
        let value = number.as_i64().unwrap_or_default();
        let (sign, magnitude) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
        let (prefix, digits) = match verb {
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'o' => ("0", format!("{magnitude:o}")),
            _ => ("0b", format!("{magnitude:b}")),
        };
        format!("{sign}{}{digits}", if self.sharp { prefix } else { "" })
    }

    fn fill(&self, text: String, numeric: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            text
        } else if self.minus {
            text + &" ".repeat(missing)
        } else if self.zero {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) if numeric => text.split_at(text.len() - digits.len()),
                _ => ("", text.as_str()),
            };
            format!("{sign}{}{digits}", "0".repeat(missing))
        } else {
            " ".repeat(missing) + &text
        }
    }
}

/// A float with as few digits as tell it apart; exponents beyond the sizes people read.
pub fn shortest(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{float:e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{digits}e{}", power_text(power));
    }
    float.to_string()
}

fn exponent(float: f64, precision: usize) -> String {
    let text = format!("{float:.precision$e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}e{}", power_text(power))
}

/// Go writes a sign and at least two digits.
fn power_text(power: &str) -> String {
    match power.strip_prefix('-') {
        Some(digits) => format!("-{digits:0>2}"),
        None => format!("+{power:0>2}"),
    }
}

/// A Go string literal.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
