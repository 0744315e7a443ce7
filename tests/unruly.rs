//! Registries that lie, stall, break off, send elsewhere and refuse.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Asked, Host, Image, Reply, Unruly, printing_wasm};

/// An image with a layer that is large enough to be cut.
fn image() -> Image {
    let mut wasm = printing_wasm("it works");
    // A custom section of noise behind the program.
    let noise: Vec<u8> =
        (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut section = vec![1, b'x'];
    section.extend(noise);
    wasm.push(0);
    let mut size = section.len() as u32;
    while size >= 0x80 {
        wasm.push((size as u8) | 0x80);
        size >>= 7;
    }
    wasm.push(size as u8);
    wasm.extend(section);
    Image::wasm(wasm)
}

/// Answers as a well-behaved registry without ranges would.
fn honest(image: &Image, asked: &Asked) -> Reply {
    if asked.path.contains("/manifests/") {
        return Reply::ok(image.manifest())
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    }
    let path = asked.path.split('?').next().unwrap_or_default();
    match path.rsplit('/').next().and_then(|digest| image.blob(digest)) {
        Some(blob) => Reply::ok(blob.bytes.clone()),
        None => Reply::status(404),
    }
}

fn is_layer(image: &Image, asked: &Asked) -> bool {
    asked.path.ends_with(&image.layers[0].digest())
}

/// Serves an honest image but for what `twist` answers.
fn registry(
    twist: impl Fn(&Image, &Asked, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Unruly {
    let image = image();
    Unruly::start(move |asked, before| {
        twist(&image, asked, before).unwrap_or_else(|| honest(&image, asked))
    })
}

#[track_caller]
fn works(registry: &Unruly) {
    let host = Host::new();
    assert_eq!(host.cli(["run", &registry.image()]).success().stdout, "it works\n");
    host.cli(["system", "check"]).success();
}

#[track_caller]
fn refused(registry: &Unruly, says: &[&str]) {
    let host = Host::new();
    host.cli(["run", &registry.image()]).fails(125, says);
    assert_eq!(host.cli(["images", "-q"]).success().stdout, "", "nothing was named");
    host.cli(["system", "check"]).success();
}

#[test]
fn an_honest_one_works() {
    works(&registry(|_, _, _| None));
}

#[test]
fn a_download_that_breaks_off_is_resumed_by_range() {
    let registry = registry(|image, asked, before| {
        if !is_layer(image, asked) {
            return None;
        }
        let bytes = &image.layers[0].bytes;
        match asked
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        {
            None if before == 0 => Some(Reply::ok(bytes.clone()).cut_after(100_000)),
            None => None,
            Some(from) => {
                let from: usize = from;
                let reply = Reply::ok(&bytes[from..]).with_status(206);
                let reply = reply.header(
                    "Content-Range",
                    &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
                );
                Some(if before == 1 { reply.cut_after(50_000) } else { reply })
            }
        }
    });
    works(&registry);
    let ranges: Vec<String> =
        registry.asked().iter().filter_map(|asked| asked.headers.get("range").cloned()).collect();
    assert!(!ranges.is_empty() && !ranges.contains(&"bytes=0-".to_owned()), "{ranges:?}");
}

#[test]
fn a_registry_that_ignores_ranges_sends_it_all_again() {
    works(&registry(|image, asked, before| {
        (is_layer(image, asked) && before == 0).then(|| honest(image, asked).cut_after(100_000))
    }));
}

#[test]
fn a_range_that_starts_elsewhere_is_refused() {
    let registry = registry(|image, asked, before| {
        if !is_layer(image, asked) {
            return None;
        }
        let bytes = &image.layers[0].bytes;
        Some(match before {
            0 => Reply::ok(bytes.clone()).cut_after(100_000),
            _ => Reply::ok(&bytes[..200_000])
                .with_status(206)
                .header("Content-Range", &format!("bytes 0-199999/{}", bytes.len())),
        })
    });
    refused(&registry, &["sends another part"]);
}

#[test]
fn content_that_lies_about_its_digest_is_refused() {
    let registry = registry(|image, asked, _| {
        is_layer(image, asked).then(|| {
            let mut bytes = image.layers[0].bytes.clone();
            bytes[200_000] ^= 1;
            Reply::ok(bytes)
        })
    });
    refused(&registry, &["hashes to"]);
}

#[test]
fn a_manifest_that_lies_about_its_digest_is_refused() {
    let registry = registry(|image, asked, _| {
        let lie = format!("sha256:{}", "0".repeat(64));
        asked
            .path
            .contains("/manifests/")
            .then(|| honest(image, asked).header("Docker-Content-Digest", &lie))
    });
    refused(&registry, &["manifest of", "should be sha256:000"]);
}

#[test]
fn more_bytes_than_promised_are_not_taken() {
    let too_many = |image: &Image, asked: &Asked, _: usize| {
        is_layer(image, asked).then(|| {
            let mut bytes = image.layers[0].bytes.clone();
            bytes.extend(vec![0; 5_000_000]);
            Reply::ok(bytes)
        })
    };
    refused(&registry(too_many), &["is larger than"]);
    // The same without announcing the length.
    let silent = registry(move |image, asked, before| {
        too_many(image, asked, before)
            .map(|reply| reply.header("Content-Length", "999999999999").cut_after(6_000_000))
    });
    refused(&silent, &["is larger than"]);
}

#[test]
fn fewer_bytes_than_promised_are_not_enough() {
    let registry = registry(|image, asked, _| {
        is_layer(image, asked).then(|| Reply::ok(&image.layers[0].bytes[..1_000]))
    });
    refused(&registry, &["should have", "bytes"]);
}

#[test]
fn an_endless_manifest_is_not_read() {
    let registry = registry(|_, asked, _| {
        asked.path.contains("/manifests/").then(|| Reply::ok(vec![b' '; 9 << 20]))
    });
    refused(&registry, &["is larger than 4194304 bytes"]);
}

#[test]
fn what_is_no_manifest_is_said_to_be_none() {
    let registry =
        registry(|_, asked, _| asked.path.contains("/manifests/").then(|| Reply::ok("<html>")));
    refused(&registry, &["cannot be read", "not the JSON of a manifest"]);
}

#[test]
fn busy_and_broken_answers_are_tried_again() {
    for status in [429, 500, 502, 503, 504] {
        let registry = registry(move |_, asked, before| {
            (asked.path.contains("/manifests/") && before < 2)
                .then(|| Reply::status(status).header("Retry-After", "0"))
        });
        works(&registry);
        assert_eq!(registry.count("/manifests/"), 3, "{status}");
    }
}

#[test]
fn a_registry_that_wants_too_long_a_wait_is_given_up() {
    let registry = registry(|_, _, _| Some(Reply::status(429).header("Retry-After", "3600")));
    refused(&registry, &["429: too many requests", "hint:"]);
    assert_eq!(registry.count(""), 1);
}

#[test]
fn refusals_are_not_tried_again() {
    let registry = registry(|_, _, _| Some(Reply::status(403)));
    refused(&registry, &["refuses this access"]);
    assert_eq!(registry.count(""), 1);
}

#[test]
fn a_credential_does_not_follow_a_redirect_to_another_origin() {
    let elsewhere = {
        let image = image();
        Unruly::start(move |_, _| Reply::ok(image.layers[0].bytes.clone()))
    };
    let place = format!("http://{}/storage", elsewhere.address());
    let registry = registry(move |image, asked, _| {
        if !asked.headers.contains_key("authorization") {
            return Some(Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
        }
        is_layer(image, asked).then(|| Reply::status(307).header("Location", &place))
    });
    let host = Host::new();
    let out = host.cli(["run", "--creds", "alice:secret", &registry.image()]).success();
    assert_eq!(out.stdout, "it works\n");
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
}

#[test]
fn a_token_is_fetched_where_the_registry_says_and_used() {
    let tokens = Unruly::start(|asked, _| match asked.headers.get("authorization") {
        Some(_) => Reply::ok(r#"{"token":"abc123"}"#),
        None => Reply::status(401),
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address());
    let registry = registry(move |_, asked, _| {
        (asked.headers.get("authorization").map(String::as_str) != Some("Bearer abc123"))
            .then(|| Reply::status(401).header("WWW-Authenticate", &challenge))
    });
    let host = Host::new();
    let out = host.cli(["run", "--creds", "alice:secret", &registry.image()]).success();
    assert_eq!(out.stdout, "it works\n");
    assert!(
        tokens.asked()[0].path.contains("scope=repository%3Ahello%3Apull"),
        "{:?}",
        tokens.asked()
    );
    host.cli(["rmi", &registry.image()]).success();
    host.cli(["run", &registry.image()]).fails(125, &["refuses this access"]);
}

#[test]
fn a_credential_is_never_sent_to_a_realm_inside_the_network() {
    for realm in
        ["http://169.254.169.254/token", "https://user@example.com/token", "ftp://example.com/"]
    {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let registry = registry(move |_, _, _| {
            Some(Reply::status(401).header("WWW-Authenticate", &challenge))
        });
        let host = Host::new();
        let out = host.cli(["run", "--creds", "alice:secret", &registry.image()]);
        out.fails(125, &["wants the credential sent to", "is refused", "no credential was sent"]);
    }
}

#[test]
fn a_redirect_that_goes_round_is_given_up() {
    let registry = registry(|_, asked, _| Some(Reply::status(307).header("Location", &asked.path)));
    refused(&registry, &["cannot reach registry", "redirect"]);
}

#[test]
fn a_mirror_is_asked_first_and_a_missing_image_is_sought_at_the_registry() {
    let mirror = registry(|_, _, _| None);
    let empty = Unruly::start(|_, _| Reply::status(404));
    let upstream = registry(|_, _, _| None);
    let host = Host::new();
    let mirrored = |base: &str| {
        let hosts = format!("[host.\"http://{base}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        host.file(&format!("certs.d/{}/hosts.toml", upstream.address()), hosts);
        let folder = host.folder("certs.d");
        host.file("config.toml", format!("[registries]\nmirrors = [\"{folder}\"]\n"))
    };
    let config = mirrored(mirror.address());
    host.cli(["--config", &config, "run", &upstream.image()]).success();
    assert_eq!(upstream.count(""), 0, "the mirror had it all");
    assert!(mirror.asked()[0].path.ends_with(&format!("?ns={}", upstream.address())));
    host.cli(["rmi", &upstream.image()]).success();
    let config = mirrored(empty.address());
    host.cli(["--config", &config, "run", &upstream.image()]).success();
    assert!(empty.count("") > 0 && upstream.count("") > 0);
}

#[test]
fn a_download_that_stalls_is_resumed_on_another_connection() {
    let registry = registry(|image, asked, before| {
        (is_layer(image, asked) && before == 0).then(|| honest(image, asked).stall_after(100_000))
    });
    let host = Host::new();
    let config = host.file("config.toml", "[registries]\nstall = \"300ms\"\n");
    assert_eq!(
        host.cli(["--config", &config, "run", &registry.image()]).success().stdout,
        "it works\n"
    );
    assert_eq!(registry.count("/blobs/"), 3, "configuration, layer, and the layer again");
}

#[test]
fn a_credential_for_a_registry_is_not_given_to_its_mirror_or_a_proxy() {
    let asks = |_: &Image, asked: &Asked, _: usize| {
        (!asked.headers.contains_key("authorization"))
            .then(|| Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""))
    };
    let (mirror, upstream, proxy) = (registry(asks), registry(asks), registry(asks));
    let host = Host::new();
    let hosts =
        format!("[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", mirror.address());
    host.file(&format!("certs.d/{}/hosts.toml", upstream.address()), hosts);
    let config = host
        .file("config.toml", format!("[registries]\nmirrors = [\"{}\"]\n", host.folder("certs.d")));
    let image = upstream.image();
    let mut command = host.command(["--config", &config, "run", "--creds", "alice:secret", &image]);
    let out = crate::harness::run(command.env("HTTP_PROXY", format!("http://{}", proxy.address())))
        .success();
    assert_eq!(out.stdout, "it works\n");
    assert!(mirror.count("") > 0 && proxy.count("") == 0);
    assert!(mirror.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

/// A server that sends a byte now and then is given up, and holds up nobody who pulls the same blob elsewhere.
#[test]
fn one_that_drips_is_given_up_and_holds_up_nobody() {
    let host = Host::new();
    let config = host.file("config.toml", "[registries]\nstall = \"2s\"\n");
    let drips = registry(|image, asked, _| {
        is_layer(image, asked)
            .then(|| Reply::ok(image.layers[0].bytes.clone()).drip(Duration::from_millis(500)))
    });
    let honest = registry(|_, _, _| None);
    let mut slow = host.command(["--config", &config, "pull", &drips.image()]);
    let slow = slow.stderr(Stdio::piped()).spawn().expect("mote starts");
    // The layer is on its way, and locked.
    while drips.asked().len() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(host.cli(["run", &honest.image()]).success().stdout, "it works\n");
    let slow = slow.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&slow.stderr);
    assert!(said.contains("less than 1024 bytes a second"), "{said}");
    host.cli(["system", "check"]).success();
}

/// The whole of a pull has an end, whatever a registry does meanwhile.
#[test]
fn a_pull_has_a_deadline() {
    let host = Host::new();
    let config = host.file("config.toml", "[registries]\ndeadline = \"2s\"\n");
    let stalls = registry(|image, asked, _| {
        is_layer(image, asked).then(|| Reply::ok(image.layers[0].bytes.clone()).stall_after(7))
    });
    host.cli(["--config", &config, "pull", &stalls.image()]).fails(125, &["took longer than 2s"]);
}

/// A document that one client takes for an image and another for a list of images is neither (CVE-2021-41190).
#[test]
fn a_document_that_is_two_things_at_once_is_refused() {
    let index = |image: &Image| {
        let mut document: serde_json::Value =
            serde_json::from_slice(&image.manifest()).expect("JSON");
        document["manifests"] = serde_json::json!([]);
        serde_json::to_vec(&document).expect("JSON")
    };
    let both = registry(move |image, asked, _| {
        asked.path.contains("/manifests/").then(|| {
            Reply::ok(index(image))
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        })
    });
    refused(&both, &["a manifest and an index at once"]);
    let called = registry(|image, asked, _| {
        asked.path.contains("/manifests/").then(|| {
            Reply::ok(image.manifest())
                .header("Content-Type", "application/vnd.oci.image.index.v1+json")
        })
    });
    refused(&called, &["that is not what it is"]);
}
