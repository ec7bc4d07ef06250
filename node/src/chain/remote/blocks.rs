//! What endpoints say about a block and its records, held against verified headers.

use std::collections::BTreeSet;

use chain_types::{
    ChainEvent,
    follow::{
        self, CHANGES_EVENT, FOLLOWED, LIST_KEYS_MAX, LIST_PATH, ListRequest, VALUES_MAX,
        VALUES_PATH,
    },
    hex, transaction_hash,
};
use comet::rpc::{AbciQuery, BlockResults, Client, RpcError, TxResult};
use light::{LightBlock, proof};
use tendermint::{AppHash, Hash, crypto::default::Sha256, merkle};

use super::{endpoint::Endpoint, records};

/// Records that are followed at most: about a gigabyte. More need a node with a state.
const RECORDS_MAX: usize = 2_000_000;
/// Blocks that may come while keys are listed: no more heights can be proved.
const BLOCKS_ASKED_MAX: u64 = 1_000;

/// Why something is not known now. Who lied is not asked again already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

impl From<RpcError> for Unknown {
    fn from(error: RpcError) -> Self {
        Self(error.to_string())
    }
}

/// What one endpoint says that a block did.
pub(super) struct Told {
    /// Keys of followed records that changed; some may be invented, some left out.
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// As unproved as the keys.
    pub(super) events: Vec<ChainEvent>,
    results: Vec<TxResult>,
}

/// Asks one endpoint what the block at `height` did.
pub(super) fn told(endpoint: &Endpoint, height: u64) -> Result<Told, Unknown> {
    let answer: BlockResults = endpoint.ask(|client| client.block_results(Some(height)))?;
    let changes = answer.block_events.iter().filter(|event| event.kind == CHANGES_EVENT);
    let attributes = changes.flat_map(|event| &event.attributes);
    let keys = attributes.filter_map(|attribute| hex::bytes(&attribute.key));
    let keys = keys.filter(|key| follow::is_followed(key)).collect();
    let events = answer.tx_results.iter().flat_map(|result| &result.events);
    let events = events.filter_map(records::event).collect();
    Ok(Told { keys, events, results: answer.tx_results })
}

/// Each transaction's hash and code, where what an endpoint told stands behind the headers: the
/// transactions behind the block's own, codes behind the next one's.
pub(super) fn results(
    endpoint: &Endpoint,
    told: &Told,
    block: &LightBlock,
    next: &LightBlock,
) -> Result<Vec<([u8; 32], u32)>, Unknown> {
    let (header, after) = (&block.signed_header.header, &next.signed_header.header);
    let leaves: Vec<Vec<u8>> = told.results.iter().map(deterministic).collect();
    // Nothing at all stands for the root of nothing.
    let root = merkle::simple_hash_from_byte_vectors::<Sha256>(&leaves);
    if after.last_results_hash.unwrap_or(Hash::Sha256(empty_root())) != Hash::Sha256(root) {
        return Err(lie(endpoint, header.height.value(), "the results of the transactions"));
    }
    if told.results.is_empty() {
        return Ok(Vec::new());
    }
    let height = header.height.value();
    let answer = endpoint.ask(|client| client.block(Some(height)))?;
    let hashes: Vec<[u8; 32]> = answer.block.data.iter().map(|tx| transaction_hash(tx)).collect();
    let root = merkle::simple_hash_from_byte_vectors::<Sha256>(&hashes);
    let is_blocks = header.data_hash.unwrap_or(Hash::Sha256(empty_root())) == Hash::Sha256(root);
    if !is_blocks || hashes.len() != told.results.len() {
        return Err(lie(endpoint, height, "the transactions"));
    }
    let codes = told.results.iter().map(|result| result.code);
    Ok(hashes.into_iter().zip(codes).collect())
}

fn lie(endpoint: &Endpoint, height: u64, what: &str) -> Unknown {
    let url = endpoint.url();
    let sentence = format!("{url} lies about block {height}: {what} are not behind the headers");
    endpoint.drop_for(&sentence);
    Unknown(sentence)
}

fn empty_root() -> [u8; 32] {
    merkle::simple_hash_from_byte_vectors::<Sha256>(&[] as &[Vec<u8>])
}

/// A result as the next header's `last_results_hash` has it: protobuf of `code` (1), `data` (2),
/// `gas_wanted` (5) and `gas_used` (6), the zeros left out.
fn deterministic(result: &TxResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    if result.code != 0 {
        bytes.push(1 << 3);
        varint(&mut bytes, result.code.into());
    }
    if !result.data.is_empty() {
        bytes.push((2 << 3) | 2);
        varint(&mut bytes, result.data.len() as u64);
        bytes.extend_from_slice(&result.data);
    }
    for (field, gas) in [(5_u8, result.gas_wanted), (6, result.gas_used)] {
        if gas != 0 {
            bytes.push(field << 3);
            varint(&mut bytes, gas.cast_unsigned());
        }
    }
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("below 0x80"));
}

