//! postcard.
