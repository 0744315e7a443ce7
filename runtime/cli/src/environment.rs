//! Reads the process environment: the only file of the project that does.

use std::path::PathBuf;

/// What mote takes from its environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `MOTE_ROOT` and `MOTE_STATE`: folders to use instead of the usual ones.
    pub(crate) root: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) data_home: Option<PathBuf>,
    pub(crate) config_home: Option<PathBuf>,
    pub(crate) runtime_dir: Option<PathBuf>,
    pub(crate) docker_config: Option<PathBuf>,
    pub(crate) auth_file: Option<PathBuf>,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let either = |name: &str| filled(&name.to_lowercase()).or_else(|| filled(name));
        Environment {
            root: path("MOTE_ROOT"),
            state: path("MOTE_STATE"),
            home: path("HOME"),
            data_home: path("XDG_DATA_HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            docker_config: path("DOCKER_CONFIG"),
            auth_file: path("REGISTRY_AUTH_FILE"),
            http_proxy: either("HTTP_PROXY"),
            https_proxy: either("HTTPS_PROXY"),
            no_proxy: either("NO_PROXY"),
        }
    }
}

/// A variable for a guest that is to have it from us (`-e NAME`).
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable of our own; an empty one says nothing.
fn filled(name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    filled(name).map(PathBuf::from)
}
