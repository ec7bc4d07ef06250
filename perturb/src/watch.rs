//! Looks at one node's RPC: how far it is, and every block that it has.

use std::{thread, time::Duration, time::Instant};

use comet::rpc::Client;

use crate::{
    ledger::Block,
    world::{CALL_MAX, Sight, World, lock},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Blocks that are read before the next look.
const BLOCKS_MAX: u64 = 50;

/// A client of a node of this run.
///
/// # Errors
/// Never for an address of this machine.
pub fn client(rpc: std::net::SocketAddr) -> anyhow::Result<Client> {
    Ok(Client::with_timeout(format!("http://{rpc}").parse()?, CALL_MAX))
}

/// Watches until the run closes.
pub fn run(world: &World, node: usize) {
    let client = &world.clients[node];
    let mut next = 1;
    while !world.is_closing() {
        if let Ok(status) = client.status() {
            *lock(&world.sights[node]) = Some(Sight {
                height: status.latest_height,
                earliest: status.earliest_height,
                is_catching_up: status.is_catching_up,
                at: Instant::now(),
            });
            next = next.max(status.earliest_height);
            let end = status.latest_height.min(next.saturating_add(BLOCKS_MAX));
            while next <= end {
                let Some(block) = read(client, next) else { break };
                world.note(node, block);
                next += 1;
            }
            if next + 1 < status.latest_height {
                continue; // It is behind with reading: no pause.
            }
        }
        thread::sleep(PAUSE);
    }
}

/// A block and its results. A block is listed before it is executed: then it has none yet.
pub fn read(client: &Client, height: u64) -> Option<Block> {
    let block = client.block(Some(height)).ok()?;
    let results = client.block_results(Some(height)).ok()?;
    Some(Block::read(&block, &results))
}
