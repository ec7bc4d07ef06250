//! An application whose blocks are written down: what was decided, what came of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chain_types::{AccountId, Transaction};
use consensus_abci::{
    app::App,
    application::{Application, ApplicationError, Wrapper},
};
use tendermint_proto::v0_38::abci::{
    RequestFinalizeBlock, RequestPrepareProposal, ResponseFinalizeBlock, ResponsePrepareProposal,
};

use crate::finding::Finding;

/// A decided block and the answer to it.
#[derive(Clone)]
pub struct Decided {
    pub request: RequestFinalizeBlock,
    pub response: ResponseFinalizeBlock,
}

/// What outlives every death of the node: what others have seen of it.
#[derive(Default)]
pub struct Notes {
    /// By height.
    pub blocks: BTreeMap<u64, Decided>,
    pub found: Option<Finding>,
}

/// Shared between a node's lives.
#[derive(Clone, Default)]
pub struct Notebook(Arc<Mutex<Notes>>);

impl Notebook {
    pub fn open(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, request: RequestFinalizeBlock, response: &ResponseFinalizeBlock) {
        let height = u64::try_from(request.height).expect("heights are positive");
        let mut notes = self.open();
        let found = match notes.blocks.get(&height) {
            Some(known) if known.request != request => Some(Finding::OtherBlock { height }),
            Some(known) if known.response != *response => Some(Finding::OtherAnswer { height }),
            _ => None,
        };
        match found {
            Some(found) => notes.found = notes.found.take().or(Some(found)),
            None => {
                notes.blocks.insert(height, Decided { request, response: response.clone() });
            }
        }
    }
}

/// The node's application.
pub struct Tap {
    pub app: App,
    pub notebook: Notebook,
    /// Its transactions are in no proposal: a node that is dishonest, or wrong.
    pub passes_over: Option<AccountId>,
}

impl Wrapper for Tap {
    type Inner = App;

    fn inner(&self) -> &App {
        &self.app
    }

    fn prepare_proposal(
        &self,
        mut request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, ApplicationError> {
        if let Some(signer) = self.passes_over {
            let is_theirs =
                |tx: &Bytes| Transaction::decode(tx).is_ok_and(|tx| tx.body.signer == signer);
            request.txs.retain(|tx| !is_theirs(tx));
        }
        self.app.prepare_proposal(request)
    }

    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError> {
        let response = self.app.finalize_block(request.clone())?;
        self.notebook.note(request, &response);
        Ok(response)
    }
}
