//! Who a peer is where ids are hashes of keys: a key each, and a signature for each join.

use std::time::{SystemTime, UNIX_EPOCH};

use coordinator::identity::{JoinProof, NodeKey};

/// Makes keys by number, and proofs with them.
pub struct Signer {
    network_id: String,
    /// Differs from run to run, so that no run meets the sessions of another.
    seed: [u8; 24],
}

impl Signer {
    /// For the network that the server says it is.
    pub fn new(network_id: String) -> Self {
        Self { network_id, seed: rand::random() }
    }

    fn key(&self, number: u64) -> NodeKey {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        seed[8..].copy_from_slice(&self.seed);
        NodeKey::from_seed(seed)
    }

    /// Id of the `number`th key.
    pub fn name(&self, number: u64) -> String {
        self.key(number).node_id()
    }

    /// Its proof for a join of `room`, made now.
    pub fn sign(&self, number: u64, room: &str) -> JoinProof {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.key(number).prove_join(&self.network_id, room, now.as_millis() as u64, rand::random())
    }
}

/// For the end of a query.
pub fn query(JoinProof { pk, ts, nonce, sig }: &JoinProof) -> String {
    format!("&pk={pk}&ts={ts}&nonce={nonce}&sig={sig}")
}

/// For the end of a JSON object that has members already.
pub fn members(JoinProof { pk, ts, nonce, sig }: &JoinProof) -> String {
    format!(r#","pk":"{pk}","ts":{ts},"nonce":"{nonce}","sig":"{sig}""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_node_of_its_own_and_proves_it() {
        let signer = Signer::new("net".to_owned());
        assert_ne!(signer.name(1), signer.name(2));
        let proof = signer.sign(1, "r1");
        let checked = proof.check("net", &signer.name(1), "r1", proof.ts, 60_000);
        assert!(checked.is_ok(), "{checked:?}");
        assert!(proof.check("net", &signer.name(2), "r1", proof.ts, 60_000).is_err());
        let object = format!("{{\"a\":1{}}}", members(&proof));
        let read: JoinProof = serde_json::from_str(&object).expect("JSON");
        assert_eq!(read, proof);
        assert!(query(&proof).starts_with("&pk="));
    }
}
