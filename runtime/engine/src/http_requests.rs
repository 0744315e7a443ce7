//! Bounds the names of HTTP methods, the one part of a request that WASI's implementation keeps whatever its
//! length is.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p3::bindings::http::types as p3;

use crate::sandbox::Sandbox;

/// How long a method's name may be; those of RFC 9110 and WebDAV have at most 17 letters.
const LONGEST: usize = 64;

pub(crate) fn link_p2(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "[method]outgoing-request.set-method",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (request, method): (Resource<p2::OutgoingRequest>, p2::Method)| {
            if matches!(&method, p2::Method::Other(name) if name.len() > LONGEST) {
                return Ok((Err(()),));
            }
            Ok((p2::HostOutgoingRequest::set_method(&mut cx.data_mut().http(), request, method)?,))
        },
    )
}

pub(crate) fn link_p3(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/types@0.3.0")?.func_wrap(
        "[method]request.set-method",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (request, method): (Resource<p3::Request>, p3::Method)| {
            if matches!(&method, p3::Method::Other(name) if name.len() > LONGEST) {
                return Ok((Err(()),));
            }
            Ok((p3::HostRequest::set_method(&mut cx.data_mut().http(), request, method)?,))
        },
    )
}
