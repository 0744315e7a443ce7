//! Tells containerd what happens to tasks, in the order in which it happened.

use std::collections::VecDeque;
use std::time::Duration;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{MessageDyn, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::{self, context};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::time;

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until the next.
const AGAIN: Duration = Duration::from_millis(200);
/// So many attempts are made while containerd is away, as when it is being replaced.
const ATTEMPTS: usize = 150;

/// Where events are left; they are sent by a task of its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    namespace: String,
    queue: mpsc::UnboundedSender<Envelope>,
}

impl Publisher {
    /// Sends what is published to containerd's ttrpc socket. The task ends when all publishers are
    /// gone and everything was sent.
    pub(crate) fn new(namespace: &str, address: &str) -> (Publisher, JoinHandle<()>) {
        let (queue, events) = mpsc::unbounded_channel();
        let sending = tokio::spawn(send_forever(
            format!("unix://{}", address.trim_start_matches("unix://")),
            events,
        ));
        (Publisher { namespace: namespace.to_owned(), queue }, sending)
    }

    /// containerd's namespace, which the pod is in.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Leaves an event of `containerd.events`, under its topic.
    pub(crate) fn publish(&self, topic: &str, event: &dyn MessageDyn) {
        let any = Any {
            type_url: event.descriptor_dyn().full_name().to_owned(),
            value: event.write_to_bytes_dyn().unwrap_or_default(),
            ..Any::default()
        };
        let envelope = Envelope {
            timestamp: MessageField::some(time::now()),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(any),
            ..Envelope::default()
        };
        // The sender lives as long as any publisher.
        let _ = self.queue.send(envelope);
    }
}

async fn send_forever(address: String, mut events: mpsc::UnboundedReceiver<Envelope>) {
    let mut client = None;
    let mut waiting = VecDeque::new();
    while let Some(event) = events.recv().await {
        waiting.push_back(event);
        while let Some(event) = waiting.pop_front() {
            send(&address, &mut client, event).await;
        }
    }
}

/// Sends one event; the next waits for it.
async fn send(address: &str, client: &mut Option<EventsClient>, event: Envelope) {
    let topic = event.topic.clone();
    let request = ForwardRequest { envelope: MessageField::some(event), ..Default::default() };
    for _ in 0..ATTEMPTS {
        if client.is_none() {
            *client = Client::connect(address).await.ok().map(EventsClient::new);
        }
        if let Some(connected) = client.as_ref() {
            let context = context::with_duration(PATIENCE);
            match connected.forward(context, &request).await {
                Ok(_) => return,
                // It was heard, and will be no better said again.
                Err(ttrpc::Error::RpcStatus(status)) => {
                    tracing::error!(topic, ?status, "containerd refuses an event");
                    return;
                }
                Err(error) => tracing::warn!(topic, %error, "an event is sent again"),
            }
            *client = None;
        }
        tokio::time::sleep(AGAIN).await;
    }
    tracing::error!(topic, "an event is lost: containerd does not answer");
}
