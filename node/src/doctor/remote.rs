//! The chain's endpoints: reachable, which chain, how far, whose clock is right.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comet::rpc::Client;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use wallet::http::{Request, Url};

use super::{ready::APART_MAX, report::Finding};

/// Blocks that one endpoint may be behind the others.
const BEHIND_MAX: u64 = 30;

/// What an endpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of which chain.
    pub chain_id: String,
    /// Height of the newest block.
    pub height: u64,
    /// Its time, unix.
    pub block_time: Duration,
    /// It fetches old blocks still.
    pub is_catching_up: bool,
    /// By the `Date` of its answer, unix; whole seconds.
    pub clock: Option<Duration>,
}

/// Asks one.
///
/// # Errors
/// Why there is no answer.
pub fn ask(endpoint: &str) -> Result<Said, String> {
    let client = Client::new(endpoint).map_err(|error| error.to_string())?;
    let status = client.status().map_err(|error| error.to_string())?;
    let nanos = u64::try_from(status.latest_time.unix_timestamp_nanos()).unwrap_or(0);
    Ok(Said {
        chain_id: status.chain_id,
        height: status.latest_height,
        block_time: Duration::from_nanos(nanos),
        is_catching_up: status.is_catching_up,
        clock: date(endpoint),
    })
}

/// HTTP's `Date` (RFC 9110 §6.6.1); over HTTPS it is not asked for.
fn date(endpoint: &str) -> Option<Duration> {
    let url: Url = endpoint.trim_end_matches('/').parse().ok()?;
    let answer =
        url.join("/health").send(Request { method: "GET", headers: &[], body: &[] }).ok()?;
    parse_date(answer.header("date")?)
}

fn parse_date(text: &str) -> Option<Duration> {
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    u64::try_from(date.unix_timestamp()).ok().map(Duration::from_secs)
}

/// What follows from all answers.
pub fn judge(now: SystemTime, answers: &[(String, Result<Said, String>)]) -> Vec<Finding> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let said = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let highest = said().map(|said| said.height).max().unwrap_or(0);
    let first_chain = said().next().map(|said| said.chain_id.clone());
    let mut findings: Vec<_> = answers
        .iter()
        .map(|(endpoint, answer)| {
            let name = format!("endpoint {endpoint}");
            match answer {
                Err(why) => Finding::bad(
                    name,
                    format!("does not answer: {why}"),
                    "look at its address and the firewall between, or name another with --chain-rpc",
                ),
                Ok(said) => of_one(now, name, said, highest, first_chain.as_deref()),
            }
        })
        .collect();
    if answers.len() == 1 {
        findings.push(Finding::warning(
            "endpoints",
            "there is one: nothing that it says can be compared",
            "name a second one, of another operator",
        ));
    }
    findings.extend(clock(now, said()));
    findings
}

fn of_one(now: Duration, name: String, said: &Said, highest: u64, chain: Option<&str>) -> Finding {
    let Said { chain_id, height, block_time, is_catching_up, .. } = said;
    let age = now.saturating_sub(*block_time).as_secs();
    let found = format!("{chain_id}, height {height}, newest block {age} s old");
    if chain != Some(chain_id) {
        let first = chain.unwrap_or_default();
        return Finding::bad(
            name,
            format!("{found}: another chain than the first endpoint's, {first}"),
            "name endpoints of one chain",
        );
    }
    if *is_catching_up {
        return Finding::warning(
            name,
            format!("{found}, catching up"),
            "wait until it has all blocks, or name another",
        );
    }
    if highest - height > BEHIND_MAX {
        let behind = highest - height;
        return Finding::warning(
            name,
            format!("{found}, {behind} blocks behind the others"),
            "name another one",
        );
    }
    if now.saturating_sub(*block_time) > APART_MAX * 6 {
        return Finding::warning(
            name,
            found,
            "the chain stands (ask its operators), or this machine's clock is ahead: see below",
        );
    }
    Finding::ok(name, found)
}

