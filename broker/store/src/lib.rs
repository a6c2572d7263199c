//! Stores of Unefois: journal files with a sled fold, and memory.
