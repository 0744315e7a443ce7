//! Puts the storage quota in front of every function of WASI that makes a file grow.

mod p1;
mod p2;
mod p3;

pub(crate) use p1::link as link_p1;
pub(crate) use p2::link as link_p2;
pub(crate) use p3::link as link_p3;
