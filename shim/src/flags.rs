//! The arguments that containerd starts a shim with, as Go reads them: `-name value` or `-name=value`.

/// What the shim is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
    /// Serve the tasks of a pod, at the socket that is its standard input.
    #[default]
    Serve,
    Start,
    Delete,
    Info,
    Version,
    Help,
    /// Run a guest, as the socket that is its standard input says.
    Guest,
}

/// The arguments, as far as they say something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) action: Action,
    pub(crate) debug: bool,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) bundle: String,
    /// Where containerd's own API is.
    pub(crate) address: String,
}

impl Flags {
    /// # Errors
    /// Fails with a text for whoever started the shim by hand.
    pub(crate) fn read(args: impl IntoIterator<Item = String>) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-') else {
                flags.action = match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    "guest" => Action::Guest,
                    other => return Err(format!("`{other}` is no action: start and delete are")),
                };
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            match name {
                "debug" => flags.debug = true,
                "info" => flags.action = Action::Info,
                "v" | "version" => flags.action = Action::Version,
                "h" | "help" => flags.action = Action::Help,
                _ => {
                    let value = value.or_else(|| args.next());
                    let value = value.ok_or_else(|| format!("-{name} needs a value"))?;
                    match name {
                        "namespace" => flags.namespace = value,
                        "id" => flags.id = value,
                        "bundle" => flags.bundle = value,
                        "address" => flags.address = value,
                        // Events go straight to containerd's socket; sockets have their own place.
                        "publish-binary" | "socket" => {}
                        other => return Err(format!("-{other} is no flag of a shim")),
                    }
                }
            }
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Flags, String> {
        Flags::read(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read_as_containerd_writes_them() {
        let flags = read(
            "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id web -debug start",
        );
        let expected = Flags {
            action: Action::Start,
            debug: true,
            namespace: "k8s.io".into(),
            id: "web".into(),
            bundle: String::new(),
            address: "/run/containerd/containerd.sock".into(),
        };
        assert_eq!(flags, Ok(expected));
        assert_eq!(read("--id=a -bundle=/b delete").unwrap().bundle, "/b");
        assert_eq!(read("-info").unwrap().action, Action::Info);
        assert_eq!(read("-id web").unwrap().action, Action::Serve);
    }

    #[test]
    fn what_no_containerd_writes_is_an_error() {
        for text in ["stop", "-id", "-unknown x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
