//! The same as `sockets`, for WASI 0.3.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mote_spec::Protocol;
use wasmtime::component::{Access, Accessor, Linker, Resource, StreamReader};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::{ErrorCode as NameError, HostWithStore};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, HostTcpSocket, HostTcpSocketWithStore, HostUdpSocket, HostUdpSocketWithStore,
    IpAddress, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p3::sockets::SocketError;
use wasmtime_wasi::sockets::{TcpSocket, UdpSocket, WasiSockets, WasiSocketsView};

use crate::pace::PER_DATAGRAM;
use crate::relay::relay;
use crate::sandbox::Sandbox;
use crate::socket_end::Ends;

/// What a datagram can hold at most (RFC 768).
const LONGEST_DATAGRAM: usize = 65_535;

fn outcome<T>(result: Result<T, SocketError>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn too_many() -> ErrorCode {
    ErrorCode::Other(Some("too many open files".to_owned()))
}

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?.func_wrap_concurrent(
        "resolve-addresses",
        |accessor: &Accessor<Sandbox>, (name,): (String,)| {
            Box::pin(async move {
                let net = accessor.with(|mut access| Arc::clone(&access.get().net));
                let Ok(_turn) = net.look_up_turn().await else {
                    return Ok((Err(NameError::TemporaryResolverFailure),));
                };
                if !net.allows_name(&name) {
                    return Ok((Err::<Vec<IpAddress>, _>(NameError::AccessDenied),));
                }
                let sockets =
                    accessor.with_getter::<WasiSockets>(<Sandbox as WasiSocketsView>::sockets);
                let found = <WasiSockets as HostWithStore<Sandbox>>::resolve_addresses(
                    &sockets,
                    name.clone(),
                )
                .await?;
                if let Ok(addresses) = &found {
                    addresses.iter().for_each(|address| net.learn(&name, ip(*address)));
                }
                Ok((found,))
            })
        },
    )?;
    link_sockets(linker)
}

impl Sandbox {
    /// The addresses of a connection, if the socket is connected.
    fn ends_of(&mut self, socket: &Resource<TcpSocket>) -> Option<Ends> {
        let again = || Resource::new_borrow(socket.rep());
        let local = HostTcpSocket::get_local_address(&mut self.sockets(), again()).ok()?;
        let peer = HostTcpSocket::get_remote_address(&mut self.sockets(), again()).ok()?;
        Some((local.into(), peer.into()))
    }
}

fn ip(address: IpAddress) -> std::net::IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

fn link_sockets(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:sockets/types@0.3.0")?;
    types.func_wrap_async(
        "[method]tcp-socket.bind",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (socket, address): (Resource<TcpSocket>, IpSocketAddress)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let host = sandbox.net.host_address(Protocol::Tcp, address.into());
                outcome(HostTcpSocket::bind(&mut sandbox.sockets(), socket, host.into()).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]udp-socket.bind",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (socket, address): (Resource<UdpSocket>, IpSocketAddress)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let host = sandbox.net.host_address(Protocol::Udp, address.into());
                outcome(HostUdpSocket::bind(&mut sandbox.sockets(), socket, host.into()).await)
            })
        },
    )?;
    types.func_wrap(
        "[static]tcp-socket.create",
        |mut cx: StoreContextMut<'_, Sandbox>, (family,): (IpAddressFamily,)| {
            let sandbox = cx.data_mut();
            match sandbox.may_open() {
                true => outcome(HostTcpSocket::create(&mut sandbox.sockets(), family)),
                false => Ok((Err(too_many()),)),
            }
        },
    )?;
    types.func_wrap_async(
        "[static]udp-socket.create",
        |mut cx: StoreContextMut<'_, Sandbox>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                match sandbox.may_open() {
                    true => outcome(HostUdpSocket::create(&mut sandbox.sockets(), family).await),
                    false => Ok((Err(too_many()),)),
                }
            })
        },
    )?;
    type Send = (Resource<UdpSocket>, Vec<u8>, Option<IpSocketAddress>);
    types.func_wrap_concurrent(
        "[method]udp-socket.send",
        |accessor: &Accessor<Sandbox>, (socket, bytes, to): Send| {
            Box::pin(async move {
                let (pace, gauge) = accessor.with(|mut access| {
                    let sandbox = access.get();
                    (Arc::clone(&sandbox.pace), Arc::clone(&sandbox.gauge))
                });
                let length = bytes.len();
                if length > LONGEST_DATAGRAM {
                    return outcome(Err(ErrorCode::DatagramTooLarge.into()));
                }
                pace.ready().await;
                let sockets =
                    accessor.with_getter::<WasiSockets>(<Sandbox as WasiSocketsView>::sockets);
                let sent = <WasiSockets as HostUdpSocketWithStore<Sandbox>>::send(
                    &sockets, socket, bytes, to,
                )
                .await;
                if sent.is_ok() {
                    gauge.sent.fetch_add(length as u64, Ordering::Relaxed);
                    pace.passed(length + PER_DATAGRAM);
                }
                outcome(sent)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]udp-socket.receive",
        |accessor: &Accessor<Sandbox>, (socket,): (Resource<UdpSocket>,)| {
            Box::pin(async move {
                let (pace, gauge) = accessor.with(|mut access| {
                    let sandbox = access.get();
                    (Arc::clone(&sandbox.pace), Arc::clone(&sandbox.gauge))
                });
                pace.ready().await;
                let sockets =
                    accessor.with_getter::<WasiSockets>(<Sandbox as WasiSocketsView>::sockets);
                let received =
                    <WasiSockets as HostUdpSocketWithStore<Sandbox>>::receive(&sockets, socket)
                        .await;
                if let Ok((bytes, _)) = &received {
                    gauge.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    pace.passed(bytes.len() + PER_DATAGRAM);
                }
                outcome(received)
            })
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.send",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (socket, data): (Resource<TcpSocket>, StreamReader<u8>)| {
            let data = relay(&mut cx, (data, None), |gauge| &gauge.sent)?;
            let access =
                Access::<Sandbox, WasiSockets>::new(cx, <Sandbox as WasiSocketsView>::sockets);
            Ok((<WasiSockets as HostTcpSocketWithStore<Sandbox>>::send(access, socket, data)?,))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.receive",
        |mut cx: StoreContextMut<'_, Sandbox>, (socket,): (Resource<TcpSocket>,)| {
            let ends = cx.data_mut().ends_of(&socket);
            let access = Access::<Sandbox, WasiSockets>::new(
                cx.as_context_mut(),
                <Sandbox as WasiSocketsView>::sockets,
            );
            let (data, done) =
                <WasiSockets as HostTcpSocketWithStore<Sandbox>>::receive(access, socket)?;
            Ok(((relay(&mut cx, (data, ends), |gauge| &gauge.received)?, done),))
        },
    )
}
