//! thiserror.
