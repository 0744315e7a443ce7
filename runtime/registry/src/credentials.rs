//! Finds the credential for a repository, in the files and helpers of docker and podman.
//!
//! The longest key that fits wins (`quay.io/acme/app` before `quay.io/acme` before `quay.io`), as in
//! podman's files; docker's have hosts only. A helper is a program that the file names; it runs with
//! a time limit.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// How long a credential helper may take.
const HELPER_TIME: Duration = Duration::from_secs(20);

/// What proves to a registry who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token, which files call `identitytoken`.
    RefreshToken(String),
}

impl Credential {
    pub(crate) fn basic(&self) -> String {
        match self {
            Credential::Password { user, password } => {
                format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
            }
            Credential::RefreshToken(token) => {
                format!("Basic {}", BASE64.encode(format!("<token>:{token}")))
            }
        }
    }
}

/// A credential is never printed, also not by accident.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Where credentials are looked for, in order.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Given on the command line; used for every registry of the request.
    pub explicit: Option<Credential>,
    pub files: Vec<PathBuf>,
    pub helpers: Helpers,
}

/// What starts helpers.
#[derive(Clone, Default)]
pub enum Helpers {
    /// This process.
    #[default]
    Here,
    /// Somebody else, for a process that may start nothing: by the program's name, with these standard streams.
    By(Arc<StartHelper>),
}

/// Starts a helper, and tells its end.
pub type StartHelper = dyn Fn(String, [OwnedFd; 3]) -> HelperEnds + Send + Sync;
/// The end of a helper.
pub type HelperEnds = Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>;

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Helpers::Here => "Here",
            Helpers::By(_) => "By",
        })
    }
}

impl Helpers {
    /// Asks a helper something, and returns how it ended and what it said.
    async fn ask(&self, program: &str, words: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (theirs, ours) = io::pipe()?;
        let mut to = pipe::Sender::from_owned_fd(ours.into())?;
        let (from, said) = io::pipe()?;
        let from = pipe::Receiver::from_owned_fd(from.into())?;
        let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
        let files = [theirs.into(), said.into(), nowhere.into()];
        let ended: HelperEnds = match self {
            Helpers::Here => {
                let [input, output, error] = files;
                let mut command = tokio::process::Command::new(program);
                command.arg("get").stdin(input).stdout(output).stderr(error).kill_on_drop(true);
                let mut child = command.spawn()?;
                // The command has the other ends of the pipes.
                drop(command);
                Box::pin(async move { child.wait().await })
            }
            Helpers::By(start) => start(program.to_owned(), files),
        };
        let talk = async {
            // One that ends early stops reading; what it says is more telling.
            let _ = to.write_all(words.as_bytes()).await;
            drop(to);
            let mut said = Vec::new();
            from.take(MOST_SAID).read_to_end(&mut said).await.map(|_| said)
        };
        let (ended, said) = tokio::join!(ended, talk);
        Ok((ended?, said?))
    }
}

/// How much a helper may say.
const MOST_SAID: u64 = 64 << 10;

/// Why a credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read credentials from {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write credentials to {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the credentials in {path} are not in the form of docker's config.json")]
    Form { path: PathBuf, source: serde_json::Error },
    #[error("the credentials for {key} in {path} are not in the form USER:PASSWORD")]
    Entry { path: PathBuf, key: String },
    #[error("the credential helper {program} did not start; is it installed?")]
    HelperStart { program: String, source: io::Error },
    #[error("the credential helper {program} failed: {said}")]
    Helper { program: String, said: String },
    #[error("the credential helper {program} took more than {} seconds", HELPER_TIME.as_secs())]
    HelperTime { program: String },
}

