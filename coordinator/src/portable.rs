//! What a peer may have relayed as it came: JSON that every reader reads, not only this one.
//!
//! A text that is passed over unread may hold what strict readers refuse (half of a surrogate pair, a
//! number beyond all range, nesting without end); relayed, it would cost others the messages around it.

use serde_json::Value;

use crate::error::Refusal;

/// Levels of a relayed value; its messages and their batches add a few.
const DEPTH_MAX: usize = 64;

/// `text`, a JSON value that was found whole by a reader who skipped over it.
pub(crate) fn portable<'a>(text: &'a str, key: &str) -> Result<&'a str, Refusal> {
    // An SDP is a string, and strings fail by what is escaped as a number alone.
    if text.starts_with('"') && !text.contains("\\u") {
        return Ok(text);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if is_shallow(&value, DEPTH_MAX) => Ok(text),
        Ok(_) => Err(Refusal::bad_request(format!("`{key}` has more than {DEPTH_MAX} levels"))),
        Err(error) => Err(Refusal::bad_request(format!("`{key}` is not JSON for all: {error}"))),
    }
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_shallow(item, levels)),
        Value::Object(members) => members.values().all(|member| is_shallow(member, levels)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    #[track_caller]
    fn check(text: &str, is_good: bool) {
        let got = portable(text, "metadata").map_err(|refusal| refusal.code);
        let want = if is_good { Ok(text) } else { Err(Code::BadRequest) };
        assert_eq!(got, want, "{text:.60}");
    }

    #[test]
    fn what_some_reader_refuses_is_not_relayed() {
        check(r#""v=0\r\no=- 1""#, true);
        check(r#""\ud83d\ude00 \u00e4""#, true);
        check(r#"{"name":"x","list":[1,2.5e3,null,true]}"#, true);
        check(r#""\ud800""#, false);
        check(r#"{"\ud800":1}"#, false);
        check(r#"{"x":1e999999}"#, false);
        for (levels, is_good) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false), (25_000, false)] {
            let nested = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
            check(&nested, is_good);
        }
    }
}
