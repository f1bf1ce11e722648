//! Tokens → nodes.

use serde_json::Value;

use super::lex::Token;
use super::{Result, fail};

#[derive(Debug, Clone)]
pub enum Node {
    Text(String),
    Action(Pipe),
    /// `if … else if … else …`
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    With(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// `$a, $b := command | command`
#[derive(Debug, Clone)]
pub struct Pipe {
    pub variables: Vec<String>,
    /// `:=` makes variables, `=` sets them.
    pub declare: bool,
    pub commands: Vec<Vec<Expr>>,
}

#[derive(Debug, Clone)]
pub enum Expr {
    Dot,
    /// A chain of fields on a start value.
    Fields(Box<Expr>, Vec<String>),
    Variable(String),
    Function(String),
    Literal(Value),
    Nil,
    Paren(Box<Pipe>),
}

/// Deeper than anybody writes; keeps recursion off the stack's end.
const MAX_DEPTH: usize = 100;

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
    ranges: usize,
}

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Stop {
    Text,
    End,
    Else,
    /// `else if` or `else with`: the condition follows.
    ElseWith(&'static str),
}

pub fn parse(tokens: Vec<Token>) -> Result<Vec<Node>> {
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        depth: 0,
        ranges: 0,
    };
    let (nodes, end) = parser.list()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End => fail("unexpected {{end}}"),
        Stop::Else | Stop::ElseWith(_) => fail("unexpected {{else}}"),
    }
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, Stop)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail("too many nested blocks");
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.tokens.next() {
                None => break Stop::Text,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(_open) => {
                    if let Some(end) = self.action(&mut nodes)? {
                        break end;
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// One `{{…}}`, after its opening.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Stop>> {
        self.spaces();
        let keyword = match self.tokens.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match keyword.as_str() {
            "end" => {
                self.keyword()?;
                return Ok(Some(Stop::End));
            }
            "else" => {
                self.tokens.next();
                self.spaces();
                for chained in ["if", "with"] {
                    if self.tokens.peek() == Some(&Token::Word(chained.to_owned())) {
                        self.tokens.next();
                        return Ok(Some(Stop::ElseWith(chained)));
                    }
                }
                self.close()?;
                return Ok(Some(Stop::Else));
            }
            "if" => nodes.push(self.branches("if")?),
            "with" => nodes.push(self.branches("with")?),
            "range" => nodes.push(self.range()?),
            "break" | "continue" => {
                if self.ranges == 0 {
                    return fail(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                }
                self.keyword()?;
                nodes.push(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            "define" | "template" | "block" => {
                return fail(format!("{{{{{keyword}}}}} is not supported in --format"));
            }
            _ => {
                let pipe = self.pipe(&Token::Close)?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn branches(&mut self, keyword: &'static str) -> Result<Node> {
        self.tokens.next();
        let mut arms = Vec::new();
        let otherwise = loop {
            let condition = self.pipe(&Token::Close)?;
            let (body, end) = self.list()?;
            arms.push((condition, body));
            match end {
                Stop::End => break Vec::new(),
                Stop::Else => break self.last(keyword)?,
                Stop::ElseWith(chained) if chained == keyword => {}
                Stop::ElseWith(chained) => {
                    return fail(format!("unexpected {{{{else {chained}}}}} in {{{{{keyword}}}}}"));
                }
                Stop::Text => return fail(format!("{{{{{keyword}}}}} without {{{{end}}}}")),
            }
        };
        Ok(if keyword == "if" {
            Node::If(arms, otherwise)
        } else {
            Node::With(arms, otherwise)
        })
    }

    fn range(&mut self) -> Result<Node> {
        self.tokens.next();
        let over = self.pipe(&Token::Close)?;
        self.ranges += 1;
        let (body, end) = self.list()?;
        self.ranges -= 1;
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Else => self.last("range")?,
            Stop::ElseWith(_) => return fail("unexpected {{else if}} in {{range}}"),
            Stop::Text => return fail("{{range}} without {{end}}"),
        };
        Ok(Node::Range(over, body, otherwise))
    }

    /// The list after a plain `else`, which only `end` may close.
    fn last(&mut self, keyword: &str) -> Result<Vec<Node>> {
        match self.list()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Text) => fail(format!("{{{{{keyword}}}}} without {{{{end}}}}")),
            _ => fail(format!("{{{{{keyword}}}}} has two {{{{else}}}}")),
        }
    }

    fn keyword(&mut self) -> Result<()> {
        self.tokens.next();
        self.close()
    }

    fn close(&mut self) -> Result<()> {
        self.spaces();
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            other => fail(format!("unexpected {} in a template action", describe(other.as_ref()))),
        }
    }

    fn spaces(&mut self) {
        while self.tokens.next_if_eq(&Token::Space).is_some() {}
    }

    /// A pipeline up to and with `end`.
    fn pipe(&mut self, end: &Token) -> Result<Pipe> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail("too many nested parentheses");
        }
        let (variables, declare, first) = self.variables()?;
        let mut commands = Vec::new();
        let mut command: Vec<Expr> = first.into_iter().collect();
        loop {
            self.spaces();
            match self.tokens.next() {
                Some(token) if token == *end => break,
                Some(Token::Pipe) => {
                    if command.is_empty() {
                        return fail("missing value in front of |");
                    }
                    commands.push(std::mem::take(&mut command));
                }
                Some(token) => {
                    let operand = self.operand(token)?;
                    command.push(operand);
                }
                None => return fail("unclosed action"),
            }
        }
        if command.is_empty() {
            return fail(if commands.is_empty() {
                "missing value for command"
            } else {
                "missing value after |"
            });
        }
        commands.push(command);
        for later in &commands[1..] {
            if !matches!(later[0], Expr::Function(_) | Expr::Fields(..)) {
                return fail("non executable command in a pipeline");
            }
        }
        self.depth -= 1;
        Ok(Pipe {
            variables,
            declare,
            commands,
        })
    }

    /// `$a :=`, `$a =` or `$k, $v :=`. A variable that is none of them is the first operand.
    fn variables(&mut self) -> Result<(Vec<String>, bool, Option<Expr>)> {
        self.spaces();
        let Some(Token::Variable(name)) = self.tokens.next_if(|token| matches!(token, Token::Variable(_))) else {
            return Ok((Vec::new(), false, None));
        };
        if matches!(self.tokens.peek(), Some(Token::Field(_))) {
            let operand = self.chain(Expr::Variable(name))?;
            return Ok((Vec::new(), false, Some(operand)));
        }
        self.spaces();
        match self.tokens.peek() {
            Some(Token::Declare | Token::Assign) => {
                let declare = self.tokens.next() == Some(Token::Declare);
                Ok((vec![name], declare, None))
            }
            Some(Token::Comma) => {
                self.tokens.next();
                self.spaces();
                let second = self.tokens.next();
                self.spaces();
                match (second, self.tokens.next()) {
                    (Some(Token::Variable(second)), Some(Token::Declare)) => Ok((vec![name, second], true, None)),
                    _ => fail("expected $key, $value :="),
                }
            }
            _ => Ok((Vec::new(), false, Some(Expr::Variable(name)))),
        }
    }

    fn operand(&mut self, token: Token) -> Result<Expr> {
        let start = match token {
            Token::Field(name) if name.is_empty() => Expr::Dot,
            Token::Field(name) => {
                let mut names = vec![name];
                self.fields(&mut names)?;
                return Ok(Expr::Fields(Box::new(Expr::Dot), names));
            }
            Token::Variable(name) => Expr::Variable(name),
            Token::LeftParen => Expr::Paren(Box::new(self.pipe(&Token::RightParen)?)),
            Token::Str(text) => Expr::Literal(Value::from(text)),
            Token::Int(number) => Expr::Literal(Value::from(number)),
            Token::Float(number) => Expr::Literal(Value::from(number)),
            Token::Word(word) => match word.as_str() {
                "true" => Expr::Literal(Value::Bool(true)),
                "false" => Expr::Literal(Value::Bool(false)),
                "nil" => Expr::Nil,
                _ if super::funcs::known(&word) => Expr::Function(word),
                _ => return fail(format!("function {word:?} not defined")),
            },
            other => return fail(format!("unexpected {} in a template action", describe(Some(&other)))),
        };
        self.chain(start)
    }

    /// `.Name` directly behind an operand.
    fn chain(&mut self, start: Expr) -> Result<Expr> {
        let mut names = Vec::new();
        self.fields(&mut names)?;
        Ok(if names.is_empty() {
            start
        } else {
            Expr::Fields(Box::new(start), names)
        })
    }

    fn fields(&mut self, names: &mut Vec<String>) -> Result<()> {
        while let Some(Token::Field(name)) = self.tokens.next_if(|token| matches!(token, Token::Field(_))) {
            if name.is_empty() {
                return fail("unexpected . after a value");
            }
            names.push(name);
        }
        Ok(())
    }
}

fn describe(token: Option<&Token>) -> String {
    match token {
        None => "end of text".to_owned(),
        Some(Token::Close) => "}}".to_owned(),
        Some(Token::RightParen) => "right paren".to_owned(),
        Some(Token::Word(word)) => format!("{word:?}"),
        Some(other) => format!("{other:?}"),
    }
}
