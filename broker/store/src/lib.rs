//! Stores of Unefois: journal files with a fold of rows, and memory.
//!
//! [`embedded`] is what a broker runs on: the journal's own files are the truth, the fold holds rows that can be deleted and
//! rebuilt. [`memory`] is for tests and has a hook that makes any operation fail, fail but persist, or hang. Both pass
//! the contract suite in `tests/contract.rs`.

pub mod embedded;
pub mod memory;

pub use embedded::{EmbeddedStore, Options};
pub use memory::MemoryStore;
