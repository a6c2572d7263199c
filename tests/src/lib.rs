//! End to end tests, conformance and benches of Unefois.
