//! Lists, shows, names, removes, saves and loads images.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use mote_image::{Store, Stored, archive};
use mote_spec::ImageRef;
use serde_json::{Value, json};

use super::Call;
use super::answer::{self, Reply};
use super::filters::Filters;
use super::pull;
use crate::daemon::{Force, find_image};
use crate::error::DaemonError;
use crate::images::{Removed, Unused};
use crate::report::causes;

/// `/images/…`: a name may have slashes, so that the verb is the last part.
pub(crate) async fn route(call: Call, method: &Method, path: &[&str]) -> Reply {
    match (method, path) {
        (&Method::GET, ["json"]) => blocking(move || list(&call)).await,
        (&Method::POST, ["create"]) => pull::pull(call).await,
        (&Method::POST, ["load"]) => load(call).await,
        (&Method::POST, ["prune"]) => blocking(move || prune(&call)).await,
        (&Method::GET, ["get"]) => {
            let names = call.query.all("names");
            blocking(move || save(&call, &names)).await
        }
        (&Method::GET, ["search"]) => {
            Err(super::unsupported("registries are not searched; look where the image is kept"))
        }
        (_, [name @ .., verb]) => {
            let (name, verb) = (name.join("/"), (*verb).to_owned());
            match (method, verb.as_str()) {
                (&Method::GET, "json") => blocking(move || inspect(&call, &name)).await,
                (&Method::GET, "history") => blocking(move || history(&call, &name)).await,
                (&Method::GET, "get") => blocking(move || save(&call, &[name])).await,
                (&Method::POST, "tag") => blocking(move || tag(&call, &name)).await,
                (&Method::POST, "push") => Err(super::unsupported(
                    "mote pushes no images; `mote save` writes one for skopeo, oras or docker to push",
                )),
                (&Method::DELETE, _) => {
                    let whole = if name.is_empty() { verb } else { format!("{name}/{verb}") };
                    blocking(move || remove(&call, &whole)).await
                }
                _ => Err(DaemonError::Nothing {
                    what: "page",
                    name: format!("{method} /images/{name}/{verb}"),
                }),
            }
        }
        (_, []) => Err(DaemonError::Nothing { what: "page", name: "/images".to_owned() }),
    }
}

/// Runs what waits for the disk beside everything else.
async fn blocking(work: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(DaemonError::Failed("the request failed".to_owned())))
}

/// Images by their manifests, each with all its names.
pub(crate) fn by_manifest(store: &Store) -> Result<Vec<(Stored, Vec<Stored>)>, DaemonError> {
    let mut all: Vec<(Stored, Vec<Stored>)> = Vec::new();
    for image in store.images()? {
        match all.iter_mut().find(|(first, _)| first.manifest.digest == image.manifest.digest) {
            Some((_, names)) => names.push(image),
            None => all.push((image.clone(), vec![image])),
        }
    }
    all.reverse();
    Ok(all)
}

fn names(images: &[Stored]) -> (Vec<String>, Vec<String>) {
    let named = || images.iter().filter_map(|image| Some((image, image.name.as_ref()?)));
    let tags = named().filter(|(_, name)| name.tag().is_some());
    let tags = tags.map(|(_, name)| name.familiar());
    let digests = named().map(|(image, name)| {
        let familiar = name.familiar();
        let bare = familiar.split('@').next().unwrap_or_default();
        let bare = name.tag().and_then(|tag| bare.strip_suffix(&format!(":{tag}"))).unwrap_or(bare);
        format!("{bare}@{}", image.resolved)
    });
    (tags.collect(), digests.collect())
}

/// One entry of the list of images.
pub(crate) fn summary(store: &Store, image: &Stored, same: &[Stored]) -> Value {
    let (tags, digests) = names(same);
    let read = mote_image::read(store, &image.manifest, "").ok();
    let size: u64 =
        read.iter().flat_map(|(manifest, _)| manifest.blobs()).map(|blob| blob.size).sum();
    let config = read.as_ref().map(|(_, config)| config);
    // An image that does not say when it was made is as old as it is here.
    let stored = std::fs::metadata(store.blob_path(&image.manifest.digest));
    let stored = stored.and_then(|found| found.modified()).ok();
    let created = config.and_then(|config| config.created.as_deref());
    let created = created.and_then(|text| humantime::parse_rfc3339_weak(text).ok()).or(stored);
    let labels: BTreeMap<String, String> =
        config.map(|config| config.config.labels.clone()).unwrap_or_default();
    json!({
        "Id": image.manifest.digest.to_string(),
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": created
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs()),
        "Size": size,
        "VirtualSize": size,
        "SharedSize": -1,
        "Labels": labels,
        "Containers": -1,
    })
}

