//! Bounds the parts of an outgoing request that WASI's implementation keeps whatever their length is. Headers have
//! a bound of their own (`sandbox.rs`), and a scheme has that of the `http` crate (64 bytes).

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p3::bindings::http::types as p3;

use crate::sandbox::Sandbox;

/// Bytes of a method's name; those of RFC 9110 and WebDAV have at most 17.
const MAX_METHOD: usize = 64;
/// Bytes of an authority: a host name has at most 253 (RFC 1035, section 2.3.4), a port five.
const MAX_AUTHORITY: usize = 1 << 10;
/// Bytes of a path with its query: twice what RFC 9110 asks of every server (section 4.1).
const MAX_PATH: usize = 16 << 10;

fn is_longer(text: Option<&String>, most: usize) -> bool {
    text.is_some_and(|text| text.len() > most)
}

/// Links the setters of a request; each answers as it does to a text that is not valid.
macro_rules! setters {
    ($instance:ident, $resource:ty, $method:ty, $other:path, $host:path, $names:literal) => {{
        use $host as Host;
        $instance.func_wrap(
            concat!("[method]", $names, ".set-method"),
            |mut cx: StoreContextMut<'_, Sandbox>, (request, method): (Resource<$resource>, $method)| {
                if matches!(&method, $other(name) if name.len() > MAX_METHOD) {
                    return Ok((Err(()),));
                }
                Ok((Host::set_method(&mut cx.data_mut().http(), request, method)?,))
            },
        )?;
        $instance.func_wrap(
            concat!("[method]", $names, ".set-authority"),
            |mut cx: StoreContextMut<'_, Sandbox>,
             (request, authority): (Resource<$resource>, Option<String>)| {
                if is_longer(authority.as_ref(), MAX_AUTHORITY) {
                    return Ok((Err(()),));
                }
                Ok((Host::set_authority(&mut cx.data_mut().http(), request, authority)?,))
            },
        )?;
        $instance.func_wrap(
            concat!("[method]", $names, ".set-path-with-query"),
            |mut cx: StoreContextMut<'_, Sandbox>, (request, path): (Resource<$resource>, Option<String>)| {
                if is_longer(path.as_ref(), MAX_PATH) {
                    return Ok((Err(()),));
                }
                Ok((Host::set_path_with_query(&mut cx.data_mut().http(), request, path)?,))
            },
        )
    }};
}

pub(crate) fn link_p2(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:http/types@0.2.12")?;
    setters!(
        instance,
        p2::OutgoingRequest,
        p2::Method,
        p2::Method::Other,
        p2::HostOutgoingRequest,
        "outgoing-request"
    )
}

pub(crate) fn link_p3(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:http/types@0.3.0")?;
    setters!(instance, p3::Request, p3::Method, p3::Method::Other, p3::HostRequest, "request")
}
