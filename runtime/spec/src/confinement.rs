//! Decides how a guest is confined besides by the sandbox: an image may ask for more isolation than is usual, the
//! operator has the last word, and the host's configuration says how little is allowed.

use std::collections::BTreeSet;

use crate::policy_error::PolicyError;
use crate::security::{Capabilities, Capability, Isolation, Security, SecurityWants};

/// Decides the confinement of a guest.
pub(crate) fn decide(
    wants: SecurityWants,
    asked: Option<Isolation>,
    least: Isolation,
) -> Result<Security, PolicyError> {
    let SecurityWants { isolation, user, cap_add, cap_drop, seccomp, apparmor } = wants;
    if let Some(added) = cap_add.first() {
        return Err(PolicyError::CapabilityAdded(added.to_string()));
    }
    let dropped: BTreeSet<Capability> = cap_drop
        .into_iter()
        .flat_map(|dropped| match dropped {
            Capabilities::All => Capability::all().collect(),
            Capabilities::One(capability) => vec![capability],
        })
        .collect();
    let needs_process = [
        ("--user", user.is_some()),
        ("--cap-drop", !dropped.is_empty()),
        ("--security-opt seccomp", seccomp.is_some()),
        ("--security-opt apparmor", apparmor.is_some()),
    ];
    let needs_process = needs_process.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
    let isolation = match (isolation, needs_process) {
        (Some(Isolation::Shared), Some(flag)) => return Err(PolicyError::NeedsProcess(flag)),
        (Some(said), _) if said < least => return Err(PolicyError::IsolationBelow(least)),
        (Some(said), _) => said,
        (None, Some(_)) => asked.unwrap_or_default().max(Isolation::Process).max(least),
        (None, None) => asked.unwrap_or_default().max(least),
    };
    Ok(Security { isolation, user, dropped, seccomp, apparmor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolation(said: Option<Isolation>) -> SecurityWants {
        SecurityWants { isolation: said, ..SecurityWants::default() }
    }

    #[test]
    fn an_image_may_ask_for_more_and_the_configuration_for_no_less() {
        use Isolation::{Process, Shared, Strict};
        for (said, asked, least, becomes) in [
            (None, None, Shared, Some(Shared)),
            (None, Some(Process), Shared, Some(Process)),
            (Some(Shared), Some(Process), Shared, Some(Shared)),
            (None, None, Process, Some(Process)),
            (Some(Shared), None, Process, None),
            (Some(Strict), None, Process, Some(Strict)),
        ] {
            let decided = decide(isolation(said), asked, least);
            assert_eq!(decided.ok().map(|security| security.isolation), becomes, "{said:?}");
        }
    }

    #[test]
    fn what_only_a_process_can_have_gives_it_one() {
        let user = SecurityWants { user: "1000".parse().ok(), ..SecurityWants::default() };
        let decided = decide(user.clone(), None, Isolation::Shared).unwrap();
        assert_eq!(decided.isolation, Isolation::Process);
        let shared = SecurityWants { isolation: Some(Isolation::Shared), ..user };
        assert_eq!(
            decide(shared, None, Isolation::Shared),
            Err(PolicyError::NeedsProcess("--user"))
        );
        let all = SecurityWants { cap_drop: vec![Capabilities::All], ..SecurityWants::default() };
        let decided = decide(all, None, Isolation::Shared).unwrap();
        assert_eq!((decided.dropped.len(), decided.is_apart()), (Capability::all().count(), true));
        let added =
            SecurityWants { cap_add: vec!["net_raw".parse().unwrap()], ..Default::default() };
        assert!(decide(added, None, Isolation::Shared).is_err());
    }
}
