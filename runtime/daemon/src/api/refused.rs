//! What docker's words can ask for that no guest has: each is refused by its flag, and never ignored.

use serde_json::Value;

use crate::error::DaemonError;

/// A field, the flag that sets it, and why it means nothing here.
pub(super) type Refusal = (&'static str, &'static str, &'static str);

/// Resources that no guest has, the flag of each, and why.
pub(super) const RESOURCES: [Refusal; 15] = [
    ("KernelMemory", "--kernel-memory", "bound the guest with --memory"),
    ("MemorySwappiness", "--memory-swappiness", "a guest's memory is the daemon's"),
    ("CpuShares", "--cpu-shares", "give a share of a CPU with --cpus"),
    ("CpusetCpus", "--cpuset-cpus", "guests share the daemon's threads; give a share with --cpus"),
    ("CpusetMems", "--cpuset-mems", "guests share the daemon's memory"),
    ("CpuRealtimePeriod", "--cpu-rt-period", "guests have no real-time scheduling"),
    ("CpuRealtimeRuntime", "--cpu-rt-runtime", "guests have no real-time scheduling"),
    ("BlkioWeight", "--blkio-weight", "storage is bounded with --storage-opt size=N"),
    ("Devices", "--device", "guests see no devices"),
    ("DeviceRequests", "--gpus", "guests see no devices"),
    ("PidsLimit", "--pids-limit", "a guest has no processes"),
    ("Ulimits", "--ulimit", "what a guest may use is bounded by mote's own limits"),
    ("ShmSize", "--shm-size", "a guest has no shared memory outside of its own"),
    ("OomKillDisable", "--oom-kill-disable", "a guest at its memory limit gets no more"),
    ("CgroupParent", "--cgroup-parent", "guests are no processes, and in no cgroup of their own"),
];

/// What else a host can do for a process and not for a guest.
pub(super) const HOST: [Refusal; 18] = [
    ("Privileged", "--privileged", "grant what the guest needs, with -v, -p and io.mote.* labels"),
    ("PidMode", "--pid", "a guest has no processes"),
    ("IpcMode", "--ipc", "a guest has no System V IPC"),
    ("UTSMode", "--uts", "a guest has no host name"),
    ("UsernsMode", "--userns", "a guest has no users"),
    ("CgroupnsMode", "--cgroupns", "a guest sees no cgroups"),
    ("VolumesFrom", "--volumes-from", "name the volumes with -v"),
    ("Links", "--link", "allow connections with the label io.mote.allow-net"),
    ("ExtraHosts", "--add-host", "a guest looks names up as the host does"),
    ("Dns", "--dns", "a guest looks names up as the host does"),
    ("DnsSearch", "--dns-search", "a guest looks names up as the host does"),
    ("Sysctls", "--sysctl", "a guest has no kernel settings"),
    ("GroupAdd", "--group-add", "a guest has no groups"),
    ("Init", "--init", "a guest has no processes"),
    ("Runtime", "--runtime", "every container here is mote's"),
    ("OomScoreAdj", "--oom-score-adj", "a guest is no process; bound it with --memory"),
    ("VolumeDriver", "--volume-driver", "volumes are folders of this machine"),
    ("PublishAllPorts", "--publish-all", "name the ports with -p"),
];

/// And of a container itself.
pub(super) const CONFIG: [Refusal; 3] = [
    ("Hostname", "--hostname", "a guest has no host name"),
    ("MacAddress", "--mac-address", "a guest has no network card"),
    ("Domainname", "--domainname", "a guest has no host name"),
];

/// The defaults that docker's client writes for what nobody asked for.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number <= 0.0),
        // Docker's own names for "as usual".
        Value::String(text) => {
            matches!(text.as_str(), "" | "private" | "default" | "host-default" | "mote")
        }
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Refuses the first field that asks for what is not to be had.
pub(super) fn refuse(asked: &Value, refused: &[Refusal]) -> Result<(), DaemonError> {
    let set = |(key, _, _): &&Refusal| asked.get(key).is_some_and(|value| !is_unset(value));
    match refused.iter().find(set) {
        Some((_, flag, why)) => Err(DaemonError::Unsupported(format!(
            "{flag} means nothing to a Wasm container: {why}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_docker_writes_for_nothing_asks_for_nothing() {
        let host = json!({
            "Privileged": false, "CapAdd": null, "PidMode": "", "IpcMode": "private", "Dns": [],
            "CpuShares": 0, "PidsLimit": 0, "Ulimits": [], "Sysctls": {}, "OomKillDisable": false,
        });
        assert!(refuse(&host, &HOST).is_ok());
        assert!(refuse(&host, &RESOURCES).is_ok());
    }

    #[test]
    fn what_a_guest_cannot_have_is_refused_by_its_flag() {
        for (asked, flag) in [
            (json!({ "Privileged": true }), "--privileged"),
            (json!({ "PidMode": "host" }), "--pid"),
            (json!({ "Sysctls": { "a": "1" } }), "--sysctl"),
        ] {
            let refused = refuse(&asked, &HOST).unwrap_err();
            assert!(refused.to_string().starts_with(flag), "{refused}");
        }
    }
}
