//! A client of OCI registries (distribution-spec v1.1), over one HTTP stack.
//!
//! What it adds to plain HTTP is what a device in the field needs: realms are checked before a
//! credential leaves, sizes are capped while they stream, downloads resume, failures are retried with
//! back-off inside one budget. Never writes to the store.

mod auth;
mod client;
mod credentials;
mod endpoint;
mod http;
mod mirrors;
mod retry;

pub use client::{BlobStream, Client, Fetched, Proxy, RegistryError, Settings};
pub use credentials::{AuthFile, Credential, CredentialError, Credentials, Helpers};
pub use endpoint::{Endpoint, TlsVerify};
