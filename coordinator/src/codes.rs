//! Short codes that stand for invites, so many for each caller and each for a while.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::clock::Now;
use crate::error::Refusal;
use crate::limits::{BACKOFF_MS_MAX, INVITE_CODES_MAX, INVITE_CODES_PER_CALLER_MAX};
use crate::sessions::Who;
use crate::shards::lock;

/// The codes. One lock holds them: a code is made or read where a signature is checked anyway.
#[derive(Default)]
pub(crate) struct Codes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_code: HashMap<String, Code>,
    /// The code of each invite.
    by_invite: HashMap<String, String>,
    /// How many each caller made that still stand.
    made: HashMap<Who, usize>,
}

struct Code {
    invite: String,
    /// Mono ms.
    until_ms: u64,
    by: Option<Who>,
}

impl Codes {
    /// The code of this invite: the one that it has, else `fresh`, until `until_ms` (mono).
    /// Without `by` nobody knows who asks, and all such callers share what there is.
    pub(crate) fn keep(
        &self,
        fresh: String,
        invite: String,
        by: Option<Who>,
        until_ms: u64,
        now: Now,
    ) -> Result<String, Refusal> {
        let mut kept = lock(&self.0);
        let Kept { by_code, by_invite, made } = &mut *kept;
        if let Some(code) = by_invite.get(&invite)
            && by_code.get(code).is_some_and(|known| known.until_ms > now.mono_ms)
        {
            return Ok(code.clone());
        }
        // One that has ended and was not swept yet makes place for its successor.
        if let Some(code) = by_invite.remove(&invite)
            && let Some(ended) = by_code.remove(&code)
        {
            uncount(made, ended.by.as_ref());
        }
        if by_code.len() >= INVITE_CODES_MAX {
            let sentence = "as many codes stand as may; hand on the invite itself";
            return Err(Refusal::rate_limited(sentence).after(BACKOFF_MS_MAX));
        }
        if let Some(by) = &by {
            let held = made.entry(by.clone()).or_default();
            if *held >= INVITE_CODES_PER_CALLER_MAX {
                let sentence =
                    "this caller has as many codes as one may; hand on the invite itself";
                return Err(Refusal::rate_limited(sentence).after(BACKOFF_MS_MAX));
            }
            *held += 1;
        }
        by_invite.insert(invite.clone(), fresh.clone());
        by_code.insert(fresh.clone(), Code { invite, until_ms, by });
        Ok(fresh)
    }

    /// The invite behind a code.
    pub(crate) fn invite_of(&self, code: &str, now: Now) -> Option<String> {
        let kept = lock(&self.0);
        let known = kept.by_code.get(code)?;
        (known.until_ms > now.mono_ms).then(|| known.invite.clone())
    }

    /// Forgets what time has ended.
    pub(crate) fn sweep(&self, now: Now) {
        let mut kept = lock(&self.0);
        let Kept { by_code, by_invite, made } = &mut *kept;
        by_code.retain(|_, known| {
            let stands = known.until_ms > now.mono_ms;
            if !stands {
                by_invite.remove(&known.invite);
                uncount(made, known.by.as_ref());
            }
            stands
        });
    }
}

fn uncount(made: &mut HashMap<Who, usize>, by: Option<&Who>) {
    if let Some(by) = by
        && let Some(held) = made.get_mut(by)
    {
        *held -= 1;
        if *held == 0 {
            made.remove(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code as Name;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: mono_ms }
    }

    /// R89, R92
    #[test]
    fn an_invite_has_one_code_a_caller_has_so_many_and_time_gives_them_back() {
        let codes = Codes::default();
        let (a, b) = (Who::Node("a".into()), Who::Node("b".into()));
        let keep = |turn: usize, by: &Who, now: u64| {
            let (code, invite) = (format!("code {turn} at {now}"), format!("invite {turn}"));
            codes.keep(code, invite, Some(by.clone()), now + 1_000, at(now))
        };
        for turn in 0..INVITE_CODES_PER_CALLER_MAX {
            assert_eq!(keep(turn, &a, 0), Ok(format!("code {turn} at 0")));
        }
        assert_eq!(keep(1, &a, 999), Ok("code 1 at 0".to_owned()), "the one that it has");
        let refusal = keep(9_999, &a, 0).unwrap_err();
        assert_eq!(refusal.code, Name::RateLimited);
        assert!(keep(9_999, &b, 0).is_ok(), "another caller has its own measure");
        assert_eq!(codes.invite_of("code 1 at 0", at(999)).as_deref(), Some("invite 1"));
        assert_eq!(codes.invite_of("code 1 at 0", at(1_000)), None);
        assert_eq!(keep(1, &a, 1_000), Ok("code 1 at 1000".to_owned()));
        codes.sweep(at(1_000));
        assert_eq!(lock(&codes.0).by_code.len(), 1);
        assert_eq!(lock(&codes.0).made, HashMap::from([(a.clone(), 1)]));
        codes.sweep(at(2_000));
        let kept = lock(&codes.0);
        assert!(kept.by_code.is_empty() && kept.by_invite.is_empty() && kept.made.is_empty());
    }
}
