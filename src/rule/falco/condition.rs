//! Falco's condition language: from the text of a condition to a tree, every word with its place in the text.

use std::fmt;

use crate::diagnose::closest;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Macro(Word),
    Exists(Operand),
    Compare { left: Operand, operator: Operator, modifier: Option<Modifier>, right: Right },
}

/// A word of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Not quoted: the name of a list stands for what is in it.
    pub(super) bare: bool,
    pub(super) place: Place,
}

/// Where in the text: offset and length.
pub(super) type Place = (usize, usize);

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum OperandKind {
    /// `ka.uri.param[name]`.
    Field { name: String, argument: Option<String> },
    /// `tolower(…)`; only `getopt` has an argument.
    Call { name: String, operands: Vec<Operand>, argument: Option<String> },
    /// A literal, only within a call.
    Text(String),
    /// A list of literals or fields, only within a call.
    List(Vec<Operand>),
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Right {
    Word(Word),
    Words(Vec<Word>),
    Operand(Operand),
}

/// `anyof` and its like: of how many of a list's words the comparison must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Modifier {
    One,
    Any,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    IContains,
    BContains,
    StartsWith,
    BStartsWith,
    EndsWith,
    Glob,
    IGlob,
    Regex,
    In,
    Intersects,
    PMatch,
}

impl Operator {
    /// As they are written; those that others begin with come after them.
    const NAMES: [(&'static str, Self); 19] = [
        ("<=", Self::Le),
        ("<", Self::Lt),
        (">=", Self::Ge),
        (">", Self::Gt),
        ("==", Self::Eq),
        ("=", Self::Eq),
        ("!=", Self::Ne),
        ("contains", Self::Contains),
        ("icontains", Self::IContains),
        ("bcontains", Self::BContains),
        ("startswith", Self::StartsWith),
        ("bstartswith", Self::BStartsWith),
        ("endswith", Self::EndsWith),
        ("glob", Self::Glob),
        ("iglob", Self::IGlob),
        ("regex", Self::Regex),
        ("intersects", Self::Intersects),
        ("in", Self::In),
        ("pmatch", Self::PMatch),
    ];

    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        Self::NAMES.into_iter().rfind(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, operator)| operator)
    }

    /// Whether it compares with a list.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Self::In | Self::Intersects | Self::PMatch)
    }

    /// Whether it compares numbers.
    pub(super) fn is_numeric(self) -> bool {
        matches!(self, Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }
}

/// The transformers, and `val`, which is a field on the right-hand side.
pub(super) const CALLS: [&str; 9] = ["tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt", "val"];

/// What is wrong with a text, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) place: Place,
}

/// Nesting that is followed, as in Falco.
const DEPTH_MAX: usize = 100;

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Condition, Mistake> {
    let mut parser = Parser { text, at: 0 };
    let condition = parser.or(0)?;
    parser.blank();
    if parser.at < text.len() {
        return Err(parser.mistake("expected `and`, `or` or the end of the condition"));
    }
    Ok(condition)
}

