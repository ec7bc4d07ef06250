//! Lists of records, page by page; nobody proves that a list is whole, so none is called proved.

use anyhow::{Context as _, bail};
use chain_types::{AccountId, ChannelId, StreamId};
use serde_json::{Value, json};

use super::Asking;

/// Records of one page ([`consensus_abci::app`] gives no more).
const PAGE: usize = 500;
/// Pages that are read; beyond them the list says that it is cut.
const PAGES_MAX: usize = 40;

/// What is listed, and by what its pages go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By id.
    Streams,
    /// By id.
    Channels,
    /// By payee, stream and number.
    Lanes,
    /// By account.
    Relays,
    /// By account.
    Validators,
    /// Of one account, by validator.
    Delegations,
    /// Of one validator, by account.
    Delegators,
    /// By number.
    Proposals,
}

impl Kind {
    /// What the list is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Channels => "channels",
            Self::Lanes => "lanes",
            Self::Relays => "relays",
            Self::Validators => "validators",
            Self::Delegations => "delegations",
            Self::Delegators => "delegators",
            Self::Proposals => "proposals",
        }
    }

    /// Where the page behind `last` begins.
    fn place(self, last: &Value) -> Option<Vec<u8>> {
        let text = |key: &str| last[key].as_str();
        let account = |key: &str| Some(text(key)?.parse::<AccountId>().ok()?.0.to_vec());
        Some(match self {
            Self::Streams => text("id")?.parse::<StreamId>().ok()?.0.to_vec(),
            Self::Channels => text("id")?.parse::<ChannelId>().ok()?.0.to_vec(),
            Self::Relays | Self::Validators => account("account")?,
            Self::Delegations => account("validator")?,
            Self::Delegators => account("delegator")?,
            Self::Proposals => last["number"].as_u64()?.to_be_bytes().to_vec(),
            Self::Lanes => {
                let payee: AccountId = text("payee")?.parse().ok()?;
                let stream: StreamId = text("stream")?.parse().ok()?;
                let lane = u32::try_from(last["lane"].as_u64()?).ok()?;
                [&payee.0[..], &stream.0, &lane.to_be_bytes()].concat()
            }
        })
    }
}

impl Asking<'_> {
    /// Prints all records of a list.
    pub(super) fn list(&mut self, kind: Kind, path: &str) -> anyhow::Result<()> {
        let (all, is_cut) = self.fetch(kind, path)?;
        self.tell_unproved(json!({ kind.name(): all, "is_cut": is_cut }))
    }

    /// All records of a list, and whether there are more than are read.
    pub(super) fn fetch(&self, kind: Kind, path: &str) -> anyhow::Result<(Vec<Value>, bool)> {
        if self.options.height.is_some() {
            bail!("lists are of the newest state only: leave --height out");
        }
        let client = self.follower.primary();
        let mut all: Vec<Value> = Vec::new();
        let mut after = Vec::new();
        let mut is_cut = true;
        for _ in 0..PAGES_MAX {
            let answer = client.abci_query(path, &after, 0, false)?;
            if answer.code != 0 {
                bail!("{} does not tell: {} (code {})", client.name(), answer.log, answer.code);
            }
            let other = || format!("{} gives another list than this version knows", client.name());
            let page: Vec<Value> = serde_json::from_slice(&answer.value).with_context(other)?;
            let is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                after = kind.place(last).with_context(other)?;
            }
            all.extend(page);
            if is_last {
                is_cut = false;
                break;
            }
        }
        if is_cut {
            eprintln!("only the first {} are shown", all.len());
        }
        Ok((all, is_cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_behind_the_last_record_of_the_one_before() {
        #[track_caller]
        fn check(kind: Kind, last: Value, expected: Option<Vec<u8>>) {
            assert_eq!(kind.place(&last), expected);
        }
        let id = |byte: u8| format!("{byte:02x}").repeat(32);
        check(Kind::Streams, json!({"id": id(1), "title": ""}), Some(vec![1; 32]));
        check(Kind::Channels, json!({"id": id(2)}), Some(vec![2; 32]));
        check(Kind::Relays, json!({"account": id(3)}), Some(vec![3; 32]));
        check(Kind::Validators, json!({"account": id(7)}), Some(vec![7; 32]));
        check(Kind::Delegations, json!({"validator": id(8)}), Some(vec![8; 32]));
        check(Kind::Delegators, json!({"delegator": id(9)}), Some(vec![9; 32]));
        check(Kind::Proposals, json!({"number": 258}), Some(vec![0, 0, 0, 0, 0, 0, 1, 2]));
        check(Kind::Proposals, json!({"number": "258"}), None);
        let lane = json!({"payee": id(4), "stream": id(5), "lane": 6});
        let place = [&[4; 32][..], &[5; 32], &[0, 0, 0, 6]].concat();
        check(Kind::Lanes, lane, Some(place));
        check(Kind::Streams, json!({"title": ""}), None);
        check(Kind::Streams, json!({"id": "00"}), None);
        check(Kind::Lanes, json!({"payee": id(4), "stream": id(5), "lane": -1}), None);
    }
}