/// This machine's clock against what endpoints say.
fn clock<'a>(now: Duration, said: impl Iterator<Item = &'a Said>) -> Option<Finding> {
    let mut worst: Option<(Duration, String)> = None;
    for Said { chain_id, block_time, clock, .. } in said {
        let ahead_of_us = block_time.saturating_sub(now);
        let by_block = (ahead_of_us, format!("behind the newest block of {chain_id}"));
        let by_date = clock.map(|clock| match clock > now {
            true => (clock - now, "behind an endpoint's clock".to_owned()),
            // Its second has begun up to a second ago, and its answer took a while.
            false => (now - clock, "ahead of an endpoint's clock".to_owned()),
        });
        for candidate in [Some(by_block), by_date].into_iter().flatten() {
            if worst.as_ref().is_none_or(|(apart, _)| candidate.0 > *apart) {
                worst = Some(candidate);
            }
        }
    }
    let name = "clock and chain";
    let (apart, how) = worst?;
    Some(match apart > APART_MAX {
        true => Finding::bad(
            name,
            format!("this machine's clock is {} s {how}", apart.as_secs()),
            "sudo timedatectl set-ntp true, or sudo chronyc makestep; if the clock is right here, the endpoint's is wrong",
        ),
        false => Finding::ok(name, "they agree within 5 s"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    const NOW: u64 = 1_800_000_000;

    fn said(height: u64, age_s: i64) -> Said {
        let block_time = Duration::from_secs(NOW.checked_add_signed(-age_s).expect("a time"));
        let clock = Some(Duration::from_secs(NOW));
        Said { chain_id: "c-1".into(), height, block_time, is_catching_up: false, clock }
    }

    #[track_caller]
    fn check(answers: &[Result<Said, &str>], expected: &[(Level, &str)]) {
        let answers: Vec<_> = answers
            .iter()
            .enumerate()
            .map(|(n, answer)| (format!("http://e{n}"), answer.clone().map_err(str::to_owned)))
            .collect();
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let findings = judge(now, &answers);
        let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, expected.iter().map(|(level, _)| *level).collect::<Vec<_>>());
        for (finding, (_, words)) in findings.iter().zip(expected) {
            assert!(finding.found.contains(words), "{finding:?}");
            assert_eq!(finding.remedy.is_empty(), finding.level == Level::Ok, "{finding:?}");
        }
    }

    #[test]
    fn endpoints_are_judged_by_themselves_and_beside_each_other() {
        use Level::{Bad, Ok as Good, Warning};
        check(
            &[Ok(said(9, 1)), Ok(said(8, 2))],
            &[(Good, "height 9"), (Good, "8"), (Good, "agree")],
        );
        check(&[Ok(said(9, 1)), Err("refused")], &[(Good, ""), (Bad, "refused"), (Good, "agree")]);
        check(&[Err("no"), Err("no")], &[(Bad, "no"), (Bad, "no")]);
        check(&[Ok(said(9, 1))], &[(Good, ""), (Warning, "there is one"), (Good, "")]);
        let other = Said { chain_id: "d-1".into(), ..said(9, 1) };
        check(&[Ok(said(9, 1)), Ok(other)], &[(Good, ""), (Bad, "another chain"), (Good, "")]);
        let late = Said { is_catching_up: true, ..said(3, 900) };
        check(&[Ok(said(99, 1)), Ok(late)], &[(Good, ""), (Warning, "catching up"), (Good, "")]);
        check(
            &[Ok(said(99, 1)), Ok(said(9, 1))],
            &[(Good, ""), (Warning, "90 blocks"), (Good, "")],
        );
        check(
            &[Ok(said(9, 60)), Ok(said(9, 60))],
            &[(Warning, "60 s old"), (Warning, ""), (Good, "")],
        );
    }

    #[test]
    fn a_wrong_clock_is_seen_by_blocks_of_the_future_and_by_the_endpoints_own() {
        let both = |said: Said, words| {
            check(
                &[Ok(said.clone()), Ok(said)],
                &[(Level::Ok, ""), (Level::Ok, ""), (Level::Bad, words)],
            );
        };
        both(said(9, -600), "600 s behind the newest block");
        let date = |seconds| Some(Duration::from_secs(seconds));
        both(Said { clock: date(NOW - 60), ..said(9, 1) }, "60 s ahead of an endpoint's clock");
        both(Said { clock: date(NOW + 60), ..said(9, 1) }, "60 s behind an endpoint's clock");
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), date(784_111_777));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn an_endpoints_clock_is_in_its_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut peer, _) = listener.accept().expect("a client");
            let mut asked = [0; 1024];
            let len = peer.read(&mut asked).expect("a request");
            let answer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
            peer.write_all(answer.as_bytes()).expect("it reads");
            String::from_utf8_lossy(&asked[..len]).into_owned()
        });
        assert_eq!(date(&format!("http://{at}/rpc/")), Some(Duration::from_secs(784_111_777)));
        assert!(server.join().expect("it ends").starts_with("GET /rpc/health "));
    }

    #[test]
    fn nobody_there_is_a_sentence() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = free.local_addr().expect("bound");
        drop(free);
        assert!(ask(&format!("http://{at}")).is_err_and(|why| !why.is_empty()));
        assert!(ask("gopher://x").is_err());
    }
}
