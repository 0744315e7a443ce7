//! Brings an image from a registry into the store: resolve, choose, check, download, name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use mote_image::bounds::free_space;
use mote_image::layout::{self, LayoutError};
use mote_image::manifest::{Descriptor, Document, ImageConfig, Manifest, ManifestError, Platform};
use mote_image::select::{self, SelectError};
use mote_image::{Ingest, Store, StoreError, Stored, Verified, media};
use mote_spec::ImageRef;

use crate::client::{BlobStream, Client, Fetched};
use crate::error::RegistryError;

/// How many blobs are downloaded at once.
const PARALLEL: usize = 6;
/// How many blobs are made durable at once.
const COMMITS: usize = 40;
/// How often a download may fail without having brought anything.
const FRUITLESS_ATTEMPTS: u32 = 4;

/// Why an image cannot be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the manifest of {image} cannot be read")]
    Manifest { image: ImageRef, source: ManifestError },
    #[error("the configuration of {image} cannot be read")]
    Config { image: ImageRef, source: serde_json::Error },
    #[error("{image} cannot run here")]
    Select { image: ImageRef, source: SelectError },
    #[error("{image} cannot run here")]
    Layout { image: ImageRef, source: LayoutError },
    #[error("pulling {image} took longer than {}", humantime::format_duration(*.limit))]
    TimedOut { image: ImageRef, limit: Duration },
    #[error("{image} lists an index inside an index")]
    NestedIndex { image: ImageRef },
    #[error("{image} needs {needed} bytes and the disk has {free} free")]
    NoSpace { image: ImageRef, needed: u64, free: u64 },
}

/// How far a pull is; whoever shows it reads it when it likes.
#[derive(Debug, Default)]
pub struct Progress {
    pub total: AtomicU64,
    pub done: AtomicU64,
}

/// Bytes that an attempt has to bring, so that the next one is worth its while.
const FRUITFUL: u64 = 64 << 10;

/// Pulls an image and names it in the store, within the client's deadline. What was brought by then is kept to go
/// on from.
pub async fn pull(
    store: &Store,
    client: &Client,
    image: &ImageRef,
    platform: Option<&Platform>,
    progress: &Arc<Progress>,
) -> Result<Stored, PullError> {
    let limit = client.deadline();
    let pulled = tokio::time::timeout(limit, pull_all(store, client, image, platform, progress));
    pulled.await.unwrap_or_else(|_| Err(PullError::TimedOut { image: image.clone(), limit }))
}

async fn pull_all(
    store: &Store,
    client: &Client,
    image: &ImageRef,
    platform: Option<&Platform>,
    progress: &Arc<Progress>,
) -> Result<Stored, PullError> {
    let leased = store.clone();
    let lease = blocking(move || leased.lease()).await?;
    let resolved = client.manifest(image).await?;
    let (fetched, manifest) = resolve(client, image, &resolved, platform).await?;
    check_layout(image, &manifest, &ImageConfig::default())?;
    check_space(store, image, &manifest)?;

    let wanted: Vec<Descriptor> =
        distinct(&manifest.layers).into_iter().filter(|layer| !store.has(layer)).collect();
    progress.total.store(wanted.iter().map(|layer| layer.size).sum(), Ordering::Relaxed);
    let layers = futures_util::stream::iter(wanted)
        .map(|layer| download(store, client, image, layer, progress))
        .buffer_unordered(PARALLEL)
        // The next download does not wait until the disk has this one.
        .map(|verified| async { commit(verified?).await })
        .buffer_unordered(COMMITS)
        .try_collect::<()>();
    let descriptor = fetched.descriptor();
    let resolved_digest = resolved.digest.clone();
    // The layers do not wait for the configuration; if that contradicts them, they are for nothing.
    let documents = async {
        let config = client.small_blob(image, &manifest.config).await?;
        let bad = |source| PullError::Config { image: image.clone(), source };
        check_layout(image, &manifest, &ImageConfig::parse(&config).map_err(bad)?)?;
        let config = (manifest.config.media_type.clone(), config);
        let mut documents = vec![config, (fetched.media_type, fetched.bytes)];
        if resolved.digest != fetched.digest {
            documents.push((resolved.media_type, resolved.bytes));
        }
        put(store, documents).await
    };
    futures_util::future::try_join(layers, documents).await?;
    store.name(&lease, image, &descriptor, &resolved_digest)?;
    Ok(Stored { name: Some(image.clone()), manifest: descriptor, resolved: resolved_digest })
}

/// Stores the small blobs, while the layers are still on their way.
async fn put(store: &Store, documents: Vec<(String, Vec<u8>)>) -> Result<(), PullError> {
    let store = store.clone();
    let put = move || {
        documents.iter().try_for_each(|(media_type, bytes)| store.put(media_type, bytes).map(drop))
    };
    Ok(blocking(put).await?)
}

