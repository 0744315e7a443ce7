//! The tables of a host's configuration that cap and default what containers get, as files of the command
//! line, of the daemon and of the shim share them.
//!
//! A key that mote does not know is an error: a misspelt limit must not be no limit.

use std::path::PathBuf;

use serde::Deserialize;

use crate::grants::Network;
use crate::limits::{Bounds, LimitWants, Limits};
use crate::policy::{Ceiling, Volumes};
use crate::security::Isolation;
use crate::units::{Bytes, CpuShare, Fuel, Rate, Timeout};

/// `[defaults]`: limits of containers that ask for none.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefaultsTable {
    memory: Option<Bytes>,
    cpus: Option<CpuShare>,
    fuel: Option<Fuel>,
    timeout: Option<Timeout>,
    storage: Option<Bytes>,
    net_rate: Option<Rate>,
}

/// `[ceiling]`: limits that no container may be above, and what may be granted at all.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CeilingTable {
    memory: Option<Bytes>,
    cpus: Option<CpuShare>,
    fuel: Option<Fuel>,
    timeout: Option<Timeout>,
    storage: Option<Bytes>,
    net_rate: Option<Rate>,
    /// Folders that volumes may come from.
    volumes: Option<Vec<PathBuf>>,
    network: Option<Network>,
    /// How little a container may be isolated.
    isolation: Option<Isolation>,
}

impl DefaultsTable {
    fn wants(&self) -> LimitWants {
        let DefaultsTable { memory, cpus, fuel, timeout, storage, net_rate } = *self;
        LimitWants { memory, cpus, fuel, timeout, storage, net_rate }
    }
}

impl CeilingTable {
    fn wants(&self) -> LimitWants {
        let CeilingTable {
            memory,
            cpus,
            fuel,
            timeout,
            storage,
            net_rate,
            volumes: _,
            network: _,
            isolation: _,
        } = *self;
        LimitWants { memory, cpus, fuel, timeout, storage, net_rate }
    }
}

impl Ceiling {
    /// The ceiling that the tables of a file set, and `self` where they are silent.
    pub fn overlaid(
        self,
        defaults: &DefaultsTable,
        ceiling: &CeilingTable,
        bounds: Option<Bounds>,
    ) -> Ceiling {
        let bounds = bounds.unwrap_or(self.most.bounds);
        let most = Limits { bounds, ..self.most.with(ceiling.wants()) };
        let defaults = Limits { bounds, ..self.defaults.with(defaults.wants()) };
        Ceiling {
            defaults: defaults.at_most(&most),
            most,
            volumes: match &ceiling.volumes {
                Some(roots) => Volumes::Below(roots.clone()),
                None => self.volumes,
            },
            network: ceiling.network.unwrap_or(self.network),
            isolation: ceiling.isolation.unwrap_or(self.isolation),
        }
    }
}