/// Reads the field or call that a text begins with, and how much of the text that is; `None` if it begins with none.
pub(super) fn operand(text: &str) -> Option<Result<(Operand, usize), Mistake>> {
    let mut parser = Parser { text, at: 0 };
    let operand = parser.operand(0).transpose()?;
    Some(operand.map(|operand| (operand, parser.at)))
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, operands: &[Self]| {
            f.write_str("(")?;
            for (at, operand) in operands.iter().enumerate() {
                write!(f, "{}{operand}", if at == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        };
        match &self.kind {
            OperandKind::Field { name, argument } => {
                f.write_str(name)?;
                argument.iter().try_for_each(|argument| write!(f, "[{argument}]"))
            }
            OperandKind::Call { name, operands, argument } => {
                f.write_str(name)?;
                list(f, operands)?;
                argument.iter().try_for_each(|argument| write!(f, "[{argument}]"))
            }
            OperandKind::Text(text) => write!(f, "{text:?}"),
            OperandKind::List(operands) => list(f, operands),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn blank(&mut self) -> bool {
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start().len();
        self.at += skipped;
        skipped > 0
    }

    fn eat(&mut self, token: &str) -> bool {
        let hit = self.rest().starts_with(token);
        self.at += if hit { token.len() } else { 0 };
        hit
    }

    /// A word that is followed by a blank, a bracket or the end.
    fn eat_word(&mut self, word: &str) -> bool {
        let hit = self
            .rest()
            .strip_prefix(word)
            .is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || c == '('));
        self.at += if hit { word.len() } else { 0 };
        hit
    }

    /// Something is wrong with the word at this place.
    fn mistake(&self, message: impl Into<String>) -> Mistake {
        let rest = self.rest();
        let len = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).unwrap_or(rest.len());
        let message = message.into();
        let message = match &rest[..len.max(rest.chars().next().map_or(0, char::len_utf8))] {
            "" => format!("{message}, but the condition ends"),
            word => format!("{message}, not `{word}`"),
        };
        Mistake { message, place: (self.at, len) }
    }

    fn expect(&mut self, token: &str, why: &str) -> Result<(), Mistake> {
        self.blank();
        if self.eat(token) { Ok(()) } else { Err(self.mistake(format!("expected `{token}` {why}"))) }
    }

    fn or(&mut self, depth: usize) -> Result<Condition, Mistake> {
        let mut parts = vec![self.and(depth)?];
        loop {
            self.blank();
            if !self.eat_word("or") {
                break;
            }
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition, Mistake> {
        let mut parts = vec![self.not(depth)?];
        loop {
            self.blank();
            if !self.eat_word("and") {
                break;
            }
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, Mistake> {
        self.blank();
        if depth > DEPTH_MAX {
            return Err(Mistake { message: "the condition is nested too deep".to_owned(), place: (self.at, 1) });
        }
        if self.eat_word("not") {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        self.check(depth)
    }

    fn check(&mut self, depth: usize) -> Result<Condition, Mistake> {
        if self.eat("(") {
            let inner = self.or(depth + 1)?;
            self.expect(")", "to close the bracket")?;
            return Ok(inner);
        }
        if let Some(left) = self.operand(depth)? {
            return self.comparison(left, depth);
        }
        let start = self.at;
        match self.identifier() {
            Some(name) => Ok(Condition::Macro(Word { text: name.to_owned(), bare: true, place: (start, name.len()) })),
            None => Err(self.mistake("expected `(`, a field or the name of a macro")),
        }
    }

    /// Letters, digits and `_`, beginning with a letter.
    fn identifier(&mut self) -> Option<&'t str> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += len;
        Some(&rest[..len])
    }

    /// A field or a call; `None` if there is only a name, or nothing.
    fn operand(&mut self, depth: usize) -> Result<Option<Operand>, Mistake> {
        let start = self.at;
        let Some(first) = self.identifier() else { return Ok(None) };
        if self.eat("(") {
            return self.call(first, start, depth).map(Some);
        }
        while let Some(after) = self.rest().strip_prefix('.')
            && after.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            self.at += 1;
            self.identifier();
        }
        let name = &self.text[start..self.at];
        if !name.contains('.') {
            self.at = start;
            return Ok(None);
        }
        let argument = self.argument()?;
        let kind = OperandKind::Field { name: name.to_owned(), argument };
        Ok(Some(Operand { kind, place: (start, self.at - start) }))
    }

    /// `[name]` behind a field.
    fn argument(&mut self) -> Result<Option<String>, Mistake> {
        if !self.eat("[") {
            return Ok(None);
        }
        let argument = match self.quoted()? {
            Some(text) => text,
            None => {
                let rest = self.rest();
                let stop = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '"' | '\'');
                let len = rest.find(stop).unwrap_or(rest.len());
                self.at += len;
                rest[..len].to_owned()
            }
        };
        if argument.is_empty() || !self.eat("]") {
            return Err(self.mistake("expected a field's argument and `]`"));
        }
        Ok(Some(argument))
    }

    fn call(&mut self, name: &str, start: usize, depth: usize) -> Result<Operand, Mistake> {
        if !CALLS.contains(&name) {
            let near = closest(name, CALLS).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            return Err(Mistake {
                message: format!("there is no transformer `{name}`{near}"),
                place: (start, name.len()),
            });
        }
        let operands = self.call_operands(depth + 1)?;
        let argument = self.argument()?;
        let kind = OperandKind::Call { name: name.to_owned(), operands, argument };
        Ok(Operand { kind, place: (start, self.at - start) })
    }

    /// What stands in brackets, the closing one included.
    fn call_operands(&mut self, depth: usize) -> Result<Vec<Operand>, Mistake> {
        let mut operands = Vec::new();
        self.blank();
        if self.eat(")") {
            return Ok(operands);
        }
        loop {
            operands.push(self.call_operand(depth)?);
            self.blank();
            if self.eat(",") {
                continue;
            }
            self.expect(")", "or `,`")?;
            return Ok(operands);
        }
    }

    fn call_operand(&mut self, depth: usize) -> Result<Operand, Mistake> {
        self.blank();
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err(Mistake { message: "the condition is nested too deep".to_owned(), place: (start, 1) });
        }
        let kind = if let Some(text) = self.quoted()? {
            OperandKind::Text(text)
        } else if self.eat("(") {
            OperandKind::List(self.call_operands(depth + 1)?)
        } else if let Some(number) = self.number() {
            OperandKind::Text(number)
        } else {
            return match self.operand(depth)? {
                Some(operand) => Ok(operand),
                None => Err(self.mistake("expected a field, a transformer, a quoted text, a number or a list")),
            };
        };
        Ok(Operand { kind, place: (start, self.at - start) })
    }

    fn number(&mut self) -> Option<String> {
        let rest = self.rest();
        let len = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).unwrap_or(rest.len());
        let number = as_number(&rest[..len])?;
        self.at += len;
        Some(number)
    }

    /// A text in quotes, if there is one.
    fn quoted(&mut self) -> Result<Option<String>, Mistake> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) else { return Ok(None) };
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'b')) => text.push('\u{8}'),
                    Some((_, 'f')) => text.push('\u{c}'),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, ' ' | '\\')) => text.push('\\'),
                    Some((_, c)) if c == '/' || c == quote => text.push(c),
                    other => {
                        let escape = other.map(|(_, c)| c.to_string()).unwrap_or_default();
                        let place = (start + at, 1 + escape.len());
                        return Err(Mistake { message: format!("there is no escape `\\{escape}` here"), place });
                    }
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(Some(text));
                }
                c => text.push(c),
            }
        }
        Err(Mistake { message: "the quote is not closed".to_owned(), place: (start, 1) })
    }

    fn word(&mut self) -> Result<Option<Word>, Mistake> {
        self.blank();
        let start = self.at;
        let (text, bare) = match self.quoted()? {
            Some(text) => (text, false),
            None => {
                let rest = self.rest();
                let stop = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | '=' | ',');
                let len = rest.find(stop).unwrap_or(rest.len());
                if len == 0 {
                    return Ok(None);
                }
                self.at += len;
                (rest[..len].to_owned(), true)
            }
        };
        Ok(Some(Word { text, bare, place: (start, self.at - start) }))
    }

    fn comparison(&mut self, left: Operand, depth: usize) -> Result<Condition, Mistake> {
        self.blank();
        if self.eat_word("exists") || self.rest().starts_with("exists)") && self.eat("exists") {
            return Ok(Condition::Exists(left));
        }
        let operator = self.operator()?;
        let modifier = self.modifier();
        if let Some(modifier) = modifier
            && (operator.takes_list() || operator.is_numeric())
        {
            let message = format!("`{}` does not go with `{}`", modifier.as_str(), operator.as_str());
            return Err(Mistake { message, place: (self.at, 1) });
        }
        self.blank();
        if let Some(right) = self.call_on_the_right(depth)? {
            return Ok(Condition::Compare { left, operator, modifier, right: Right::Operand(right) });
        }
        let right = if operator.takes_list() || modifier.is_some() {
            Right::Words(self.words()?)
        } else {
            match self.word()? {
                Some(word) => Right::Word(word),
                None => return Err(self.mistake("expected a text")),
            }
        };
        Ok(Condition::Compare { left, operator, modifier, right })
    }

    fn operator(&mut self) -> Result<Operator, Mistake> {
        let rest = self.rest();
        let signs = rest.find(|c: char| !matches!(c, '<' | '>' | '=' | '!')).unwrap_or(rest.len());
        if signs > 0 {
            let found = Operator::NAMES.into_iter().find(|(name, _)| rest.starts_with(name));
            if let Some((name, operator)) = found {
                self.at += name.len();
                return Ok(operator);
            }
        }
        let len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        match Operator::named(&rest[..len]) {
            Some(operator) => {
                self.at += len;
                Ok(operator)
            }
            None => {
                let mut mistake = self.mistake("expected an operator");
                if let Some(near) = closest(&rest[..len], Operator::NAMES.map(|(name, _)| name)) {
                    mistake.message.push_str(&format!(" (did you mean `{near}`?)"));
                }
                Err(mistake)
            }
        }
    }

    fn modifier(&mut self) -> Option<Modifier> {
        let start = self.at;
        self.blank();
        for modifier in [Modifier::One, Modifier::Any, Modifier::All] {
            let from = self.at;
            if self.eat(modifier.as_str()) {
                self.blank();
                if self.rest().starts_with('(') {
                    return Some(modifier);
                }
                self.at = from;
            }
        }
        self.at = start;
        None
    }

    /// `val(field)` or a transformer.
    fn call_on_the_right(&mut self, depth: usize) -> Result<Option<Operand>, Mistake> {
        let start = self.at;
        match self.identifier() {
            Some(name) if CALLS.contains(&name) && self.eat("(") => self.call(name, start, depth).map(Some),
            _ => {
                self.at = start;
                Ok(None)
            }
        }
    }

    fn words(&mut self) -> Result<Vec<Word>, Mistake> {
        if !self.eat("(") {
            return match self.word()? {
                Some(word) if word.bare => Ok(vec![word]),
                _ => Err(self.mistake("expected a list such as `(a, b)`")),
            };
        }
        let mut words = Vec::new();
        self.blank();
        if self.eat(")") {
            return Ok(words);
        }
        loop {
            match self.word()? {
                Some(word) => words.push(word),
                None => return Err(self.mistake("expected a text")),
            }
            self.blank();
            if self.eat(",") {
                continue;
            }
            self.expect(")", "or `,`")?;
            return Ok(words);
        }
    }
}