/// A file in the form of docker's `config.json`; what mote does not know of it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthFile {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers", skip_serializing_if = "BTreeMap::is_empty")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore", skip_serializing_if = "String::is_empty")]
    store: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Credentials {
    /// Finds the credential for a repository, if there is one.
    pub async fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(explicit) = &self.explicit {
            return Ok(Some(explicit.clone()));
        }
        for path in &self.files {
            let Some(file) = AuthFile::read(path)? else { continue };
            if let Some(found) = file.find(path, registry, repository, &self.helpers).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl AuthFile {
    /// Reads a file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<AuthFile>, CredentialError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| CredentialError::Form { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CredentialError::Read { path: path.to_owned(), source }),
        }
    }

    /// Replaces a file, readable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), CredentialError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let draft = path.with_extension("new");
            let _ = std::fs::remove_file(&draft);
            let mut file =
                std::fs::File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(self).map_err(io::Error::other)?)?;
            file.sync_all()?;
            std::fs::rename(&draft, path)
        };
        write().map_err(|source| CredentialError::Write { path: path.to_owned(), source })
    }

    /// Remembers a password for a registry or repository.
    pub fn remember(&mut self, key: &str, user: &str, password: &str) {
        let auth = BASE64.encode(format!("{user}:{password}"));
        self.auths.insert(key.to_owned(), Auth { auth, ..Auth::default() });
    }

    /// Forgets what is remembered for a key; false if there was nothing.
    pub fn forget(&mut self, key: &str) -> bool {
        self.auths.remove(key).is_some()
    }

    async fn find(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
        helpers: &Helpers,
    ) -> Result<Option<Credential>, CredentialError> {
        for key in keys(registry, repository) {
            if let Some(helper) = self.helpers.get(&key) {
                return helper_credential(helpers, helper, &key).await;
            }
            if let Some(auth) = self.auths.get(&key)
                && let Some(found) = auth.credential(path, &key)?
            {
                return Ok(Some(found));
            }
        }
        if self.store.is_empty() {
            return Ok(None);
        }
        let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
        helper_credential(helpers, &self.store, server).await
    }
}

/// The keys that name a repository, longest first; Docker Hub has old spellings of its own.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let full = format!("{registry}/{repository}");
    let mut keys = vec![full.clone()];
    keys.extend(full.rmatch_indices('/').map(|(at, _)| full[..at].to_owned()));
    keys.push(format!("https://{registry}"));
    if registry == "docker.io" {
        keys.extend(["https://index.docker.io/v1/", "index.docker.io"].map(str::to_owned));
    }
    keys
}

impl Auth {
    fn credential(&self, path: &Path, key: &str) -> Result<Option<Credential>, CredentialError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::RefreshToken(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let bad = || CredentialError::Entry { path: path.to_owned(), key: key.to_owned() };
        let decoded = BASE64.decode(self.auth.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(decoded).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        Ok(Some(Credential::Password { user: user.into(), password: password.into() }))
    }
}

/// Asks a helper, as `docker-credential-helpers` define it: the server on its standard input.
async fn helper_credential(
    helpers: &Helpers,
    name: &str,
    server: &str,
) -> Result<Option<Credential>, CredentialError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reply {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(CredentialError::Helper { program, said: "its name is a path".into() });
    }
    let start = |source| CredentialError::HelperStart { program: program.clone(), source };
    let (status, said) =
        match tokio::time::timeout(HELPER_TIME, helpers.ask(&program, server)).await {
            Ok(answer) => answer.map_err(start)?,
            Err(_) => return Err(CredentialError::HelperTime { program }),
        };
    if !status.success() {
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        // The protocol's own way to say that there is none.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(CredentialError::Helper { program, said });
    }
    let reply: Reply = serde_json::from_slice(&said)
        .map_err(|_| CredentialError::Helper { program, said: "its reply is not JSON".into() })?;
    Ok(Some(match reply.username.as_str() {
        "<token>" => Credential::RefreshToken(reply.secret),
        _ => Credential::Password { user: reply.username, password: reply.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_key_comes_first() {
        assert_eq!(
            keys("q.io", "acme/app"),
            ["q.io/acme/app", "q.io/acme", "q.io", "https://q.io"]
        );
        assert!(keys("docker.io", "library/x").contains(&"https://index.docker.io/v1/".to_owned()));
    }

    #[tokio::test]
    async fn a_repositorys_own_credential_wins_and_foreign_settings_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        std::fs::write(&path, r#"{"auths":{},"psFormat":"x"}"#).unwrap();
        let mut file = AuthFile::read(&path).unwrap().unwrap();
        file.remember("q.io", "host", "1");
        file.remember("q.io/acme", "team", "a:b");
        file.write(&path).unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("psFormat"));
        let credentials = Credentials { files: vec![path], ..Credentials::default() };
        let find = async |repository| credentials.find("q.io", repository).await.unwrap();
        let password = |user: &str, password: &str| {
            Some(Credential::Password { user: user.into(), password: password.into() })
        };
        assert_eq!(find("acme/app").await, password("team", "a:b"));
        assert_eq!(find("other").await, password("host", "1"));
        assert_eq!(credentials.find("r.io", "x").await.unwrap(), None);
        assert!(
            !format!("{:?}", find("other").await).contains("host"),
            "a credential is not printed"
        );
    }
}
