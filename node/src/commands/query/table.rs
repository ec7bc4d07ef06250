//! Rows for people: columns as wide as their widest cell, numbers to the right.

use chain_types::Balance;
use serde_json::Value;

/// Which way a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// The lines of a table; a list without rows is one line that says so.
pub fn lines<const N: usize>(head: [(&str, Align); N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default().max(head[column].0.chars().count())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = std::iter::zip(cells, std::iter::zip(widths, head));
        let cells: Vec<_> = cells
            .map(|(cell, (width, (_, align)))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(head.map(|(name, _)| name))).chain(rows).collect()
}

/// An amount in units as SUT.
pub fn sut(units: &Value) -> String {
    let amount = units.as_str().and_then(|text| text.parse::<Balance>().ok());
    amount.map_or_else(|| text(units), |amount| amount.in_sut().to_string())
}

/// Basis points as a percentage.
pub fn percent(bps: &Value) -> String {
    match bps.as_u64() {
        Some(bps) if bps % 100 == 0 => format!("{} %", bps / 100),
        Some(bps) => format!("{}.{:02} %", bps / 100, bps % 100),
        None => text(bps),
    }
}

/// Unix milliseconds as a date.
pub fn time(ms: &Value) -> String {
    let parse = |ms: u64| {
        let (seconds, rest) = (i64::try_from(ms / 1000).ok()?, u32::try_from(ms % 1000).ok()?);
        tendermint::Time::from_unix_timestamp(seconds, rest * 1_000_000).ok()
    };
    ms.as_u64().and_then(parse).map_or_else(|| text(ms), |time| time.to_rfc3339())
}

/// A value on one line; what a stranger wrote does not steer the terminal.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let head = [("NAME", Align::Left), ("STAKE", Align::Right), ("ID", Align::Left)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["é", "1.5", "ab"]), row(["longest", "1000000", "c"])];
        let expected = "NAME       STAKE  ID\né            1.5  ab\nlongest  1000000  c\n";
        assert_eq!(lines(head, &rows), expected);
        assert_eq!(lines(head, &[]), "none\n");
    }

    #[test]
    fn values_are_shown_as_people_read_them() {
        assert_eq!(sut(&json!("1500000000")), "1.5");
        assert_eq!((percent(&json!(1000)), percent(&json!(5))), ("10 %".into(), "0.05 %".into()));
        assert_eq!(time(&json!(1_700_000_000_500_u64)), "2023-11-14T22:13:20.5Z");
        assert_eq!(text(&json!("a\u{1b}[31m")), "a\u{fffd}[31m");
        // What is no such value stands there as it came.
        assert_eq!((sut(&json!("x")), time(&json!(u64::MAX))), ("x".into(), u64::MAX.to_string()));
    }
}
