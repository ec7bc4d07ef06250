//! CometBFT's event queries: `tm.event='Tx' AND transfer.sender='ab'`.

use std::fmt;

/// Longest query in bytes; CometBFT has the same bound.
pub const QUERY_BYTES_MAX: usize = 512;
/// Most conditions in a query.
pub const QUERY_CONDITIONS_MAX: usize = 10;

/// Conditions that all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    /// `type.attribute`.
    pub key: String,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Equals(String),
    Contains(String),
    Exists,
    Less(i128),
    LessOrEqual(i128),
    Greater(i128),
    GreaterOrEqual(i128),
}

/// Why a query cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("query {query:?}: {reason}")]
pub struct QueryError {
    pub query: String,
    pub reason: String,
}

/// What happened, as queries see it: `type.attribute` and value, a key may come several times.
pub(crate) type Attributes = Vec<(String, String)>;

impl Query {
    /// Parses a query.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let failed = |reason: String| QueryError {
            query: text.chars().take(QUERY_BYTES_MAX).collect(),
            reason,
        };
        if text.len() > QUERY_BYTES_MAX {
            return Err(failed(format!(
                "has {} bytes, at most {QUERY_BYTES_MAX} are read",
                text.len()
            )));
        }
        let mut lexer = Lexer { rest: text };
        let mut conditions = Vec::new();
        loop {
            conditions.push(lexer.condition().map_err(failed)?);
            if conditions.len() > QUERY_CONDITIONS_MAX {
                return Err(failed(format!("has more than {QUERY_CONDITIONS_MAX} conditions")));
            }
            match lexer.word() {
                None if lexer.rest.is_empty() => return Ok(Query { conditions }),
                Some(word) if word.eq_ignore_ascii_case("AND") => {}
                _ => return Err(failed("conditions are joined by AND".to_owned())),
            }
        }
    }

    /// Whether everything asked for is among `attributes`.
    pub(crate) fn matches(&self, attributes: &Attributes) -> bool {
        self.conditions.iter().all(|condition| {
            let mut values =
                attributes.iter().filter(|(key, _)| *key == condition.key).map(|(_, value)| value);
            values.any(|value| condition.test.holds(value))
        })
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        let number = || value.parse::<i128>().ok();
        match self {
            Test::Equals(wanted) => value == wanted,
            Test::Contains(part) => value.contains(part.as_str()),
            Test::Exists => true,
            Test::Less(bound) => number().is_some_and(|n| n < *bound),
            Test::LessOrEqual(bound) => number().is_some_and(|n| n <= *bound),
            Test::Greater(bound) => number().is_some_and(|n| n > *bound),
            Test::GreaterOrEqual(bound) => number().is_some_and(|n| n >= *bound),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions.iter().enumerate() {
            if index > 0 {
                f.write_str(" AND ")?;
            }
            write!(f, "{}", condition.key)?;
            match &condition.test {
                Test::Equals(value) => write!(f, "='{value}'")?,
                Test::Contains(part) => write!(f, " CONTAINS '{part}'")?,
                Test::Exists => f.write_str(" EXISTS")?,
                Test::Less(bound) => write!(f, "<{bound}")?,
                Test::LessOrEqual(bound) => write!(f, "<={bound}")?,
                Test::Greater(bound) => write!(f, ">{bound}")?,
                Test::GreaterOrEqual(bound) => write!(f, ">={bound}")?,
            }
        }
        Ok(())
    }
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn condition(&mut self) -> Result<Condition, String> {
        let key = self.word().ok_or("a condition begins with type.attribute")?.to_owned();
        self.skip_space();
        let operators = ["<=", ">=", "=", "<", ">"];
        let operator = operators.into_iter().find(|operator| self.rest.starts_with(operator));
        let Some(operator) = operator else {
            return match self.word() {
                Some(word) if word.eq_ignore_ascii_case("EXISTS") => {
                    Ok(Condition { key, test: Test::Exists })
                }
                Some(word) if word.eq_ignore_ascii_case("CONTAINS") => {
                    let part = self.quoted().ok_or("CONTAINS needs a 'string'")?;
                    Ok(Condition { key, test: Test::Contains(part.to_owned()) })
                }
                _ => Err(format!("{key} is followed by none of = < <= > >= CONTAINS EXISTS")),
            };
        };
        self.rest = &self.rest[operator.len()..];
        if operator == "=" {
            let value = self.quoted().or_else(|| self.word());
            let value = value.ok_or(format!("{key}= needs a 'string' or a number"))?;
            return Ok(Condition { key, test: Test::Equals(value.to_owned()) });
        }
        let number = self.word().and_then(|word| word.parse().ok());
        let bound: i128 = number.ok_or(format!("{key}{operator} needs an integer"))?;
        let test = match operator {
            "<" => Test::Less(bound),
            "<=" => Test::LessOrEqual(bound),
            ">" => Test::Greater(bound),
            _ => Test::GreaterOrEqual(bound),
        };
        Ok(Condition { key, test })
    }

    fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn quoted(&mut self) -> Option<&'a str> {
        self.skip_space();
        let inner = self.rest.strip_prefix('\'')?;
        let (value, rest) = inner.split_once('\'')?;
        self.rest = rest;
        Some(value)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, matches: bool) {
        let attributes = [("tm.event", "Tx"), ("tx.height", "7"), ("fee.payer", "ab cd")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let parsed = Query::parse(query).expect("a valid query");
        assert_eq!(parsed.matches(&attributes), matches, "{query}");
        assert_eq!(Query::parse(&parsed.to_string()).as_ref(), Ok(&parsed), "{query}");
    }

    #[test]
    fn every_condition_must_hold() {
        check("tm.event='Tx'", true);
        check("tm.event = 'Tx' AND fee.payer='ab cd'", true);
        check("tm.event='Tx' and fee.payer='ab'", false);
        check("tx.height=7", true);
        check("tx.height>6 AND tx.height<=7", true);
        check("tx.height<7", false);
        check("tx.height>=8", false);
        check("fee.payer CONTAINS 'b c'", true);
        check("fee.payer EXISTS", true);
        check("fee.other EXISTS", false);
        check("tm.event>1", false);
    }

    #[test]
    fn what_is_no_query_is_refused_with_a_reason() {
        let long = format!("a.b='{}'", "x".repeat(QUERY_BYTES_MAX));
        let many = ["a.b=1"; QUERY_CONDITIONS_MAX + 1].join(" AND ");
        for text in ["", "=", "a.b", "a.b=", "a.b='x", "a.b<'x'", "a.b=1 OR c=2", "a.b=1 AND"]
            .into_iter()
            .chain([long.as_str(), many.as_str()])
        {
            assert!(Query::parse(text).is_err(), "{text}");
        }
    }
}
