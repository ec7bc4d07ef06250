//! JSON for people: a line for each value, indented below what it belongs to.

use std::fmt::Write as _;

use chain_types::Balance;
use serde_json::Value;

/// Fields that are amounts in units; people read SUT.
const AMOUNTS: [&str; 27] = [
    "amount",
    "balance",
    "bond",
    "bonded",
    "burned",
    "commission_due",
    "cum",
    "current",
    "delegation_min",
    "deposits",
    "fee",
    "fee_base",
    "fee_per_byte",
    "fee_per_voucher",
    "fee_pool",
    "genesis",
    "held",
    "paid",
    "power_unit",
    "redeemed",
    "relay_bond_min",
    "rewards",
    "rewards_held",
    "self_delegation",
    "self_delegation_min",
    "ticket_price",
    "tokens",
];

/// The lines of a value.
pub fn lines(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                indent(text, depth);
                write_field(text, name, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(text, depth);
                match item {
                    Value::Object(_) | Value::Array(_) => {
                        text.push_str("-\n");
                        write_value(text, item, depth + 1);
                    }
                    plain => writeln!(text, "- {}", scalar("", plain)).expect("a String"),
                }
            }
        }
        plain => {
            indent(text, depth);
            writeln!(text, "{}", scalar("", plain)).expect("a String takes any text");
        }
    }
}

fn write_field(text: &mut String, name: &str, value: &Value, depth: usize) {
    let is_empty = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty => {
            writeln!(text, "{name}:").expect("a String takes any text");
            write_value(text, value, depth + 1);
        }
        plain => {
            writeln!(text, "{name}: {}", scalar(name, plain)).expect("a String takes any text");
        }
    }
}

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if AMOUNTS.contains(&name) => match text.parse::<Balance>() {
            Ok(amount) => format!("{} SUT", amount.in_sut()),
            Err(_) => text.clone(),
        },
        // What a stranger wrote does not steer the terminal.
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        Value::Null => "none".to_owned(),
        Value::Object(_) | Value::Array(_) => "none".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_shown_a_line_a_value() {
        let record = json!({
            "account": {"balance": "1500000000", "nonce": 3},
            "list": [{"id": "a"}, {"id": "b"}],
            "names": ["VP8"],
            "empty": [],
            "ended": null,
            "title": "red\u{1b}[31m",
        });
        let expected = "account:\n  balance: 1.5 SUT\n  nonce: 3\nempty: none\nended: none\nlist:\n  -\n    \
                        id: a\n  -\n    id: b\nnames:\n  - VP8\ntitle: red\u{fffd}[31m\n";
        let mut expected: Vec<_> = expected.lines().collect();
        let shown = lines(&record);
        let mut shown: Vec<_> = shown.lines().collect();
        // The order of an object's fields is serde_json's.
        expected.sort_unstable();
        shown.sort_unstable();
        assert_eq!(shown, expected);
    }
}
