//! Sigma's condition language: `selection and not 1 of filter_*`.

/// A parsed condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of these.
    And(Vec<Self>),
    /// Any of these.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A search identifier, with its offset in the text.
    Name(String, usize),
    /// `1 of pattern` or `all of pattern`; the pattern `them` is every identifier without a leading underscore.
    Of {
        /// All of them, or one.
        all: bool,
        /// A name with `*` and `?`.
        pattern: String,
        /// Offset in the text.
        at: usize,
    },
}

impl Condition {
    /// Gives every name another place: in the file instead of in the text.
    pub fn place(&mut self, place: &dyn Fn(usize) -> usize) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter_mut().for_each(|part| part.place(place)),
            Self::Not(part) => part.place(place),
            Self::Name(_, at) | Self::Of { at, .. } => *at = place(*at),
        }
    }
}

/// What is wrong with a condition, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// For people.
    pub message: String,
    /// Offset in the text.
    pub at: usize,
    /// Length of the offending word.
    pub len: usize,
}

const AGGREGATION: &str = "aggregations after `|` are Sigma v1; write a correlation";

/// Nesting that is followed.
const DEPTH_MAX: usize = 64;

/// Parses a condition. Precedence, loosest first: `or`, `and`, `not`, `x of`.
pub fn parse(text: &str) -> Result<Condition, ConditionError> {
    let mut parser = Parser { words: words(text), at: 0, end: text.len() };
    let condition = parser.or(0)?;
    match parser.peek() {
        None => Ok(condition),
        Some(("|", at)) => Err(error(AGGREGATION.to_owned(), at, 1)),
        Some((word, at)) => Err(error(format!("expected `and` or `or` before `{word}`"), at, word.len())),
    }
}

fn error(message: String, at: usize, len: usize) -> ConditionError {
    ConditionError { message, at, len }
}

/// Words and brackets with their offsets.
fn words(text: &str) -> Vec<(&str, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if c.is_whitespace() || c == '(' || c == ')' {
            if let Some(start) = start.take() {
                words.push((&text[start..at], start));
            }
            if c == '(' || c == ')' {
                words.push((&text[at..=at], at));
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    words
}

struct Parser<'t> {
    words: Vec<(&'t str, usize)>,
    at: usize,
    end: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<(&'t str, usize)> {
        self.words.get(self.at).copied()
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let hit = self.peek().is_some_and(|(word, _)| word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(hit);
        hit
    }

    fn or(&mut self, depth: usize) -> Result<Condition, ConditionError> {
        let mut parts = vec![self.and(depth)?];
        while self.eat("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition, ConditionError> {
        let mut parts = vec![self.not(depth)?];
        while self.eat("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, ConditionError> {
        if depth > DEPTH_MAX {
            let (word, at) = self.peek().unwrap_or(("", self.end));
            return Err(error("the condition is nested too deep".to_owned(), at, word.len()));
        }
        if self.eat("not") {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        self.operand(depth)
    }

    fn operand(&mut self, depth: usize) -> Result<Condition, ConditionError> {
        let Some((word, at)) = self.peek() else {
            return Err(error("the condition ends where a name should follow".to_owned(), self.end, 0));
        };
        self.at += 1;
        if word == "(" {
            let inner = self.or(depth + 1)?;
            return if self.eat(")") {
                Ok(inner)
            } else {
                Err(error("this bracket is never closed".to_owned(), at, 1))
            };
        }
        if word == ")" || ["and", "or", "of"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) {
            return Err(error(format!("expected a name, found `{word}`"), at, word.len()));
        }
        let all = word.eq_ignore_ascii_case("all");
        let quantifier = all || word == "1" || word.eq_ignore_ascii_case("any");
        if quantifier && self.eat("of") {
            let Some((pattern, at)) = self.peek() else {
                return Err(error("`of` needs a pattern or `them`".to_owned(), self.end, 0));
            };
            self.at += 1;
            return Ok(Condition::Of { all, pattern: pattern.to_owned(), at });
        }
        if word.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error("only `1 of` and `all of` can be counted".to_owned(), at, word.len()));
        }
        if word == "|" {
            return Err(error(AGGREGATION.to_owned(), at, 1));
        }
        Ok(Condition::Name(word.to_owned(), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(condition: &Condition) -> String {
        let list = |parts: &[Condition], op: &str| format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(op));
        match condition {
            Condition::And(parts) => list(parts, " & "),
            Condition::Or(parts) => list(parts, " | "),
            Condition::Not(part) => format!("!{}", show(part)),
            Condition::Name(name, _) => name.clone(),
            Condition::Of { all, pattern, .. } => format!("{}<{pattern}>", if *all { "all" } else { "any" }),
        }
    }

    #[test]
    fn precedence_and_quantifiers() {
        for (text, expected) in [
            ("a", "a"),
            ("a or b and not c", "(a | (b & !c))"),
            ("(a or b) and c", "((a | b) & c)"),
            ("not 1 of filter_*", "!any<filter_*>"),
            ("sel AND all of them", "(sel & all<them>)"),
            ("not not a", "!!a"),
            ("a and (not(b))", "(a & !b)"),
        ] {
            assert_eq!(parse(text).map(|c| show(&c)), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_placed() {
        for (text, at, message) in [
            ("a b", 2, "expected `and` or `or` before `b`"),
            ("a and", 5, "the condition ends where a name should follow"),
            ("(a or b", 0, "this bracket is never closed"),
            ("a or or b", 5, "expected a name, found `or`"),
            ("2 of them", 0, "only `1 of` and `all of` can be counted"),
            ("a | count() > 5", 2, AGGREGATION),
            ("1 of", 4, "`of` needs a pattern or `them`"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.at, error.message.as_str()), (at, message), "{text}");
        }
        assert!(parse(&"(".repeat(10_000)).is_err());
        assert!(parse(&"not ".repeat(10_000)).is_err());
    }
}
