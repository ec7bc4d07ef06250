//! The signed join: proof that whoever asks for an id holds its key, now and for this room.

use serde::{Deserialize, Serialize};

use super::{NodeKey, PublicKey, hex, hex_bytes};

/// What a signed join carries beside node and room: the four keys of every request that proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinProof {
    /// Public key, 64 hex digits.
    pub pk: String,
    /// Unix time of the signer's clock, milliseconds.
    pub ts: u64,
    /// 32 hex digits, taken once.
    pub nonce: String,
    /// Signature, 128 hex digits.
    pub sig: String,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("`pk` must be 64 hex digits, `nonce` 32, `sig` 128")]
    Form,
    #[error("the key in `pk` belongs to another nodeId; use its own id")]
    OtherKey,
    #[error("`ts` is more than {0} ms away from this clock; set the clock and sign again")]
    Clock(u64),
    #[error("the signature does not fit the text of docs/coordinator.md; sign this network's id")]
    Signature,
}

/// The text that a join's signature covers; `room` is empty where no room is named.
pub fn join_text(network_id: &str, node_id: &str, room: &str, ts: u64, nonce: &str) -> String {
    format!("sutantra/join/v1\n{network_id}\n{node_id}\n{room}\n{ts}\n{nonce}")
}

impl NodeKey {
    /// Signs a join of `room` (empty: none) at `ts` (Unix ms); `nonce` must be new each time.
    pub fn prove_join(&self, network_id: &str, room: &str, ts: u64, nonce: [u8; 16]) -> JoinProof {
        let nonce = hex(&nonce);
        let text = join_text(network_id, &self.node_id(), room, ts, &nonce);
        JoinProof {
            pk: self.public().to_string(),
            ts,
            sig: hex(&self.sign(text.as_bytes())),
            nonce,
        }
    }
}

impl JoinProof {
    /// The key that made this proof for (`network_id`, `node_id`, `room`), and its nonce, of which
    /// the caller keeps account for `window_ms` to both sides of `now_ms`.
    pub fn check(
        &self,
        network_id: &str,
        node_id: &str,
        room: &str,
        now_ms: u64,
        window_ms: u64,
    ) -> Result<(PublicKey, [u8; 16]), JoinError> {
        let key: PublicKey = self.pk.parse().map_err(|_| JoinError::Form)?;
        let nonce = hex_bytes::<16>(&self.nonce).ok_or(JoinError::Form)?;
        let signature = hex_bytes::<64>(&self.sig).ok_or(JoinError::Form)?;
        if key.node_id() != node_id {
            return Err(JoinError::OtherKey);
        }
        if self.ts.abs_diff(now_ms) > window_ms {
            return Err(JoinError::Clock(window_ms));
        }
        // The nonce is signed as it was written: upper and lower case are two texts, one nonce.
        let text = join_text(network_id, node_id, room, self.ts, &self.nonce);
        if !key.verify(text.as_bytes(), &signature) {
            return Err(JoinError::Signature);
        }
        Ok((key, nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[track_caller]
    fn check(change: impl FnOnce(&mut JoinProof), want: Result<(), JoinError>) {
        let key = NodeKey::from_seed([3; 32]);
        let mut proof = key.prove_join("net", "global", NOW, [9; 16]);
        change(&mut proof);
        let got = proof.check("net", &key.node_id(), "global", NOW, 60_000);
        assert_eq!(got.map(|(pk, _)| assert_eq!(pk, key.public())), want);
    }

    /// R87
    #[test]
    fn a_proof_holds_for_its_key_room_and_minute() {
        check(|_| {}, Ok(()));
        check(|proof| proof.ts += 1, Err(JoinError::Signature));
        check(|proof| proof.ts += 60_001, Err(JoinError::Clock(60_000)));
        check(|proof| proof.ts -= 60_001, Err(JoinError::Clock(60_000)));
        check(|proof| proof.nonce = "00".repeat(16), Err(JoinError::Signature));
        check(|proof| proof.nonce.clear(), Err(JoinError::Form));
        check(|proof| proof.sig = "0".repeat(128), Err(JoinError::Signature));
        check(|proof| proof.sig.push('0'), Err(JoinError::Form));
        let other = NodeKey::from_seed([4; 32]).public().to_string();
        check(|proof| proof.pk = other, Err(JoinError::OtherKey));
    }

    #[test]
    fn a_proof_for_one_room_or_network_is_none_for_another() {
        let key = NodeKey::from_seed([3; 32]);
        let proof = key.prove_join("net", "global", NOW, [9; 16]);
        let id = key.node_id();
        for (network, room) in [("net", "learning"), ("net", ""), ("other", "global")] {
            let got = proof.check(network, &id, room, NOW, 60_000);
            assert_eq!(got, Err(JoinError::Signature), "{network} {room}");
        }
    }
}
