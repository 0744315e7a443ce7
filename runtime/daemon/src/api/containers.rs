//! Lists containers, shows one, and removes those that have ended.

use mote_lifecycle::{Record, Status, Time};
use serde_json::{Value, json};

use super::Call;
use super::answer::{self, Reply};
use super::filters::Filters;
use super::view;
use crate::daemon::Force;
use crate::error::DaemonError;

/// The filters of the list.
const FILTERS: [&str; 10] =
    ["id", "name", "label", "status", "exited", "ancestor", "health", "volume", "before", "since"];

/// The states that docker knows; a container here is never dead.
const STATES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// `GET /containers/json`
pub(crate) fn list(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &FILTERS)?;
    filters.only("status", &STATES)?;
    filters.only("health", &["none", "starting", "healthy", "unhealthy"])?;
    let all = call.query.flag("all") || filters.has("status") || filters.has("exited");
    // A negative limit is none: docker's clients write -1 for it.
    let last: Option<i64> = call.query.number("limit")?;
    let last = last.and_then(|last| usize::try_from(last).ok()).filter(|last| *last > 0);
    let created = |key: &str| -> Result<Option<Time>, DaemonError> {
        let named = filters.values(key).first();
        named.map(|name| Ok(call.daemon.find(name)?.record().created)).transpose()
    };
    let (before, since) = (created("before")?, created("since")?);
    let now = Time::now();
    let entries = call.daemon.list();
    let wanted = entries.iter().filter(|entry| {
        let record = entry.record();
        (all || last.is_some() || record.status().is_live())
            && before.is_none_or(|before| record.created < before)
            && since.is_none_or(|since| record.created > since)
            && matches(&record, entry.container.waits_to_restart(), &filters)
    });
    let wanted = wanted.take(last.unwrap_or(usize::MAX));
    let mut list: Vec<Value> = wanted.map(|entry| view::summary(entry, now)).collect();
    if all && filters.are_none() {
        list.extend(call.daemon.damaged().iter().map(|(id, why)| view::unreadable(id, why)));
    }
    Ok(answer::json(&list))
}

fn matches(record: &Record, waits: bool, filters: &Filters) -> bool {
    let state = view::state(record, waits);
    let health = record.health.map_or("none".to_owned(), |health| health.to_string());
    let is_image = |text: &str| {
        let named = |name: &str| name == text || name.strip_suffix(":latest") == Some(text);
        named(&record.image.name)
            || record.image.manifest.as_ref().is_some_and(|digest| {
                digest.to_string() == text || (text.len() >= 4 && digest.hex().starts_with(text))
            })
    };
    let code = record.ending().map(|how| how.code().to_string());
    filters.any("id", |id| record.id.as_str().starts_with(id))
        // As docker has it, a part of the name is enough; its own anchors are understood.
        && filters.any("name", |name| is_named(record.name.as_str(), name))
        && filters.any("status", |status| status == state)
        && filters.any("health", |wanted| wanted == health)
        && filters.any("exited", |wanted| code.as_deref() == Some(wanted))
        && filters.any("ancestor", is_image)
        && filters.any("volume", |volume| {
            record.policy.grants().dirs.iter().any(|dir| {
                dir.guest.as_str() == volume
                    || dir.host.ends_with(format!("{volume}/_data"))
                    || dir.host.as_os_str() == volume
            })
        })
        && filters.labels(&record.setup.labels)
}

fn is_named(name: &str, wanted: &str) -> bool {
    let wanted =
        wanted.strip_prefix("^/").map(|rest| format!("^{rest}")).unwrap_or(wanted.to_owned());
    match (wanted.strip_prefix('^'), wanted.strip_suffix('$')) {
        (Some(rest), Some(_)) => rest.strip_suffix('$') == Some(name),
        (Some(start), None) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(wanted.trim_start_matches('/')),
    }
}

/// `GET /containers/ID/json`
pub(crate) fn inspect(call: &Call, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let execs = call.daemon.execs.beside(&entry);
    Ok(answer::json(&view::inspect(&entry, &execs)))
}

/// `POST /containers/prune`
pub(crate) async fn prune(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &["label", "label!", "until"])?;
    let now = Time::now();
    let until = match filters.values("until").first() {
        Some(text) => {
            let query = super::Query([("until".to_owned(), text.clone())].into());
            super::logs::moment(&query, "until", now)?
        }
        None => None,
    };
    let mut deleted = Vec::new();
    for entry in call.daemon.list() {
        let record = entry.record();
        let ended = matches!(record.status(), Status::Stopped(_) | Status::Created)
            && !entry.container.waits_to_restart();
        let old = until.is_none_or(|until| record.created < until);
        // One that was started meanwhile is no longer to be removed.
        if ended
            && old
            && filters.labels(&record.setup.labels)
            && call.daemon.remove(&entry, Force::No).await.is_ok()
        {
            deleted.push(record.id.to_string());
        }
    }
    Ok(answer::json(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": 0 })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_matches_and_anchors_are_understood() {
        for (wanted, matches) in [
            ("eb", true),
            ("/web", true),
            ("^web$", true),
            ("^/web$", true),
            ("^eb$", false),
            ("^we", true),
            ("b$", true),
        ] {
            assert_eq!(is_named("web", wanted), matches, "{wanted}");
        }
    }
}
