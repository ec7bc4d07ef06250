//! Transactions of every account, sent while processes die; what was acknowledged is noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chain_types::{Balance, Params, Payload, Policy, TransactionBody};
use sha2::{Digest, Sha256};

use crate::rpc::Rpc;
use crate::world::{CHAIN_ID, NAMES, id, keep, key, register, sut};

/// Between two transactions.
const PACE: Duration = Duration::from_millis(3);
/// One of so many is waited for.
const COMMIT_EVERY: u64 = 6;

/// A signed transaction with the least fee.
pub fn signed(who: &str, nonce: u64, payload: Payload) -> Vec<u8> {
    let mut body = TransactionBody {
        signer: id(who),
        fee_payer: None,
        nonce,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload,
    };
    body.fee = Params::for_tests().fee_min(&body.payload, body.signed_len_bytes());
    body.sign(&key(who), CHAIN_ID).encode()
}

pub fn transfer(to: &str, amount: u64) -> Payload {
    Payload::Transfer { to: id(to), amount: sut(amount) }
}

pub fn open_channel(deposit: u64, expires_height: u64) -> Payload {
    Payload::OpenChannel {
        deposit: sut(deposit),
        voucher_key: id("session"),
        expires_height,
        reserves: vec![keep("relay", deposit / 2, expires_height)],
    }
}

/// Hash of a transaction and the height that CometBFT named for it.
pub type Acknowledged = BTreeMap<[u8; 32], u64>;

/// A thread that sends until it is stopped.
pub struct Load {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Acknowledged>>,
}

impl Load {
    pub fn start(rpc: Rpc) -> Load {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || run(rpc, &stopping)
        });
        Load { stopping, thread: Some(thread) }
    }

    /// What was acknowledged.
    pub fn stop(mut self) -> Acknowledged {
        self.stopping.store(true, Ordering::SeqCst);
        self.thread.take().expect("stopped once").join().expect("it does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

fn run(rpc: Rpc, stopping: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut nonces = BTreeMap::<&str, u64>::new();
    for round in 0_u64.. {
        if stopping.load(Ordering::SeqCst) {
            break;
        }
        thread::sleep(PACE);
        let who = NAMES[usize::try_from(round).unwrap() % NAMES.len()];
        let Some(nonce) = nonces.get(who).copied().or_else(|| rpc.nonce(id(who))) else {
            continue; // Nobody answers just now.
        };
        let to = NAMES[usize::try_from(round + 1 + round % 5).unwrap() % NAMES.len()];
        let payload = match round % 4 {
            0 => register(Policy::Paid),
            1 => open_channel(10_000_000, 1_000_000),
            _ => transfer(to, round),
        };
        let tx = signed(who, nonce, payload);
        let is_taken = if round % COMMIT_EVERY == 0 {
            let included = rpc.commit(&tx);
            if let Some(included) = included {
                acknowledged.insert(Sha256::digest(&tx).into(), included.height);
            }
            included.is_some()
        } else {
            rpc.send(&tx) == Some(0)
        };
        // Refused, or lost with a process: what is committed tells where to go on.
        match is_taken {
            true => nonces.insert(who, nonce + 1),
            false => nonces.remove(who),
        };
    }
    acknowledged
}
