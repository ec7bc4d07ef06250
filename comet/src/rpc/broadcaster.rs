//! Transactions in bulk: `broadcast_tx_async` over several connections, several in one request.
//!
//! A node that has a transaction has promised nothing: whoever sends follows the blocks, and sends
//! again what did not appear.

use std::{io, sync::Arc};

use chain_types::transaction_hash;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{client::Client, error::RpcError, methods::TX_BATCH_MAX};

/// What became of a transaction on its way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its SHA-256.
    pub hash: [u8; 32],
    /// Taken, which says nothing about CheckTx; or the last endpoint's error.
    pub result: Result<(), RpcError>,
}

/// Too many transactions wait already; this one was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many transactions wait to be sent: send this one again later")]
pub struct QueueFull;

/// When it is dropped, what waits is still sent.
pub struct Broadcaster {
    queue: Sender<Vec<u8>>,
}

type Report = Arc<dyn Fn(Outcome) + Send + Sync>;

impl Broadcaster {
    /// `connections` threads, divided among the endpoints; one whose endpoint does not answer goes
    /// on with the next. At most `capacity` transactions wait.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        endpoints: &[Client],
        connections: usize,
        capacity: usize,
        report: impl Fn(Outcome) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        assert!(!endpoints.is_empty(), "transactions go somewhere");
        let (queue, waiting) = bounded(capacity.max(1));
        let report: Report = Arc::new(report);
        for index in 0..connections.max(1) {
            let mut endpoints = endpoints.to_vec();
            let first = index % endpoints.len();
            endpoints.rotate_left(first);
            let worker = Worker { endpoints, waiting: waiting.clone(), report: report.clone() };
            let name = format!("broadcast-{index}");
            std::thread::Builder::new().name(name).spawn(move || worker.run())?;
        }
        Ok(Self { queue })
    }

    /// Takes a transaction, to be sent at once.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn send(&self, tx: Vec<u8>) -> Result<(), QueueFull> {
        self.queue.try_send(tx).map_err(|_| QueueFull)
    }
}

struct Worker {
    /// The first one is asked first.
    endpoints: Vec<Client>,
    waiting: Receiver<Vec<u8>>,
    report: Report,
}

impl Worker {
    fn run(mut self) {
        while let Ok(first) = self.waiting.recv() {
            let mut txs = vec![first];
            // What waits goes with it; nothing waits for more to come.
            txs.extend(self.waiting.try_iter().take(TX_BATCH_MAX - 1));
            let results = self.send(&txs);
            for (tx, result) in txs.iter().zip(results) {
                (self.report)(Outcome { hash: transaction_hash(tx), result });
            }
        }
    }

    fn send(&mut self, txs: &[Vec<u8>]) -> Vec<Result<(), RpcError>> {
        let mut failure = None;
        for _ in 0..self.endpoints.len() {
            match send_to(&self.endpoints[0], txs) {
                Ok(results) => return results,
                Err(error) => failure = Some(error),
            }
            self.endpoints.rotate_left(1);
        }
        let failure = failure.expect("there is an endpoint, and none answered");
        txs.iter().map(|_| Err(failure.clone())).collect()
    }
}

/// An error is the endpoint's, an inner one a transaction's.
fn send_to(endpoint: &Client, txs: &[Vec<u8>]) -> Result<Vec<Result<(), RpcError>>, RpcError> {
    let one = |answer: Result<_, RpcError>| match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_known_tx() => Ok(()),
        Err(error) => Err(error),
    };
    if let [tx] = txs {
        return match endpoint.broadcast_tx_async(tx) {
            Err(error @ RpcError::Refused { .. }) => Ok(vec![one(Err(error))]),
            answer => answer.map(|_| vec![Ok(())]),
        };
    }
    Ok(endpoint.broadcast_txs_async(txs)?.into_iter().map(one).collect())
}
