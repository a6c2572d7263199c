//! Unefois: the broker, its gRPC services and its command line.
