//! Times on a command line: `20s`, `500ms`, `2m`.

use std::time::Duration;

/// Reads one.
///
/// # Errors
/// A sentence about what it is not.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time like 20s, 500ms or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [("20s", Some(20_000)), ("500ms", Some(500)), ("2m", Some(120_000))] {
            assert_eq!(parse(text).ok(), ms.map(Duration::from_millis));
        }
        for text in ["", "20", "s", "1h", "-1s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
