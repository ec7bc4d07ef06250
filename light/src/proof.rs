//! Single records under an app hash: there with this value, or not there (ICS-23).
//!
//! The app hash over the state of height H stands in the header of height H + 1. The tree is `jmt`'s;
//! its shape is written down here, so that who verifies needs no tree.

use ics23::{
    CommitmentProof, ExistenceProof, HashOp, HostFunctionsManager, InnerSpec, LeafOp, LengthOp,
    NonExistenceProof, ProofSpec, commitment_proof::Proof,
};
use prost13::Message;

/// Type of the proofs of this chain's state.
pub const PROOF_TYPE: &str = "ics23:jmt";
/// Bytes of a proof at most; one of a full tree of 2^64 records has about 6 KiB and the neighbours'
/// values.
const PROOF_BYTES_MAX: usize = 1 << 20;

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

/// A proof that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Another kind of proof.
    #[error("a proof of type {0:?} came, and {PROOF_TYPE} is known here: ask a node of this chain")]
    Kind(String),
    /// None, or several.
    #[error("{0} proofs came for one record: ask with prove=true")]
    Count(usize),
    /// About something else.
    #[error("the proof is about another key")]
    Key,
    /// Not readable.
    #[error("the proof cannot be read")]
    Unreadable,
    /// Nothing can be stored with this key or value.
    #[error("no record has an empty key or an empty value")]
    Empty,
    /// It does not lead to the app hash.
    #[error(
        "the proof does not lead to the app hash: the value is another one, or of another height"
    )]
    Mismatch,
}

/// Checks that under `app_hash` the key has `value`, or with `None` that there is no such key.
///
/// # Errors
/// [`ProofError`]: nothing is known then.
pub fn verify(
    app_hash: &[u8],
    key: &[u8],
    value: Option<&[u8]>,
    ops: &[ProofOp],
) -> Result<(), ProofError> {
    let [op] = ops else { return Err(ProofError::Count(ops.len())) };
    match value {
        Some(value) => verify_membership(app_hash, key, value, op),
        None => verify_non_membership(app_hash, key, op),
    }
}

/// Checks that under `app_hash` the key has `value`.
///
/// # Errors
/// [`ProofError`].
pub fn verify_membership(
    app_hash: &[u8],
    key: &[u8],
    value: &[u8],
    op: &ProofOp,
) -> Result<(), ProofError> {
    let proof = decode(key, op)?;
    if value.is_empty() {
        return Err(ProofError::Empty);
    }
    let root = app_hash.to_vec();
    match ics23::verify_membership::<HostFunctionsManager>(&proof, &spec(), &root, key, value) {
        true => Ok(()),
        false => Err(ProofError::Mismatch),
    }
}

/// Checks that under `app_hash` there is no such key.
///
/// # Errors
/// [`ProofError`].
pub fn verify_non_membership(app_hash: &[u8], key: &[u8], op: &ProofOp) -> Result<(), ProofError> {
    let proof = decode(key, op)?;
    if let Some(Proof::Nonexist(absent)) = &proof.proof {
        check_neighbours(absent)?;
    }
    let root = app_hash.to_vec();
    match ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec(), &root, key) {
        true => Ok(()),
        false => Err(ProofError::Mismatch),
    }
}

/// Where one path is the other's end the comparison of neighbours would run out of steps.
fn check_neighbours(absent: &NonExistenceProof) -> Result<(), ProofError> {
    let (Some(left), Some(right)) = (&absent.left, &absent.right) else { return Ok(()) };
    let path = |proof: &ExistenceProof| {
        let steps = proof.path.iter().rev();
        steps.map(|step| (step.prefix.clone(), step.suffix.clone())).collect::<Vec<_>>()
    };
    let (left, right) = (path(left), path(right));
    match left.iter().zip(&right).any(|(left, right)| left != right) {
        true => Ok(()),
        false => Err(ProofError::Mismatch),
    }
}

fn decode(key: &[u8], op: &ProofOp) -> Result<CommitmentProof, ProofError> {
    if op.kind != PROOF_TYPE {
        return Err(ProofError::Kind(op.kind.clone()));
    }
    if op.key != key {
        return Err(ProofError::Key);
    }
    if key.is_empty() {
        return Err(ProofError::Empty);
    }
    if op.data.len() > PROOF_BYTES_MAX {
        return Err(ProofError::Unreadable);
    }
    let proof = CommitmentProof::decode(op.data.as_slice()).map_err(|_| ProofError::Unreadable)?;
    match &proof.proof {
        Some(Proof::Exist(_) | Proof::Nonexist(_)) => Ok(proof),
        // This chain sends single proofs. Others, compressed ones above all, are more ways to go
        // wrong.
        Some(Proof::Batch(_) | Proof::Compressed(_)) | None => Err(ProofError::Unreadable),
    }
}

/// Shape of the tree, as `jmt` 0.12 has it: leaves and nodes are SHA-256 over a name of their kind
/// and what is in them.
pub fn spec() -> ProofSpec {
    const NODE_NAME: &[u8] = b"JMT::IntrnalNode";
    let name_bytes = i32::try_from(NODE_NAME.len()).expect("sixteen");
    ProofSpec {
        leaf_spec: Some(LeafOp {
            hash: HashOp::Sha256.into(),
            prehash_key: HashOp::Sha256.into(),
            prehash_value: HashOp::Sha256.into(),
            length: LengthOp::NoPrefix.into(),
            prefix: b"JMT::LeafNode".to_vec(),
        }),
        inner_spec: Some(InnerSpec {
            hash: HashOp::Sha256.into(),
            child_order: vec![0, 1],
            min_prefix_length: name_bytes,
            max_prefix_length: name_bytes,
            child_size: 32,
            empty_child: b"SPARSE_MERKLE_PLACEHOLDER_HASH__".to_vec(),
        }),
        min_depth: 0,
        max_depth: 64,
        prehash_key_before_comparison: true,
    }
}
