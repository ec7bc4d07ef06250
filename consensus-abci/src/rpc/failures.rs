//! What failed behind a method, as an internal error of JSON-RPC.

use super::error::RpcError;
use crate::application::ApplicationError;
use crate::engine::{BroadcastError, SearchError, StoreError};

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        RpcError::internal(error.to_string())
    }
}

impl From<SearchError> for RpcError {
    fn from(error: SearchError) -> Self {
        RpcError::internal(error.to_string())
    }
}

impl From<BroadcastError> for RpcError {
    fn from(error: BroadcastError) -> Self {
        RpcError::internal(error.to_string())
    }
}

impl From<ApplicationError> for RpcError {
    fn from(error: ApplicationError) -> Self {
        RpcError::internal(error.to_string())
    }
}
