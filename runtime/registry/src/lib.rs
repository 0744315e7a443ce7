//! A client of OCI registries (distribution-spec v1.1), over one HTTP stack, and pulling from them into the store.
//!
//! ```text
//! ImageRef --client--> manifest --mote_image::{select, layout}--> layers --pull--> Store
//! ```
//!
//! What it adds to plain HTTP is what a device in the field needs: realms are checked before a
//! credential leaves, sizes are capped while they stream, downloads resume, failures are retried with
//! back-off inside one budget, and whatever a registry does, a pull ends. Never reads the process environment.

mod auth;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod http;
mod mirrors;
mod pull;
mod realm;
mod retry;
mod settings;

pub use client::{BlobStream, Client, Fetched};
pub use credentials::{AuthFile, Credential, CredentialError, Credentials, Helpers};
pub use endpoint::{Endpoint, TlsVerify};
pub use error::RegistryError;
pub use pull::{Progress, PullError, pull};
pub use realm::RealmError;
pub use settings::{MIN_RATE, Proxy, Settings};
