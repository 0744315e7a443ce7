//! `GET /events`

use std::sync::Arc;

use mote_lifecycle::Time;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::Call;
use super::answer::{self, Reply};
use super::filters::Filters;
use super::logs::moment;
use crate::events::Event;

/// The filters that are known here.
const FILTERS: [&str; 6] = ["type", "event", "container", "image", "label", "volume"];

/// What happened since a moment, and what happens until another.
pub(crate) fn stream(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &FILTERS)?;
    let now = Time::now();
    let since = moment(&call.query, "since", now)?;
    let until = moment(&call.query, "until", now)?;
    // Without a beginning, an end in the past would show nothing: docker shows what it remembers.
    let since = since.or(until.filter(|until| *until <= now).map(|_| Time::at_millis(0)));
    let (past, mut coming) = call.daemon.ledger.events.listen(since);
    Ok(answer::stream("application/json", move |mut writer| async move {
        let early = |event: &Arc<Event>| until.is_none_or(|until| event.time <= until);
        for event in past.iter().filter(|event| early(event) && wanted(event, &filters)) {
            if !writer.line(&shown(event)).await {
                return;
            }
        }
        let end = async {
            match until {
                Some(until) => tokio::time::sleep(until.since(Time::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                () = &mut end => return,
                event = coming.recv() => event,
            };
            match event {
                Ok(event) if !wanted(&event, &filters) => {}
                Ok(event) if !writer.line(&shown(&event)).await => return,
                Ok(_) => {}
                // It was too slow: it goes on with what is still remembered.
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a listener is too slow"),
                Err(RecvError::Closed) => return,
            }
        }
    }))
}

fn wanted(event: &Event, filters: &Filters) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let is_kind = |kind: &str| event.kind.name() == kind;
    filters.any("type", is_kind)
        && filters.any("event", |action| {
            event.action == action || event.action.starts_with(&format!("{action}:"))
        })
        && filters.any("container", |name| {
            is_kind("container") && (event.id.starts_with(name) || attribute("name") == name)
        })
        && filters.any("image", |name| {
            attribute("image") == name || (is_kind("image") && event.id == name)
        })
        && filters.any("volume", |name| is_kind("volume") && event.id == name)
        && filters.labels(&event.attributes)
}

fn shown(event: &Event) -> Value {
    let millis = event.time.millis();
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.attributes.get("image"),
        "Type": event.kind.name(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": millis / 1000,
        "timeNano": millis * 1_000_000,
    })
}
