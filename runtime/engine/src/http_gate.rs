//! Lets outgoing HTTP requests through that a rule allows, counts their bytes, and paces them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use mote_spec::{NetGrants, Network, Scheme};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::denied::{Denied, printable};
use crate::gauge::Gauge;
use crate::sockets::Pace;

pub(crate) struct HttpGate {
    grants: Arc<NetGrants>,
    denied: Denied,
    gauge: Arc<Gauge>,
    pace: Arc<Pace>,
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl HttpGate {
    pub(crate) fn new(
        grants: &NetGrants,
        denied: Denied,
        gauge: Arc<Gauge>,
        pace: Arc<Pace>,
    ) -> HttpGate {
        HttpGate { grants: Arc::new(grants.clone()), denied, gauge, pace }
    }
}

/// A body whose bytes are counted, and that waits when they come too fast.
struct Paced<B> {
    inner: B,
    gauge: Arc<Gauge>,
    counter: fn(&Gauge) -> &AtomicU64,
    pace: Arc<Pace>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Paced<()> {
    fn new(gauge: Arc<Gauge>, pace: Arc<Pace>, counter: fn(&Gauge) -> &AtomicU64) -> Paced<()> {
        Paced { inner: (), gauge, counter, pace, wait: None }
    }

    fn around(self, body: WasiBody) -> Paced<WasiBody> {
        let Paced { inner: (), gauge, counter, pace, wait } = self;
        Paced { inner: body, gauge, counter, pace, wait }
    }
}

impl Body for Paced<WasiBody> {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Error>>> {
        let this = &mut *self;
        while let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = this.pace.until().map(|until| Box::pin(tokio::time::sleep_until(until)));
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            (this.counter)(&this.gauge).fetch_add(data.len() as u64, Ordering::Relaxed);
            this.pace.passed(data.len());
            this.wait = this.pace.until().map(|until| Box::pin(tokio::time::sleep_until(until)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Whether the rules allow a request to this address.
fn allows(grants: &NetGrants, uri: &http::Uri) -> bool {
    if grants.network == Network::Host {
        return true;
    }
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return false,
    };
    let Some(host) = uri.host() else { return false };
    grants.http.iter().any(|rule| rule.allows(scheme, host, uri.port_u16(), uri.path()))
}

/// The address of a request without what it asks for.
fn address(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    printable(&format!("{scheme}://{}{port}{}", uri.host().unwrap_or_default(), uri.path()))
}

impl WasiHttpHooks for HttpGate {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        let (grants, gauge) = (Arc::clone(&self.grants), Arc::clone(&self.gauge));
        let (denied, pace) = (self.denied.clone(), Arc::clone(&self.pace));
        Box::new(async move {
            if !allows(&grants, request.uri()) {
                let wanted = address(request.uri());
                denied.note(format!("a request to {wanted}"), format!("--allow-http {wanted}"));
                return Err(Error::HttpRequestDenied);
            }
            let sending = Paced::new(Arc::clone(&gauge), Arc::clone(&pace), |gauge| &gauge.sent);
            let request = request.map(|body| sending.around(body).boxed_unsync());
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let receiving = Paced::new(gauge, pace, |gauge| &gauge.received);
            let response =
                response.map(|body| receiving.around(body.boxed_unsync()).boxed_unsync());
            Ok((response, Box::new(io) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_rule_names_is_let_through() {
        let rule =
            |text: &str| NetGrants { http: vec![text.parse().unwrap()], ..NetGrants::default() };
        let grants = rule("https://api.example.com/v1");
        let ask = |text: &str| allows(&grants, &text.parse().unwrap());
        assert!(ask("https://api.example.com/v1/x?y=1"));
        for bad in [
            "http://api.example.com/v1",
            "https://api.example.com/v2",
            "https://api.example.com:444/v1",
            "https://user@evil.example.com/v1",
            "https://api.example.com@evil.example.com/v1",
            "/v1",
        ] {
            assert!(!ask(bad), "{bad}");
        }
        assert!(!allows(&NetGrants::default(), &"https://api.example.com/".parse().unwrap()));
    }
}
