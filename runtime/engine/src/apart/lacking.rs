//! Looks for the mechanisms that this machine lacks.

use super::cgroup::Cgroup;
use super::{domain, namespaces, seccomp};
use crate::mechanisms::Layer;

/// The mechanisms that this machine cannot give to a guest's process.
pub fn lacking_layers() -> Vec<Layer> {
    let mut lacks = domain::lacking();
    if !namespaces::can_be_left() {
        lacks.push(Layer::Namespaces);
    }
    if !seccomp::is_supported() {
        lacks.push(Layer::Seccomp);
    }
    if !Cgroup::can_be_made() {
        lacks.push(Layer::Cgroup);
    }
    lacks
}
