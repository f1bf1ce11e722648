//! Nodes + data → text.

use serde_json::Value;

use super::parse::{Expr, Node, Pipe};
use super::{Methods, Result, TemplateError, fail, funcs};

struct Run<'a> {
    methods: &'a dyn Methods,
    /// Innermost last; the first is `$`, the whole data.
    variables: Vec<(String, Value)>,
    out: String,
}

/// What happens after a node.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub fn render(nodes: &[Node], data: &Value, methods: &dyn Methods) -> Result<String> {
    let mut run = Run {
        methods,
        variables: vec![(String::new(), data.clone())],
        out: String::new(),
    };
    run.list(nodes, data)?;
    Ok(run.out)
}

/// Go's idea of an empty value.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A map's entries in key order, as Go iterates and prints them.
pub fn sorted(map: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

impl Run<'_> {
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        let mark = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                match (pipe.variables.is_empty(), pipe.commands.as_slice()) {
                    (false, _) => {}
                    // Which empty thing a null stands for is known by its name only.
                    (true, [command]) if value.is_null() => match command.as_slice() {
                        [Expr::Fields(_, names)] => {
                            let name = names.last().map_or("", String::as_str);
                            self.out.push_str(self.methods.null(name));
                        }
                        _ => self.out.push_str(&funcs::display(&value)),
                    },
                    (true, _) => self.out.push_str(&funcs::display(&value)),
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If(arms, otherwise) => return self.branch(arms, otherwise, dot, false),
            Node::With(arms, otherwise) => return self.branch(arms, otherwise, dot, true),
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
        }
        Ok(Flow::On)
    }

    fn branch(&mut self, arms: &[(Pipe, Vec<Node>)], otherwise: &[Node], dot: &Value, with: bool) -> Result<Flow> {
        let mark = self.variables.len();
        for (condition, body) in arms {
            let value = self.pipe(condition, dot)?;
            if truth(&value) {
                let flow = self.list(body, if with { &value } else { dot });
                self.variables.truncate(mark);
                return flow;
            }
        }
        let flow = self.list(otherwise, dot);
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow> {
        // The variables are set anew in each turn, not by the pipeline.
        let bare = Pipe {
            variables: Vec::new(),
            declare: false,
            commands: pipe.commands.clone(),
        };
        let entries: Vec<(Value, Value)> = match self.pipe(&bare, dot)? {
            Value::Null => Vec::new(),
            Value::Array(list) => list
                .into_iter()
                .enumerate()
                .map(|(at, value)| (Value::from(at), value))
                .collect(),
            Value::Object(map) => sorted(&map)
                .into_iter()
                .map(|(key, value)| (Value::from(key.clone()), value.clone()))
                .collect(),
            Value::Number(count) if count.as_u64().is_some_and(|count| count <= 1 << 20) => {
                (0..count.as_u64().unwrap_or_default())
                    .map(|at| (Value::from(at), Value::from(at)))
                    .collect()
            }
            other => return fail(format!("range can't iterate over {}", funcs::display(&other))),
        };
        if entries.is_empty() {
            return self.list(otherwise, dot);
        }
        for (key, value) in entries {
            let mark = self.variables.len();
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.bind(one, value.clone(), pipe.declare)?,
                [first, second, ..] => {
                    self.bind(first, key, pipe.declare)?;
                    self.bind(second, value.clone(), pipe.declare)?;
                }
            }
            let flow = self.list(body, &value)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn bind(&mut self, name: &str, value: Value, declare: bool) -> Result<()> {
        if declare {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => fail(format!("undefined variable \"${name}\"")),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        let value = piped.unwrap_or_default();
        if let [name] = pipe.variables.as_slice() {
            self.bind(name, value.clone(), pipe.declare)?;
        } else if !pipe.variables.is_empty() {
            return fail("two variables are for {{range}} only");
        }
        Ok(value)
    }

    /// One command of a pipeline; `piped` is the value of the one before, and becomes the last argument.
    fn command(&mut self, command: &[Expr], dot: &Value, piped: Option<Value>) -> Result<Value> {
        match &command[0] {
            Expr::Function(name) => self.function(name, &command[1..], dot, piped),
            Expr::Fields(start, names) if command.len() > 1 || piped.is_some() => {
                let args = self.arguments(&command[1..], dot, piped)?;
                let Some((last, path)) = names.split_last() else {
                    return fail("a method needs a name");
                };
                let mut receiver = self.expr(start, dot)?;
                for name in path {
                    receiver = self.field(&receiver, name)?;
                }
                match self.methods.call(&receiver, last, &args) {
                    Some(value) => Ok(value),
                    None => fail(format!("{last} is not a method but has arguments")),
                }
            }
            Expr::Nil => fail("nil is not a command"),
            other if command.len() == 1 => self.expr(other, dot),
            _ => fail("can't give argument to non-function"),
        }
    }

    fn function(&mut self, name: &str, args: &[Expr], dot: &Value, piped: Option<Value>) -> Result<Value> {
        // These two stop at the first argument that decides.
        if name == "and" || name == "or" {
            let mut last = None;
            for arg in args {
                let value = self.argument(arg, dot)?;
                if truth(&value) == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return match piped.or(last) {
                Some(value) => Ok(value),
                None => fail(format!("wrong number of args for {name}: want at least 1 got 0")),
            };
        }
        let args = self.arguments(args, dot, piped)?;
        funcs::call(name, &args)
            .map_err(|TemplateError(reason)| TemplateError(format!("error calling {name}: {reason}")))
    }

    fn arguments(&mut self, args: &[Expr], dot: &Value, piped: Option<Value>) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.argument(arg, dot)?);
        }
        values.extend(piped);
        Ok(values)
    }

    fn argument(&mut self, arg: &Expr, dot: &Value) -> Result<Value> {
        match arg {
            Expr::Nil => Ok(Value::Null),
            // A function as an argument is called without any of its own.
            Expr::Function(name) => self.function(name, &[], dot, None),
            other => self.expr(other, dot),
        }
    }

    fn expr(&mut self, expr: &Expr, dot: &Value) -> Result<Value> {
        match expr {
            Expr::Dot => Ok(dot.clone()),
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Nil => Ok(Value::Null),
            Expr::Function(name) => self.function(name, &[], dot, None),
            Expr::Paren(pipe) => self.pipe(pipe, dot),
            Expr::Variable(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => Ok(value.clone()),
                None => fail(format!("undefined variable \"${name}\"")),
            },
            Expr::Fields(start, names) => {
                let mut value = self.expr(start, dot)?;
                for name in names {
                    value = self.field(&value, name)?;
                }
                Ok(value)
            }
        }
    }

    fn field(&self, value: &Value, name: &str) -> Result<Value> {
        match value {
            Value::Object(map) => match map.get(name) {
                Some(field) => Ok(field.clone()),
                None => match self.methods.missing(value, name) {
                    Some(value) => Ok(value),
                    None => fail(format!(
                        "executing \"\" at <.{name}>: map has no entry for key {name:?}"
                    )),
                },
            },
            Value::Null => fail(format!("executing \"\" at <.{name}>: nil pointer evaluating {name}")),
            other => {
                let kind = funcs::kind(other);
                fail(format!(
                    "executing \"\" at <.{name}>: can't evaluate field {name} in type {kind}"
                ))
            }
        }
    }
}
