//! Prometheus' text format, as far as single values are looked for in it.

/// The sum of a family's samples whose labels have all of `labels`; `None`: there is none.
pub fn value(text: &str, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = text.lines().filter_map(|line| sample(line, family));
    let wanted = samples.filter(|(found, _)| {
        labels.iter().all(|(name, value)| found.contains(&format!("{name}=\"{value}\"")))
    });
    wanted.map(|(_, value)| value).reduce(|sum, value| sum + value)
}

/// Labels and value of a line, if it is one of `family`.
fn sample<'a>(line: &'a str, family: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(family)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest.strip_prefix(' ')?),
    };
    Some((labels, value.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_family_and_labels() {
        let text = "# HELP sutantra_viewers Connected\n# TYPE sutantra_viewers gauge\n\
                    sutantra_viewers 3\n\
                    sutantra_voucher_total{result=\"accepted\"} 40\n\
                    sutantra_voucher_total{result=\"stale\"} 2\n\
                    sutantra_viewers_all 9\n";
        #[track_caller]
        fn check(text: &str, family: &str, labels: &[(&str, &str)], expected: Option<f64>) {
            assert_eq!(value(text, family, labels), expected, "{family}");
        }
        check(text, "sutantra_viewers", &[], Some(3.0));
        check(text, "sutantra_voucher_total", &[("result", "accepted")], Some(40.0));
        check(text, "sutantra_voucher_total", &[], Some(42.0));
        check(text, "sutantra_voucher_total", &[("result", "invalid")], None);
        check(text, "sutantra_view", &[], None);
        check("sutantra_viewers{", "sutantra_viewers", &[], None);
        check("sutantra_viewers many", "sutantra_viewers", &[], None);
    }
}
