//! ICS-23 proofs of single records under an app hash.

/// One operator of a Merkle proof, as `abci_query` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofOp {
    /// How `data` is to be read.
    pub kind: String,
    /// The key that it is about.
    pub key: Vec<u8>,
    /// The proof.
    pub data: Vec<u8>,
}
