//! gRPC contract of Unefois and its conversion to domain types.
