//! The namespaces of a guest's process (namespaces(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};

use mote_spec::NetGrants;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::mechanisms::Layer;

/// The network namespace of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the process that starts it.
    Inherited,
    Fresh,
    /// None at all, where the machine lets it have one of its own.
    NoneOfOthers,
    /// The one that a file stands for.
    Join(PathBuf),
}

impl Network {
    /// The network of a guest with these grants.
    pub fn of(grants: &NetGrants) -> Network {
        match *grants == NetGrants::default() {
            true => Network::NoneOfOthers,
            false => Network::Inherited,
        }
    }
}

/// Enters a network namespace, and tells what of it could not be had.
pub(super) fn enter(network: &Network) -> Result<Vec<Layer>, EngineError> {
    let failed = |what, source| EngineError::Wall { what, source };
    match network {
        Network::Inherited => Ok(Vec::new()),
        Network::Fresh => {
            let fresh = enter_fresh_network().map(|()| Vec::new());
            fresh.map_err(|error| failed("make a network namespace", error))
        }
        Network::NoneOfOthers => Ok(match leave(UnshareFlags::NEWNET) {
            Ok(()) => Vec::new(),
            Err(_) => vec![Layer::Namespaces],
        }),
        Network::Join(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| failed("open its network namespace", error))?;
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                .map_err(|error| failed("enter its network namespace", error.into()))?;
            Ok(Vec::new())
        }
    }
}

/// Gives this process names of its own: host names and System V IPC.
pub(super) fn leave_names() -> Vec<Layer> {
    match leave(UnshareFlags::NEWIPC | UnshareFlags::NEWUTS) {
        Ok(()) => Vec::new(),
        Err(_) => vec![Layer::Namespaces],
    }
}

/// Leaves for namespaces of its own; whoever is not root, by way of a user namespace. Root that may not is left
/// where it is: it would lose its rights over other users' files there.
fn leave(what: UnshareFlags) -> io::Result<()> {
    match unshare(what) {
        Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => {
            let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
            unshare(UnshareFlags::NEWUSER | what)?;
            // Files are still reached as who one is; these only give it its name back.
            let map = |id: u32| format!("{id} {id} 1");
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", map(user.as_raw()))?;
            std::fs::write("/proc/self/gid_map", map(group.as_raw()))
        }
        other => Ok(other?),
    }
}

/// Whether a process may leave for namespaces of its own: root's may, and others where users may make
/// user namespaces (user_namespaces(7)).
pub(super) fn can_be_left() -> bool {
    let may = rustix::thread::capabilities(None);
    if may.is_ok_and(|may| may.effective.contains(CapabilitySet::SYS_ADMIN)) {
        return true;
    }
    let says =
        |file: &str, no: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == no);
    !says("/proc/sys/user/max_user_namespaces", "0")
        && !says("/proc/sys/kernel/unprivileged_userns_clone", "0")
        && !says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
}

fn unshare(what: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: sockets and files that are open stay what they are; only what is made from now on is elsewhere.
    unsafe { rustix::thread::unshare_unsafe(what) }
}

/// Gives this thread, and those that it will make, a network namespace of its own whose loopback device
/// is up, as OCI runtimes do.
///
/// # Errors
/// Fails if this process may not, or the device cannot be brought up.
pub fn enter_fresh_network() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)?;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: it is a C structure of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq (netdevice(7)), which is alive.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