impl Modifier {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::One => "oneof",
            Self::Any => "anyof",
            Self::All => "allof",
        }
    }
}

/// A number as decimal text, if the text is one; `0x…` is read too.
pub(super) fn as_number(text: &str) -> Option<String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok().map(|number| number.to_string());
    }
    let number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    (number && text.parse::<f64>().is_ok_and(f64::is_finite)).then(|| text.trim_start_matches('+').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(condition: &Condition) -> String {
        let list = |parts: &[Condition], word: &str| parts.iter().map(show).collect::<Vec<_>>().join(word);
        match condition {
            Condition::And(parts) => format!("({})", list(parts, " and ")),
            Condition::Or(parts) => format!("({})", list(parts, " or ")),
            Condition::Not(part) => format!("not {}", show(part)),
            Condition::Macro(word) => word.text.clone(),
            Condition::Exists(operand) => format!("{operand} exists"),
            Condition::Compare { left, operator, modifier, right } => {
                let modifier = modifier.map(|m| format!(" {}", m.as_str())).unwrap_or_default();
                let right = match right {
                    Right::Word(word) => format!("{:?}", word.text),
                    Right::Words(words) => format!("{:?}", words.iter().map(|w| &w.text).collect::<Vec<_>>()),
                    Right::Operand(operand) => operand.to_string(),
                };
                format!("{left} {}{modifier} {right}", operator.as_str())
            }
        }
    }

    #[test]
    fn the_whole_language_is_read() {
        for (text, expected) in [
            ("a and b or not c and d", "((a and b) or (not c and d))"),
            ("not(a or b)and(c)", "(not (a or b) and c)"),
            ("not not a", "not not a"),
            ("ka.verb=get", "ka.verb = \"get\""),
            ("ka.verb != \"a b\"", "ka.verb != \"a b\""),
            ("ka.uri startswith /healthz?", "ka.uri startswith \"/healthz?\""),
            ("(jevt.value[/a/b~1c] exists)", "jevt.value[/a/b~1c] exists"),
            ("jevt.value[\"/a b\"]='x\\ty'", "jevt.value[/a b] = \"x\\ty\""),
            ("ka.x in (a, \"b\",\n c )", "ka.x in [\"a\", \"b\", \"c\"]"),
            ("ka.x intersects(true)", "ka.x intersects [\"true\"]"),
            ("ka.x in ()", "ka.x in []"),
            ("ka.x in names", "ka.x in [\"names\"]"),
            ("ka.x startswith anyof (a, b)", "ka.x startswith anyof [\"a\", \"b\"]"),
            ("ka.x = anyof", "ka.x = \"anyof\""),
            ("ka.x>=0x10", "ka.x >= \"0x10\""),
            ("tolower(ka.x) = val(ka.y)", "tolower(ka.x) = val(ka.y)"),
            ("join(\",\", (\"a\", ka.x)) contains b", "join(\",\", (\"a\", ka.x)) contains \"b\""),
            ("getopt(ka.x, \"e:\")[e] = sh", "getopt(ka.x, \"e:\")[e] = \"sh\""),
            ("ka.order.x exists and orders", "(ka.order.x exists and orders)"),
        ] {
            assert_eq!(parse(text).map(|c| show(&c)).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_name_word_and_place() {
        for (text, message, at) in [
            ("", "expected `(`, a field or the name of a macro, but the condition ends", 0),
            ("a b", "expected `and`, `or` or the end of the condition, not `b`", 2),
            ("(a", "expected `)` to close the bracket, but the condition ends", 2),
            ("ka.x equals y", "expected an operator, not `equals`", 5),
            ("ka.x contain y", "expected an operator, not `contain` (did you mean `contains`?)", 5),
            ("ka.x = ", "expected a text, but the condition ends", 7),
            ("ka.x in (a b)", "expected `)` or `,`, not `b`", 11),
            ("ka.x = \"a", "the quote is not closed", 7),
            ("ka.x = 'a\\qb'", "there is no escape `\\q` here", 9),
            ("lower(ka.x) = a", "there is no transformer `lower` (did you mean `tolower`?)", 0),
            ("ka.x in anyof (a)", "`anyof` does not go with `in`", 14),
        ] {
            let mistake = parse(text).expect_err(text);
            assert_eq!((mistake.message.as_str(), mistake.place.0), (message, at), "{text}");
        }
        assert!(parse(&"(".repeat(5_000)).is_err_and(|m| m.message.contains("too deep")));
        assert!(parse(&format!("{}a", "not ".repeat(5_000))).is_err_and(|m| m.message.contains("too deep")));
    }
}