/// Finds the manifest that runs here: the fetched one, or a child of the fetched index.
async fn resolve(
    client: &Client,
    image: &ImageRef,
    fetched: &Fetched,
    platform: Option<&Platform>,
) -> Result<(Fetched, Manifest), PullError> {
    let bad = |source| PullError::Manifest { image: image.clone(), source };
    let index = match document(fetched).map_err(bad)? {
        Document::Manifest(manifest) => return Ok((typed(fetched.clone()), manifest)),
        Document::Index(index) => index,
    };
    let child = select::choose(&index, platform)
        .map_err(|source| PullError::Select { image: image.clone(), source })?;
    let fetched = client.manifest(&image.pinned(child.digest.clone())).await?;
    match document(&fetched).map_err(bad)? {
        Document::Manifest(manifest) => Ok((typed(fetched), manifest)),
        Document::Index(_) => Err(PullError::NestedIndex { image: image.clone() }),
    }
}

/// Parses a document that is what its server says it is.
fn document(fetched: &Fetched) -> Result<Document, ManifestError> {
    let document = Document::parse(&fetched.bytes)?;
    document.check_type(&fetched.media_type)?;
    Ok(document)
}

/// A manifest whose server named no type is an OCI manifest.
fn typed(mut fetched: Fetched) -> Fetched {
    if !matches!(fetched.media_type.as_str(), media::OCI_MANIFEST | media::DOCKER_MANIFEST) {
        fetched.media_type = media::OCI_MANIFEST.to_owned();
    }
    fetched
}

/// Refuses what cannot run, as early as it is known.
fn check_layout(
    image: &ImageRef,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<(), PullError> {
    let payload = layout::payload(manifest, config);
    payload.map(drop).map_err(|source| PullError::Layout { image: image.clone(), source })
}

fn check_space(store: &Store, image: &ImageRef, manifest: &Manifest) -> Result<(), PullError> {
    let missing = manifest.layers.iter().filter(|layer| !store.has(layer));
    let needed = missing.fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    match free_space(store.root()) {
        Some(free) if needed > free => {
            Err(PullError::NoSpace { image: image.clone(), needed, free })
        }
        _ => Ok(()),
    }
}

fn distinct(layers: &[Descriptor]) -> Vec<Descriptor> {
    let mut seen = std::collections::HashSet::new();
    layers.iter().filter(|layer| seen.insert(layer.digest.clone())).cloned().collect()
}

async fn commit(verified: Option<Verified>) -> Result<(), PullError> {
    match verified {
        Some(verified) => Ok(blocking(move || verified.commit()).await?),
        None => Ok(()),
    }
}

/// Downloads one blob, resuming as long as every attempt brings something; `None` if it is there.
async fn download(
    store: &Store,
    client: &Client,
    image: &ImageRef,
    blob: Descriptor,
    progress: &Arc<Progress>,
) -> Result<Option<Verified>, PullError> {
    let owner = format!("{}/{}", image.registry(), image.repository());
    let open = {
        let (store, blob) = (store.clone(), blob.clone());
        move || store.ingest_of(&blob, &owner)
    };
    let Some(mut ingest) = blocking(open.clone()).await? else {
        progress.done.fetch_add(blob.size, Ordering::Relaxed);
        return Ok(None);
    };
    progress.done.fetch_add(ingest.written(), Ordering::Relaxed);
    let (mut fruitless, mut afresh) = (0, false);
    loop {
        let before = ingest.written();
        let stream = client.blob(image, &blob, before).await?;
        let (back, result) = pour(ingest, stream, Arc::clone(progress)).await;
        ingest = back;
        let complete = result.is_ok() && ingest.written() == blob.size;
        if complete {
            match ingest.verify() {
                // What an earlier, interrupted download left was damaged: once more, from nothing.
                Err(StoreError::Mismatch { .. }) if before > 0 && !afresh => {
                    afresh = true;
                    match blocking(open.clone()).await? {
                        Some(again) => ingest = again,
                        None => return Ok(None),
                    }
                    continue;
                }
                other => return Ok(Some(other?)),
            }
        }
        fruitless = if ingest.written() >= before + FRUITFUL { 0 } else { fruitless + 1 };
        match result {
            Err(PullError::Registry(RegistryError::Transport { .. })) | Ok(())
                if fruitless < FRUITLESS_ATTEMPTS => {}
            Err(error) => return Err(error),
            Ok(()) => {
                return Err(
                    StoreError::Size { expected: blob.size, found: ingest.written() }.into()
                );
            }
        }
    }
}

/// Moves a stream to the disk. To hand every piece to another thread costs more than it brings:
/// what takes time is the sync, and that is done elsewhere.
async fn pour(
    mut ingest: Ingest,
    mut stream: BlobStream,
    progress: Arc<Progress>,
) -> (Ingest, Result<(), PullError>) {
    if stream.start != ingest.written() {
        progress.done.fetch_sub(ingest.written(), Ordering::Relaxed);
        if let Err(error) = ingest.restart() {
            return (ingest, Err(error.into()));
        }
    }
    loop {
        match stream.next().await {
            Ok(Some(chunk)) => {
                if let Err(error) = ingest.write(&chunk) {
                    return (ingest, Err(error.into()));
                }
                progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            Ok(None) => return (ingest, Ok(())),
            Err(error) => return (ingest, Err(error.into())),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work on the store does not panic")
}