/// All keys that one endpoint says are followed.
pub(super) fn keys(endpoint: &Endpoint) -> Result<BTreeSet<Vec<u8>>, Unknown> {
    let mut all = BTreeSet::new();
    for prefix in FOLLOWED {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let request =
                ListRequest { prefix: prefix.to_vec(), after: after.clone(), limit: LIST_KEYS_MAX };
            let data = borsh::to_vec(&request).expect("writing to memory does not fail");
            let answer = endpoint.ask(|client| client.abci_query(LIST_PATH, &data, 0, false))?;
            let answer = accepted(endpoint, answer)?;
            let page: Vec<Vec<u8>> = borsh::from_slice(&answer.value)
                .map_err(|_| nonsense(endpoint, "a list of keys that cannot be read"))?;
            let is_last = page.len() < usize::from(LIST_KEYS_MAX);
            // A list that does not go on would never end.
            let is_forward = page.last().is_none_or(|last| after.as_ref() < Some(last));
            after = page.last().cloned();
            all.extend(page.into_iter().filter(|key| follow::is_followed(key)));
            if !is_forward || all.len() > RECORDS_MAX {
                return Err(nonsense(endpoint, "a list of keys that does not end"));
            }
            if is_last {
                break;
            }
        }
    }
    Ok(all)
}

/// Keys that blocks after `height` changed, as one endpoint tells them: what they took away is on
/// its list no longer.
pub(super) fn changed_after(
    endpoint: &Endpoint,
    height: u64,
) -> Result<BTreeSet<Vec<u8>>, Unknown> {
    let newest = endpoint.ask(Client::status)?.latest_height;
    if newest.saturating_sub(height) > BLOCKS_ASKED_MAX {
        let url = endpoint.url();
        return Err(Unknown(format!("{url}: while its keys were listed, {newest} was reached")));
    }
    let mut keys = BTreeSet::new();
    for asked in height + 1..=newest {
        match told(endpoint, asked) {
            Ok(told) => keys.extend(told.keys),
            // A block is known before its results are, and they before its state is.
            Err(_) if asked == newest => {}
            Err(error) => return Err(error),
        }
    }
    Ok(keys)
}

/// Values of the state at `height`, proved under `app_hash`, in the order of the keys. Each endpoint
/// is asked until one can prove.
pub(super) fn values(
    endpoints: &[std::sync::Arc<Endpoint>],
    keys: &[Vec<u8>],
    height: u64,
    app_hash: &[u8],
) -> Result<Vec<Option<Vec<u8>>>, Unknown> {
    let mut all = Vec::with_capacity(keys.len());
    for batch in keys.chunks(VALUES_MAX) {
        let mut failure = Unknown("none of the chain's endpoints answers".to_owned());
        let found =
            endpoints.iter().filter(|endpoint| endpoint.is_up()).find_map(
                |endpoint| match values_of(endpoint, batch, height, app_hash) {
                    Ok(values) => Some(values),
                    Err(error) => {
                        failure = error;
                        None
                    }
                },
            );
        all.extend(found.ok_or(failure)?);
    }
    Ok(all)
}

fn values_of(
    endpoint: &Endpoint,
    keys: &[Vec<u8>],
    height: u64,
    app_hash: &[u8],
) -> Result<Vec<Option<Vec<u8>>>, Unknown> {
    let data = borsh::to_vec(keys).expect("writing to memory does not fail");
    let answer = endpoint.ask(|client| client.abci_query(VALUES_PATH, &data, height, true))?;
    let answer = accepted(endpoint, answer)?;
    let values: Vec<Option<Vec<u8>>> = borsh::from_slice(&answer.value)
        .map_err(|_| nonsense(endpoint, "values that cannot be read"))?;
    if values.len() != keys.len() || answer.proof_ops.len() != keys.len() {
        return Err(nonsense(endpoint, "more or fewer values than keys"));
    }
    for ((key, value), op) in keys.iter().zip(&values).zip(&answer.proof_ops) {
        let op = std::slice::from_ref(op);
        proof::verify(app_hash, key, value.as_deref(), op).map_err(|error| {
            let sentence =
                format!("{} lies about the state at height {height}: {error}", endpoint.url());
            endpoint.drop_for(&sentence);
            Unknown(sentence)
        })?;
    }
    Ok(values)
}

/// An endpoint that is behind, or has pruned, says no without lying.
fn accepted(endpoint: &Endpoint, answer: AbciQuery) -> Result<AbciQuery, Unknown> {
    match answer.code {
        0 => Ok(answer),
        code => Err(Unknown(format!("{}: {} (code {code})", endpoint.url(), answer.log))),
    }
}

fn nonsense(endpoint: &Endpoint, what: &str) -> Unknown {
    let sentence = format!("{} answers with {what}", endpoint.url());
    endpoint.drop_for(&sentence);
    Unknown(sentence)
}

/// A header's app hash as bytes.
pub(super) fn app_hash(block: &LightBlock) -> Vec<u8> {
    AppHash::as_bytes(&block.signed_header.header.app_hash).to_vec()
}
