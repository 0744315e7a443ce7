//! What mote adds to WASI's sockets: published ports, allowed names, counted and paced bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use mote_spec::Protocol;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    Host as _, HostResolveAddressStream as _, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::HostUdpSocket;
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, SocketError,
    StreamResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsView;

use crate::gauge::Gauge;
use crate::pace::{PER_DATAGRAM, Pace};
use crate::sandbox::Sandbox;

/// A stream whose bytes are counted and paced.
struct Metered<S> {
    inner: S,
    pace: Arc<Pace>,
    gauge: Arc<Gauge>,
}

impl<S> Metered<S> {
    fn count(&self, counter: impl Fn(&Gauge) -> &AtomicU64, bytes: usize) {
        counter(&self.gauge).fetch_add(bytes as u64, Ordering::Relaxed);
        self.pace.passed(bytes);
    }
}

#[async_trait]
impl Pollable for Metered<DynInputStream> {
    async fn ready(&mut self) {
        self.pace.ready().await;
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for Metered<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.pace.until().is_some() {
            return Ok(Bytes::new());
        }
        let bytes = self.inner.read(size.min(self.pace.at_once()))?;
        self.count(|gauge| &gauge.received, bytes.len());
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for Metered<DynOutputStream> {
    async fn ready(&mut self) {
        self.pace.ready().await;
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for Metered<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = bytes.len();
        self.inner.write(bytes)?;
        self.count(|gauge| &gauge.sent, length);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.pace.until() {
            Some(_) => Ok(0),
            None => Ok(self.inner.check_write()?.min(self.pace.at_once())),
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

type SocketStreams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl Sandbox {
    /// Puts a counter around the two streams of a connection.
    fn metered(
        &mut self,
        socket: &Resource<TcpSocket>,
        streams: SocketStreams,
    ) -> wasmtime::Result<SocketStreams> {
        let (pace, gauge) = (Arc::clone(&self.pace), Arc::clone(&self.gauge));
        let table = self.sockets().table;
        let (input, output) = (table.delete(streams.0)?, table.delete(streams.1)?);
        let input = Metered { inner: input, pace: Arc::clone(&pace), gauge: Arc::clone(&gauge) };
        let output = Metered { inner: output, pace, gauge };
        let input = table.push_child(Box::new(input) as DynInputStream, socket)?;
        let output = table.push_child(Box::new(output) as DynOutputStream, socket)?;
        Ok((input, output))
    }

    /// The address as the guest should see it.
    fn guest_address(&self, protocol: Protocol, host: SocketAddr) -> SocketAddr {
        match self.net.guest_port(protocol, host) {
            Some(port) => SocketAddr::new(host.ip(), port),
            None => host,
        }
    }
}

/// Turns a WASI result with a trap inside into the two that a host function returns.
fn outcome<T>(result: Result<T, SocketError>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Replaces, in a linker that has WASI 0.2, the functions that mote changes.
pub(crate) fn link_p2(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    link_names(linker)?;
    link_create(linker)?;
    link_tcp(linker)?;
    link_udp(linker)
}

fn link_create(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?.func_wrap(
        "create-tcp-socket",
        |mut cx: StoreContextMut<'_, Sandbox>, (family,): (IpAddressFamily,)| {
            let sandbox = cx.data_mut();
            match sandbox.may_open() {
                true => outcome(tcp_create_socket::Host::create_tcp_socket(
                    &mut sandbox.sockets(),
                    family,
                )),
                false => Ok((Err(ErrorCode::NewSocketLimit),)),
            }
        },
    )?;
    linker.instance("wasi:sockets/udp-create-socket@0.2.12")?.func_wrap_async(
        "create-udp-socket",
        |mut cx: StoreContextMut<'_, Sandbox>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                match sandbox.may_open() {
                    true => outcome(
                        udp_create_socket::Host::create_udp_socket(&mut sandbox.sockets(), family)
                            .await,
                    ),
                    false => Ok((Err(ErrorCode::NewSocketLimit),)),
                }
            })
        },
    )
}

/// How many look-ups a guest may have under way: each takes a thread of those that all guests share.
const MOST_LOOKUPS: usize = 16;

fn link_names(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut names = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    names.func_wrap(
        "resolve-addresses",
        |mut cx: StoreContextMut<'_, Sandbox>, (network, name): (Resource<Network>, String)| {
            let sandbox = cx.data_mut();
            if !sandbox.net.allows_name(&name) {
                return Ok((Err::<Resource<ResolveAddressStream>, _>(ErrorCode::AccessDenied),));
            }
            if sandbox.lookups.len() >= MOST_LOOKUPS {
                // The streams that were dropped meanwhile.
                let table = WasiView::ctx(&mut sandbox.p1).table;
                let is_there = |number: &u32| {
                    table.get(&Resource::<ResolveAddressStream>::new_borrow(*number)).is_ok()
                };
                sandbox.lookups.retain(|number, _| is_there(number));
            }
            if sandbox.lookups.len() >= MOST_LOOKUPS {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let result = sandbox.sockets().resolve_addresses(network, name.clone());
            if let Ok(stream) = &result {
                sandbox.lookups.insert(stream.rep(), name);
            }
            outcome(result)
        },
    )?;
    names.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut cx: StoreContextMut<'_, Sandbox>, (stream,): (Resource<ResolveAddressStream>,)| {
            let sandbox = cx.data_mut();
            let number = stream.rep();
            let result = sandbox.sockets().resolve_next_address(stream);
            if let (Ok(Some(address)), Some(name)) = (&result, sandbox.lookups.get(&number)) {
                sandbox.net.learn(name, ip(*address));
            }
            outcome(result)
        },
    )
}

