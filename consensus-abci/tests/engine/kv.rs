//! A key-value application: `key=value` sets, `key` must be new, the hash covers all entries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use consensus_abci::application::{Application, ApplicationError, Method};
use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::{
    Event, EventAttribute, ExecTxResult, RequestCheckTx, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery, ValidatorUpdate,
};

/// No `key=value` in UTF-8.
pub const CODE_GARBAGE: u32 = 1;
/// The key is set already.
pub const CODE_KEY_TAKEN: u32 = 2;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kv {
    pub height: u64,
    pub entries: BTreeMap<String, String>,
}

impl Kv {
    fn app_hash(&self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        for (key, value) in &self.entries {
            for text in [key, value] {
                hasher.update((text.len() as u64).to_be_bytes());
                hasher.update(text);
            }
        }
        hasher.finalize().to_vec()
    }

    fn set(&mut self, tx: &[u8]) -> Result<(String, String), u32> {
        let text = std::str::from_utf8(tx).map_err(|_| CODE_GARBAGE)?;
        let (key, value) = text.split_once('=').ok_or(CODE_GARBAGE)?;
        if self.entries.contains_key(key) {
            return Err(CODE_KEY_TAKEN);
        }
        self.entries.insert(key.to_owned(), value.to_owned());
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// Shared between an engine and the one after it; or in a file, between processes.
#[derive(Default)]
pub struct KvApp {
    pub committed: Mutex<Kv>,
    finalized: Mutex<Option<Kv>>,
    file: Option<PathBuf>,
    /// `Commit` fails with a full disk.
    pub disk_full: AtomicBool,
    /// `FinalizeBlock` panics at this height.
    pub panic_at: AtomicU64,
    /// `FinalizeBlock` adds a second validator.
    pub second_validator: AtomicBool,
    /// `PrepareProposal` takes nothing.
    pub hold: AtomicBool,
    /// `ProcessProposal` rejects blocks with these transactions.
    pub poison: Mutex<BTreeSet<Vec<u8>>>,
    pub calls: Mutex<Calls>,
}

/// What the engine asked for.
#[derive(Debug, Default, Clone)]
pub struct Calls {
    pub init_chain: u64,
    pub prepare_proposal: u64,
    pub process_proposal: u64,
    pub finalized: Vec<i64>,
    /// Heights with a non-empty decided last commit.
    pub signed: Vec<i64>,
}

impl KvApp {
    pub fn in_file(file: PathBuf) -> Self {
        let committed = fs::read_to_string(&file).map(|text| {
            let mut lines = text.lines();
            let height = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
            let entry = |line: &str| {
                line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
            };
            Kv { height, entries: lines.filter_map(entry).collect() }
        });
        KvApp {
            committed: Mutex::new(committed.unwrap_or_default()),
            file: Some(file),
            ..KvApp::default()
        }
    }

    pub fn snapshot(&self) -> Kv {
        self.committed.lock().unwrap().clone()
    }

    /// As if the data directory were deleted.
    pub fn wipe(&self) {
        *self.committed.lock().unwrap() = Kv::default();
    }
}

impl Application for KvApp {
    fn info(&self, _: RequestInfo) -> Result<ResponseInfo, ApplicationError> {
        let kv = self.committed.lock().unwrap();
        Ok(ResponseInfo {
            data: "kv".to_owned(),
            version: "1".to_owned(),
            app_version: 1,
            last_block_height: kv.height as i64,
            last_block_app_hash: kv.app_hash().into(),
        })
    }

    fn init_chain(&self, request: RequestInitChain) -> Result<ResponseInitChain, ApplicationError> {
        self.calls.lock().unwrap().init_chain += 1;
        let state: BTreeMap<String, String> =
            serde_json::from_slice(&request.app_state_bytes).unwrap_or_default();
        let mut kv = self.committed.lock().unwrap();
        *kv = Kv { height: 0, entries: state };
        Ok(ResponseInitChain { app_hash: kv.app_hash().into(), ..Default::default() })
    }

    fn check_tx(&self, request: RequestCheckTx) -> Result<ResponseCheckTx, ApplicationError> {
        let mut kv = self.committed.lock().unwrap().clone();
        let code = kv.set(&request.tx).err().unwrap_or(0);
        let log = if code == 0 { String::new() } else { format!("refused with {code}") };
        Ok(ResponseCheckTx { code, log, codespace: "kv".to_owned(), ..Default::default() })
    }

    fn expect_txs(&self, _: &[Bytes]) {}

    fn prepare_proposal(
        &self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, ApplicationError> {
        self.calls.lock().unwrap().prepare_proposal += 1;
        let hold = self.hold.load(Ordering::SeqCst);
        Ok(ResponsePrepareProposal { txs: if hold { Vec::new() } else { request.txs } })
    }

    fn process_proposal(
        &self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, ApplicationError> {
        self.calls.lock().unwrap().process_proposal += 1;
        let poison = self.poison.lock().unwrap();
        let status = match request.txs.iter().any(|tx| poison.contains(&tx.to_vec())) {
            true => ProposalStatus::Reject,
            false => ProposalStatus::Accept,
        };
        Ok(ResponseProcessProposal { status: status as i32 })
    }

    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError> {
        let mut kv = self.committed.lock().unwrap().clone();
        assert_eq!(request.height as u64, kv.height + 1, "heights arrive in order");
        assert_ne!(request.height as u64, self.panic_at.load(Ordering::SeqCst), "told to panic");
        {
            let mut calls = self.calls.lock().unwrap();
            calls.finalized.push(request.height);
            if !request.decided_last_commit.unwrap_or_default().votes.is_empty() {
                calls.signed.push(request.height);
            }
        }
        let results = request.txs.iter().map(|tx| match kv.set(tx) {
            Ok((key, value)) => ExecTxResult {
                data: key.clone().into_bytes().into(),
                events: vec![Event {
                    r#type: "set".to_owned(),
                    attributes: [("key", key), ("value", value)]
                        .map(|(key, value)| EventAttribute {
                            key: key.to_owned(),
                            value,
                            index: true,
                        })
                        .to_vec(),
                }],
                ..Default::default()
            },
            Err(code) => ExecTxResult { code, ..Default::default() },
        });
        let tx_results = results.collect();
        kv.height = request.height as u64;
        let app_hash = kv.app_hash().into();
        *self.finalized.lock().unwrap() = Some(kv);
        let validator_updates = match self.second_validator.load(Ordering::SeqCst) {
            true => vec![ValidatorUpdate {
                pub_key: Some(tendermint_proto::v0_38::crypto::PublicKey {
                    sum: Some(tendermint_proto::v0_38::crypto::public_key::Sum::Ed25519(
                        consensus_abci::engine::ValidatorKey::from_seed([99; 32])
                            .public_key()
                            .to_bytes(),
                    )),
                }),
                power: 5,
            }],
            false => Vec::new(),
        };
        let height_event = Event {
            r#type: "tick".to_owned(),
            attributes: vec![EventAttribute {
                key: "height".to_owned(),
                value: request.height.to_string(),
                index: true,
            }],
        };
        Ok(ResponseFinalizeBlock {
            tx_results,
            app_hash,
            validator_updates,
            events: vec![height_event],
            ..Default::default()
        })
    }

    fn commit(&self) -> Result<ResponseCommit, ApplicationError> {
        if self.disk_full.load(Ordering::SeqCst) {
            return Err(ApplicationError::new(Method::Commit, "the disk is full"));
        }
        let kv = self.finalized.lock().unwrap().take().expect("a block was finalized");
        if let Some(file) = &self.file {
            let mut text = format!("{}\n", kv.height);
            for (key, value) in &kv.entries {
                text.push_str(&format!("{key}={value}\n"));
            }
            let beside = file.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::rename(&beside, file).unwrap();
        }
        *self.committed.lock().unwrap() = kv;
        Ok(ResponseCommit::default())
    }

    fn query(&self, request: RequestQuery) -> Result<ResponseQuery, ApplicationError> {
        let kv = self.committed.lock().unwrap();
        let key = String::from_utf8_lossy(&request.data).into_owned();
        if request.path == "/broken" {
            return Err(ApplicationError::new(Method::Query, "a page cannot be read"));
        }
        Ok(match kv.entries.get(&key) {
            Some(value) => ResponseQuery {
                key: request.data,
                value: value.clone().into_bytes().into(),
                height: kv.height as i64,
                ..Default::default()
            },
            None => ResponseQuery { code: 6, log: "no such key".to_owned(), ..Default::default() },
        })
    }
}
