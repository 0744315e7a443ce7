//! Lets outgoing HTTP requests through that a rule allows, counts their bytes, and paces them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use mote_spec::{Host, NetGrants, Network, Scheme};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::denied::printable;
use crate::gauge::Gauge;
use crate::net_gate::NetGate;
use crate::pace::{Pace, Turn};

pub(crate) struct HttpGate {
    net: Arc<NetGate>,
    /// One for each request that may be under way.
    turns: Arc<Semaphore>,
    gauge: Arc<Gauge>,
    pace: Arc<Pace>,
}

/// How many requests of a guest may be under way; more wait.
const MOST_REQUESTS: usize = 64;
/// How large the headers of a response, or its trailers, may be: the guest keeps them for as long as it likes.
const MAX_HEADERS: usize = 64 << 10;
/// How much of a body stands between a guest and the network, for each of its requests.
const CHUNK: usize = 64 << 10;
/// How long one of several addresses is tried.
const TRIES: Duration = Duration::from_secs(5);

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl HttpGate {
    pub(crate) fn new(net: Arc<NetGate>, gauge: Arc<Gauge>, pace: Arc<Pace>) -> HttpGate {
        HttpGate { net, turns: Arc::new(Semaphore::new(MOST_REQUESTS)), gauge, pace }
    }
}

/// A body whose bytes are counted, and that waits when they come too fast.
struct Paced<B> {
    inner: B,
    /// What came and was not passed on yet.
    left: bytes::Bytes,
    gauge: Arc<Gauge>,
    counter: fn(&Gauge) -> &AtomicU64,
    pace: Arc<Pace>,
    turn: Turn,
}

impl Paced<()> {
    fn new(gauge: Arc<Gauge>, pace: Arc<Pace>, counter: fn(&Gauge) -> &AtomicU64) -> Paced<()> {
        Paced { inner: (), left: bytes::Bytes::new(), gauge, counter, pace, turn: Turn::default() }
    }

    fn around(self, body: WasiBody) -> Paced<WasiBody> {
        let Paced { inner: (), left, gauge, counter, pace, turn } = self;
        Paced { inner: body, left, gauge, counter, pace, turn }
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
        ready!(this.turn.poll(&this.pace, cx));
        if this.left.is_empty() {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) => this.left = data,
                Err(trailers) => return Poll::Ready(Some(bounded(trailers))),
            }
        }
        // What came at once is passed on in pieces that the rate bears.
        let data = this.left.split_to(this.left.len().min(this.pace.at_once()));
        (this.counter)(&this.gauge).fetch_add(data.len() as u64, Ordering::Relaxed);
        this.pace.passed(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, hint) = (self.left.len() as u64, self.inner.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + left);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + left);
        }
        all
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
    let Some(host) = uri.host().and_then(Host::read) else { return false };
    grants.http.iter().any(|rule| rule.allows(scheme, &host, uri.port_u16(), uri.path()))
}

/// A request that goes to an address which was found allowed, and not to what its host's name means when it
/// is sent. One by TLS goes to whoever can prove the name.
async fn pinned(
    net: &NetGate,
    mut request: http::Request<WasiBody>,
) -> wasmtime_wasi_http::Result<http::Request<WasiBody>> {
    let uri = request.uri();
    let is_plain = uri.scheme() == Some(&http::uri::Scheme::HTTP);
    let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
    let host = uri.host().and_then(Host::read).ok_or(Error::HttpRequestUriInvalid)?;
    let addresses = net.http_addresses(&host, port).await;
    let Some(mut chosen) = addresses.first().copied() else {
        return Err(Error::HttpRequestDenied);
    };
    if !is_plain {
        return Ok(request);
    }
    if addresses.len() > 1 {
        for address in addresses {
            let tried = tokio::net::TcpStream::connect(address);
            if let Ok(Ok(_)) = tokio::time::timeout(TRIES, tried).await {
                chosen = address;
                break;
            }
        }
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let authority = http::uri::Authority::try_from(chosen.to_string());
    parts.authority = Some(authority.map_err(|_| Error::HttpRequestUriInvalid)?);
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(request)
}

/// Trailers, if they are no larger than headers may be.
fn bounded(frame: Frame<bytes::Bytes>) -> Result<Frame<bytes::Bytes>, Error> {
    match frame.trailers_ref().map_or(0, head_size) {
        size if size > MAX_HEADERS => {
            Err(Error::HttpResponseTrailerSectionSize(u32::try_from(size).ok()))
        }
        _ => Ok(frame),
    }
}

/// What headers take on the wire, but for a few bytes.
fn head_size(headers: &http::HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The address of a request without what it asks for.
fn address(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    printable(&format!("{scheme}://{}{port}{}", uri.host().unwrap_or_default(), uri.path()))
}

impl WasiHttpHooks for HttpGate {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        let (net, gauge) = (Arc::clone(&self.net), Arc::clone(&self.gauge));
        let (turns, pace) = (Arc::clone(&self.turns), Arc::clone(&self.pace));
        Box::new(async move {
            if !allows(net.grants(), request.uri()) || request.method() == http::Method::CONNECT {
                let wanted = address(request.uri());
                net.denied()
                    .note(format!("a request to {wanted}"), format!("--allow-http {wanted}"));
                return Err(Error::HttpRequestDenied);
            }
            let turn = turns.acquire_owned().await.map_err(|_| Error::HttpRequestDenied)?;
            let request = pinned(&net, request).await?;
            pace.ready().await;
            let head = head_size(request.headers()) + request.uri().path().len();
            gauge.sent.fetch_add(head as u64, Ordering::Relaxed);
            pace.passed(head);
            let sending = Paced::new(Arc::clone(&gauge), Arc::clone(&pace), |gauge| &gauge.sent);
            let request = request.map(|body| sending.around(body).boxed_unsync());
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let head = head_size(response.headers());
            if head > MAX_HEADERS {
                return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(head).ok()));
            }
            gauge.received.fetch_add(head as u64, Ordering::Relaxed);
            pace.passed(head);
            let io = async move {
                let ended = io.await;
                drop(turn);
                ended
            };
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
