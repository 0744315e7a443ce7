//! The words that every part of mote shares: names, units, limits, grants, policy, exit status.
//!
//! No I/O, no async, no engine. Each type has one door (`FromStr` or `new`), checks there, and is
//! trusted everywhere else. What a person types, what an annotation says and what a record holds
//! all parse into the same types, and print back to what parses again.

mod annotations;
mod confinement;
mod digest;
mod exit;
pub mod foreign;
mod grants;
mod id;
mod image_ref;
mod limits;
mod net;
mod policy;
mod policy_error;
mod score;
mod security;
mod tables;
mod text;
mod units;

pub use annotations::{ANNOTATION_PREFIX, AnnotationError, KEYS, in_annotations};
pub use digest::{Algorithm, Digest, DigestError};
pub use exit::ExitStatus;
pub use grants::{
    Access, DirGrant, Dns, GrantError, Grants, GuestPath, Mount, NetGrants, Network, Root, Scratch,
};
pub use id::{ContainerId, ContainerName, IdError};
pub use image_ref::{ImageRef, ReferenceError};
pub use limits::{Bounds, LimitWants, Limits, OverCeiling};
pub use net::{
    Host, HttpRule, NetRule, Ports, Protocol, Publish, RuleError, Scheme, Target,
    is_private_network, is_public, may_stand_for,
};
pub use policy::{Asks, Ceiling, Policy, Request, Volumes, decide};
pub use policy_error::PolicyError;
pub use score::{
    Dimension, Mechanism, Standing, Surroundings, Weights, isolation_level, isolation_levels,
    security_score, standings,
};
pub use security::{
    Capabilities, Capability, Isolation, Security, SecurityError, SecurityOpt, SecurityWants,
    UserId,
};
pub use tables::{CeilingTable, DefaultsTable};
pub use units::{Bytes, CpuShare, Fuel, Limit, Rate, Timeout, UnitError};
