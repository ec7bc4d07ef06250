//! What CometBFT shows of a round in progress, for an engine that has none between two blocks.

use serde_json::{Value, json};
use tendermint::validator::Set;
use tendermint_proto::v0_38::types as pb;

use super::error::RpcError;
use super::params::Params;
use super::shape;
use crate::engine::{Core, hex_upper};

/// CometBFT's `RoundStepNewHeight`: nothing is proposed yet. The engine decides a block in one go,
/// so nobody ever sees it in another step.
const STEP_NEW_HEIGHT: u8 = 1;

/// Bytes of a hash or a signature that CometBFT prints of a vote.
const FINGERPRINT_BYTES: usize = 6;

/// The newest block and who signs the next: all that there is between two blocks.
struct Standing {
    next_height: u64,
    validators: Set,
    last_validators: Option<Set>,
    last_commit: Option<pb::Commit>,
    /// Header time of the newest block, or of the genesis.
    since: Value,
}

fn standing(core: &Core) -> Result<Standing, RpcError> {
    let tip = core.tip().height;
    let validators = core.store.validators(tip + 1)?;
    let meta = core.store.meta(tip)?;
    let time = meta.and_then(|meta| meta.header).and_then(|header| header.time);
    Ok(Standing {
        next_height: tip + 1,
        validators: validators
            .ok_or_else(|| RpcError::internal("the engine has not begun; ask again"))?,
        last_validators: core.store.validators(tip)?.filter(|_| tip > 0),
        last_commit: core.store.commit(tip)?,
        since: match time {
            Some(time) => shape::time(Some(time)),
            None => Value::String(core.genesis.genesis_time.to_rfc3339()),
        },
    })
}

impl Standing {
    /// Nobody has voted on the next block.
    fn votes(&self) -> Value {
        let count = self.validators.validators().len();
        let power = self.validators.total_voting_power().value();
        let none = vec!["nil-Vote"; count];
        let bits = format!("BA{{{count}:{}}} 0/{power} = 0.00", "_".repeat(count));
        json!([{
            "round": 0,
            "prevotes": none,
            "prevotes_bit_array": bits,
            "precommits": none,
            "precommits_bit_array": bits,
        }])
    }

    fn last_commit(&self) -> Value {
        let (Some(commit), Some(validators)) = (&self.last_commit, &self.last_validators) else {
            return Value::Null;
        };
        let power = validators.total_voting_power().value();
        let signed = validators.validators().iter().zip(&commit.signatures);
        let signed: u64 = signed
            .filter(|(_, signature)| !signature.signature.is_empty())
            .map(|(validator, _)| validator.power.value())
            .sum();
        let bit = |sig: &pb::CommitSig| if sig.signature.is_empty() { '_' } else { 'x' };
        let bits: String = commit.signatures.iter().map(bit).collect();
        let votes = commit.signatures.iter().enumerate();
        let votes: Vec<String> = votes.map(|(at, sig)| vote_text(commit, at, sig)).collect();
        let share = signed as f64 / power as f64;
        json!({
            "votes": votes,
            "votes_bit_array": format!("BA{{{}:{bits}}} {signed}/{power} = {share:.2}", votes.len()),
            "peer_maj_23s": {},
        })
    }
}

/// A precommit as CometBFT prints it.
fn vote_text(commit: &pb::Commit, index: usize, signature: &pb::CommitSig) -> String {
    if signature.signature.is_empty() {
        return "nil-Vote".to_owned();
    }
    let short = |bytes: &[u8]| hex_upper(&bytes[..bytes.len().min(FINGERPRINT_BYTES)]);
    let hash = commit.block_id.as_ref().map(|id| short(&id.hash)).unwrap_or_default();
    let time = shape::time(signature.timestamp);
    format!(
        "Vote{{{index}:{} {}/{:02}/SIGNED_MSG_TYPE_PRECOMMIT(Precommit) {hash} {} {} @ {}}}",
        short(&signature.validator_address),
        commit.height,
        commit.round,
        short(&signature.signature),
        // No vote extensions.
        short(&[0; FINGERPRINT_BYTES]),
        time.as_str().unwrap_or_default(),
    )
}

fn set_json(set: &Set) -> Value {
    let validators: Vec<Value> = set.validators().iter().map(shape::validator).collect();
    let proposer = set.proposer().as_ref().map(shape::validator);
    // The only validator proposes.
    let proposer = proposer.or_else(|| validators.first().cloned());
    json!({ "validators": validators, "proposer": proposer })
}

pub(crate) fn consensus_state(core: &Core) -> Result<Value, RpcError> {
    let standing = standing(core)?;
    Ok(json!({
        "round_state": {
            "height/round/step": format!("{}/0/{STEP_NEW_HEIGHT}", standing.next_height),
            "start_time": standing.since,
            "proposal_block_hash": "",
            "locked_block_hash": "",
            "valid_block_hash": "",
            "height_vote_set": standing.votes(),
            "proposer": { "address": core.validator_address().to_string(), "index": 0 },
        },
    }))
}

pub(crate) fn dump_consensus_state(core: &Core) -> Result<Value, RpcError> {
    let standing = standing(core)?;
    Ok(json!({
        "round_state": {
            "height": standing.next_height.to_string(),
            "round": 0,
            "step": STEP_NEW_HEIGHT,
            "start_time": standing.since,
            "commit_time": standing.since,
            "validators": set_json(&standing.validators),
            "proposal": null,
            "proposal_block": null,
            "proposal_block_parts": null,
            "locked_round": -1,
            "locked_block": null,
            "locked_block_parts": null,
            "valid_round": -1,
            "valid_block": null,
            "valid_block_parts": null,
            "votes": standing.votes(),
            "commit_round": -1,
            "last_commit": standing.last_commit(),
            "last_validators": standing.last_validators.as_ref().map(set_json),
            "triggered_timeout_precommit": false,
        },
        "peers": [],
    }))
}

/// Always refused: evidence goes into a block that others than the accused decide.
pub(crate) fn broadcast_evidence(params: &Params) -> Result<Value, RpcError> {
    if !params.has("evidence") {
        return Err(RpcError::internal("no evidence was provided"));
    }
    Err(RpcError::internal(
        "failed to add evidence: the embedded engine has one validator, who cannot be convicted by \
         himself; send it to a node of a network",
    ))
}
