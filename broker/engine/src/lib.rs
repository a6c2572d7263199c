//! Sequencer, exchange pipeline and replay of Unefois.