fn ip(address: IpAddress) -> std::net::IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

fn link_tcp(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance("wasi:sockets/tcp@0.2.12")?;
    type Bind = (Resource<TcpSocket>, Resource<Network>, IpSocketAddress);
    tcp.func_wrap_async(
        "[method]tcp-socket.start-bind",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket, network, address): Bind| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let host = sandbox.net.host_address(Protocol::Tcp, address.into());
                outcome(
                    HostTcpSocket::start_bind(&mut sandbox.sockets(), socket, network, host.into())
                        .await,
                )
            })
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.local-address",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket,): (Resource<TcpSocket>,)| {
            let sandbox = cx.data_mut();
            let host = HostTcpSocket::local_address(&mut sandbox.sockets(), socket);
            outcome(host.map(|host| sandbox.guest_address(Protocol::Tcp, host.into()).into()))
                as wasmtime::Result<(Result<IpSocketAddress, ErrorCode>,)>
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.finish-connect",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket,): (Resource<TcpSocket>,)| {
            let sandbox = cx.data_mut();
            let parent = Resource::new_borrow(socket.rep());
            match outcome(HostTcpSocket::finish_connect(&mut sandbox.sockets(), socket))? {
                (Ok(streams),) => Ok((Ok(sandbox.metered(&parent, streams)?),)),
                (Err(code),) => Ok((Err(code),)),
            }
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.accept",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket,): (Resource<TcpSocket>,)| {
            let sandbox = cx.data_mut();
            if !sandbox.may_open() {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            match outcome(HostTcpSocket::accept(&mut sandbox.sockets(), socket))? {
                (Ok((accepted, input, output)),) => {
                    let (input, output) = sandbox.metered(&accepted, (input, output))?;
                    Ok((Ok((accepted, input, output)),))
                }
                (Err(code),) => Ok((Err(code),)),
            }
        },
    )
}

fn link_udp(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    use wasmtime_wasi::p2::bindings::sockets::udp::{
        HostIncomingDatagramStream, HostOutgoingDatagramStream, IncomingDatagram,
        IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
    };
    let mut udp = linker.instance("wasi:sockets/udp@0.2.12")?;
    type Bind = (Resource<UdpSocket>, Resource<Network>, IpSocketAddress);
    udp.func_wrap_async(
        "[method]udp-socket.start-bind",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket, network, address): Bind| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let host = sandbox.net.host_address(Protocol::Udp, address.into());
                outcome(
                    HostUdpSocket::start_bind(&mut sandbox.sockets(), socket, network, host.into())
                        .await,
                )
            })
        },
    )?;
    udp.func_wrap(
        "[method]udp-socket.local-address",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket,): (Resource<UdpSocket>,)| {
            let sandbox = cx.data_mut();
            let host = HostUdpSocket::local_address(&mut sandbox.sockets(), socket);
            outcome(host.map(|host| sandbox.guest_address(Protocol::Udp, host.into()).into()))
                as wasmtime::Result<(Result<IpSocketAddress, ErrorCode>,)>
        },
    )?;
    udp.func_wrap_async(
        "[method]incoming-datagram-stream.receive",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            Box::new(async move {
                let pace = Arc::clone(&cx.data().pace);
                pace.ready().await;
                let sandbox = cx.data_mut();
                let received =
                    HostIncomingDatagramStream::receive(&mut sandbox.sockets(), stream, most);
                if let Ok(datagrams) = &received {
                    let bytes: usize = datagrams.iter().map(|datagram| datagram.data.len()).sum();
                    sandbox.gauge.received.fetch_add(bytes as u64, Ordering::Relaxed);
                    sandbox.pace.passed(bytes + datagrams.len() * PER_DATAGRAM);
                }
                outcome(received) as wasmtime::Result<(Result<Vec<IncomingDatagram>, ErrorCode>,)>
            })
        },
    )?;
    type Send = (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>);
    udp.func_wrap_async(
        "[method]outgoing-datagram-stream.send",
        |mut cx: StoreContextMut<'_, Sandbox>, (stream, datagrams): Send| {
            Box::new(async move {
                let pace = Arc::clone(&cx.data().pace);
                pace.ready().await;
                let sandbox = cx.data_mut();
                let sizes: Vec<usize> =
                    datagrams.iter().map(|datagram| datagram.data.len()).collect();
                let sent =
                    HostOutgoingDatagramStream::send(&mut sandbox.sockets(), stream, datagrams);
                if let Ok(count) = &sent {
                    let bytes: usize = sizes.iter().take(*count as usize).sum();
                    sandbox.gauge.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                    sandbox.pace.passed(bytes + *count as usize * PER_DATAGRAM);
                }
                outcome(sent)
            })
        },
    )
}
