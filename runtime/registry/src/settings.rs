//! How registries are reached, as the caller says.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::endpoint::TlsVerify;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    pub verify: TlsVerify,
    /// Registries that may be without TLS.
    pub plain_http: Vec<String>,
    /// Folders of containerd's `hosts.toml` files.
    pub mirrors: Vec<PathBuf>,
    /// PEM files of authorities that are trusted beside the system's.
    pub authorities: Vec<PathBuf>,
    pub credentials: Credentials,
    /// Proxies for plain and encrypted requests, and the hosts that need none.
    pub proxy: Proxy,
    /// Hosts that may ask for credentials though they are in a private network, beside the registries themselves.
    pub token_servers: Vec<String>,
    /// A connection that brings nothing for so long is given up, and its download resumed; one that brings less
    /// than [`MIN_RATE`] over so long is given up for good.
    pub stall: Duration,
    /// How long a pull may take in all.
    pub deadline: Duration,
}

/// Bytes a second that a registry has to bring.
pub const MIN_RATE: u64 = 1 << 10;

/// The proxies of the environment, as the binary read them.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    pub http: Option<String>,
    pub https: Option<String>,
    pub no_proxy: Option<String>,
}

impl Proxy {
    /// The hosts of the proxies.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let addresses = [&self.http, &self.https].into_iter().flatten();
        // A proxy without a scheme is one of HTTP.
        let whole = addresses.map(|address| match address.contains("://") {
            true => address.clone(),
            false => format!("http://{address}"),
        });
        let host =
            |address: String| reqwest::Url::parse(&address).ok()?.host_str().map(str::to_owned);
        whole.filter_map(host).collect()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            verify: TlsVerify::Always,
            plain_http: Vec::new(),
            mirrors: Vec::new(),
            authorities: Vec::new(),
            credentials: Credentials::default(),
            proxy: Proxy::default(),
            token_servers: Vec::new(),
            stall: Duration::from_secs(30),
            deadline: Duration::from_secs(60 * 60),
        }
    }
}
