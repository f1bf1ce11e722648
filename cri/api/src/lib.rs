//! The Kubernetes Container Runtime Interface, v1, as it is on the wire: messages, and both sides of the two services.
//!
//! Made from `proto/`, which has the names and numbers of Kubernetes 1.37. What a newer client sends beyond them is dropped by
//! the decoder, as protobuf wants it.
#![forbid(unsafe_code)]
#![allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]

tonic::include_proto!("runtime.v1");

/// Without what it holds.
impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
