//! Lets outgoing HTTP requests through that a rule allows, and counts their bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use mote_spec::{NetGrants, Network, Scheme};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::limiter::Gauge;

pub(crate) struct HttpGate {
    grants: Arc<NetGrants>,
    gauge: Arc<Gauge>,
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl HttpGate {
    pub(crate) fn new(grants: &NetGrants, gauge: Arc<Gauge>) -> HttpGate {
        HttpGate { grants: Arc::new(grants.clone()), gauge }
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

impl WasiHttpHooks for HttpGate {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        let (grants, gauge) = (Arc::clone(&self.grants), Arc::clone(&self.gauge));
        Box::new(async move {
            if !allows(&grants, request.uri()) {
                return Err(Error::HttpRequestDenied);
            }
            let sending = Arc::clone(&gauge);
            let request = request.map(|body| {
                let count = move |frame: http_body::Frame<bytes::Bytes>| {
                    let length = frame.data_ref().map_or(0, bytes::Bytes::len);
                    sending.sent.fetch_add(length as u64, Ordering::Relaxed);
                    frame
                };
                body.map_frame(count).boxed_unsync()
            });
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let response = response.map(|body| {
                let count = move |frame: http_body::Frame<bytes::Bytes>| {
                    let length = frame.data_ref().map_or(0, bytes::Bytes::len);
                    gauge.received.fetch_add(length as u64, Ordering::Relaxed);
                    frame
                };
                body.map_frame(count).boxed_unsync()
            });
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