/// `GET /images/json`
fn list(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &["reference", "label", "dangling"])?;
    let store = call.daemon.machine.store()?;
    let mut list = Vec::new();
    for (image, same) in by_manifest(&store)? {
        let (tags, digests) = names(&same);
        let refers = |pattern: &str| {
            let all = tags.iter().chain(&digests);
            all.into_iter().any(|name| is_reference(name, pattern))
        };
        let dangling = if tags.is_empty() { "true" } else { "false" };
        let labels = mote_image::read(&store, &image.manifest, "")
            .map(|(_, config)| config.config.labels)
            .unwrap_or_default();
        if filters.any("reference", refers)
            && filters.any("dangling", |wanted| wanted == dangling)
            && filters.labels(&labels)
        {
            list.push(summary(&store, &image, &same));
        }
    }
    Ok(answer::json(&list))
}

/// Docker's pattern of a reference: `*` stands for anything within a part, and a tag may be left out.
fn is_reference(name: &str, pattern: &str) -> bool {
    let bare = |text: &str| match text.rsplit_once(':') {
        Some((start, tag)) if !tag.contains('/') => start.to_owned(),
        _ => text.to_owned(),
    };
    let tagged = bare(pattern) != pattern;
    let name = if tagged { name.to_owned() } else { bare(name) };
    glob(pattern.as_bytes(), name.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len())
            .take_while(|end| !text[..*end].contains(&b'/'))
            .any(|end| glob(rest, &text[end..])),
        (Some((first, rest)), Some((other, after))) => first == other && glob(rest, after),
        (_, _) => false,
    }
}

/// `GET /images/NAME/json`
fn inspect(call: &Call, name: &str) -> Reply {
    let store = call.daemon.machine.store()?;
    let image = find_image(&store, name)?;
    let same: Vec<Stored> = store
        .images()?
        .into_iter()
        .filter(|other| other.manifest.digest == image.manifest.digest)
        .collect();
    let (tags, digests) = names(&same);
    let (manifest, config) = mote_image::read(&store, &image.manifest, name)?;
    let size: u64 = manifest.blobs().map(|blob| blob.size).sum();
    let layers: Vec<String> =
        manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
    Ok(answer::json(&json!({
        "Id": image.manifest.digest.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": "",
        "Created": config.created.clone().unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()),
        "DockerVersion": "",
        "Author": "",
        "Config": {
            "Env": config.config.env,
            "Cmd": config.config.cmd,
            "Entrypoint": config.config.entrypoint,
            "WorkingDir": config.config.working_dir,
            "Labels": config.config.labels,
        },
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": { "Name": "mote", "Data": null },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    })))
}

/// `GET /images/NAME/history`, the newest step first.
fn history(call: &Call, name: &str) -> Reply {
    let store = call.daemon.machine.store()?;
    let image = find_image(&store, name)?;
    let (manifest, config) = mote_image::read(&store, &image.manifest, name)?;
    let mut layers = manifest.layers.iter();
    let moment = |text: Option<&str>| {
        text.and_then(|text| humantime::parse_rfc3339_weak(text).ok())
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs())
    };
    let step = |created: Option<&str>, by: &str, comment: &str, size: u64| {
        json!({
            "Id": "<missing>", "Created": moment(created), "CreatedBy": by, "Tags": null,
            "Size": size, "Comment": comment,
        })
    };
    let mut steps: Vec<Value> = config
        .history
        .iter()
        .map(|history| {
            let layer = if history.empty_layer { None } else { layers.next() };
            step(
                history.created.as_deref(),
                history.created_by.as_deref().unwrap_or_default(),
                history.comment.as_deref().unwrap_or_default(),
                layer.map_or(0, |layer| layer.size),
            )
        })
        .collect();
    // What the history does not tell of is there all the same.
    steps.extend(
        layers.map(|layer| {
            step(config.created.as_deref(), layer.media_type.as_str(), "", layer.size)
        }),
    );
    steps.reverse();
    if let Some(newest) = steps.first_mut() {
        newest["Id"] = json!(image.manifest.digest.to_string());
        newest["Tags"] = json!(image.name.as_ref().map(|name| vec![name.familiar()]));
    }
    Ok(answer::json(&steps))
}

/// `POST /images/NAME/tag`
fn tag(call: &Call, name: &str) -> Reply {
    let store = call.daemon.machine.store()?;
    let lease = store.lease()?;
    let image = find_image(&store, name)?;
    let repository = call.query.text("repo").unwrap_or_default();
    let text = match call.query.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let new: ImageRef = text
        .parse()
        .map_err(|error: mote_spec::ReferenceError| DaemonError::BadRequest(error.to_string()))?;
    store.name(&lease, &new, &image.manifest, &image.resolved)?;
    call.daemon.tell_image("tag", &new.familiar());
    Ok(answer::with(hyper::StatusCode::CREATED, "", answer::empty().into_body()))
}

fn shown(removed: &Removed) -> Value {
    match removed {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(id) => json!({ "Deleted": id }),
    }
}

/// `DELETE /images/NAME`
fn remove(call: &Call, name: &str) -> Reply {
    let force = if call.query.flag("force") { Force::Yes } else { Force::No };
    let removed = call.daemon.remove_image(name, force)?;
    Ok(answer::json(&removed.iter().map(shown).collect::<Vec<_>>()))
}

/// `POST /images/prune`
fn prune(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &["dangling"])?;
    let unused = match filters.values("dangling").first().map(String::as_str) {
        Some("false" | "0") => Unused::All,
        _ => Unused::Nameless,
    };
    let (removed, freed) = call.daemon.prune_images(unused)?;
    let removed: Vec<Value> = removed.iter().map(shown).collect();
    Ok(answer::json(&json!({ "ImagesDeleted": removed, "SpaceReclaimed": freed })))
}

/// `GET /images/get`: an archive of images, which is a stream, since it may be large.
fn save(call: &Call, names: &[String]) -> Reply {
    let store = call.daemon.machine.store()?;
    let lease = store.lease()?;
    let images: Vec<Stored> =
        names.iter().map(|name| find_image(&store, name)).collect::<Result<_, _>>()?;
    Ok(answer::piped("application/x-tar", move |pipe| {
        mote_image::save(&store, &lease, &images, pipe).map_err(|error| causes(&error))
    }))
}

/// `POST /images/load`
async fn load(call: Call) -> Reply {
    let daemon = Arc::clone(&call.daemon);
    let archive = call.archive()?;
    blocking(move || {
        let store = daemon.machine.store()?;
        let archive = archive::spool(&store, archive)
            .map_err(|error| DaemonError::Failed(format!("cannot keep the archive: {error}")))?;
        let _lease = store.lease()?;
        let loaded = archive::load(&store, archive, None)
            .map_err(|error| DaemonError::BadRequest(causes(&error)))?;
        let mut text = String::new();
        for image in &loaded {
            let id = image.manifest.digest.to_string();
            let name = image.name.as_ref().map_or(id, ImageRef::familiar);
            daemon.tell_image("load", &name);
            // Docker's `quiet` is about progress, of which there is none.
            let line = json!({ "stream": format!("Loaded image: {name}\n") });
            text.push_str(&format!("{line}\r\n"));
        }
        let mut reply = answer::text(text);
        let kind = hyper::header::HeaderValue::from_static("application/json");
        reply.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
        Ok(reply)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_matched_as_docker_matches_them() {
        for (name, pattern, matches) in [
            ("localhost:5000/hello:1", "localhost:5000/hello", true),
            ("hello:1", "hello", true),
            ("hello:1", "hello:2", false),
            ("hello:1", "hel*", true),
            ("acme/hello:1", "hel*", false),
            ("acme/hello:1", "*/hello:*", true),
        ] {
            assert_eq!(is_reference(name, pattern), matches, "{name} {pattern}");
        }
    }
}
