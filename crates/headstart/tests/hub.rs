//! Downloads from a hub of the Hugging Face kind: its protocol, its cache, its refusals.

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use headstart::Error;
use headstart::weights::{self, Cache, Env, HubRepo, Kind, Lookup, Source};
use support::http_server::{Reply, Request, Server};
use support::{Log, env, git_sha1, refusal, sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn repo(revision: &str) -> HubRepo {
    HubRepo { name: "timm/tiny.a1".into(), revision: revision.into() }
}

/// A hub with one repository: LFS weights behind a redirect to a CDN, a small config in place.
struct Hub {
    dir: tempfile::TempDir,
    server: Server,
    cdn: Server,
    weights: Vec<u8>,
}

const CONFIG: &[u8] = br#"{"architecture":"tiny","num_classes":2,"pretrained_cfg":{"crop_pct":0.9}}"#;

impl Hub {
    fn new() -> Hub {
        Hub::serving("model.safetensors", Reply::file)
    }

    fn serving(name: &'static str, cdn: impl Fn(&[u8], &Request) -> Reply + Send + Sync + 'static) -> Hub {
        let weights = {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("w");
            let mut dict = weights::StateDict::new("");
            dict.insert("w", weights::Entry::from_f32(&[4096], &vec![0.5; 4096]));
            weights::safetensors::write(&path, &dict).unwrap();
            std::fs::read(path).unwrap()
        };
        let (served, etag) = (weights.clone(), sha256(&weights));
        let cdn = Server::start(move |request| cdn(&served, request));
        let (away, size) = (format!("{}/blob?signed=1", cdn.url), weights.len().to_string());
        let server = Server::start(move |request| {
            let path = request.path.replace("/old/name/", "/timm/tiny.a1/");
            let Some(rest) = path.strip_prefix("/timm/tiny.a1/resolve/") else {
                return Reply::status(401).with("X-Error-Code", "RepoNotFound");
            };
            if path != request.path {
                return Reply::redirect(307, &path);
            }
            let (revision, file) = rest.split_once('/').unwrap();
            let fact = |reply: Reply| reply.with("X-Repo-Commit", COMMIT);
            match (revision, file) {
                ("main" | "v1%2Fx" | COMMIT, file) if file == name => fact(Reply::redirect(302, &away))
                    .with("X-Linked-Etag", &format!("\"{etag}\""))
                    .with("X-Linked-Size", &size)
                    .with("Content-Length", "0"),
                ("main" | COMMIT, "config.json") => {
                    fact(Reply::file(CONFIG, request)).with("ETag", &format!("W/\"{}\"", git_sha1(CONFIG)))
                }
                ("main" | "v1%2Fx" | COMMIT, _) => {
                    fact(Reply::status(404)).with("X-Error-Code", "EntryNotFound")
                }
                _ => Reply::status(404).with("X-Error-Code", "RevisionNotFound"),
            }
        });
        Hub { dir: tempfile::tempdir().unwrap(), server, cdn, weights }
    }

    fn env(&self) -> Env {
        env(self.dir.path(), &self.server.url)
    }

    fn folder(&self) -> PathBuf {
        self.env().hub_cache.join("models--timm--tiny.a1")
    }
}

#[test]
fn a_hub_repository_lands_where_hugging_face_looks() {
    let hub = Hub::new();
    let cache = Cache::new(hub.env());
    let mut log = Log::default();
    let path = cache.fetch(&Source::Hub(repo("main")), Lookup::CacheFirst, &mut log).unwrap();
    assert_eq!(path, hub.folder().join("snapshots").join(COMMIT).join("model.safetensors"));
    assert_eq!(weights::read(&path).unwrap().len(), 1);
    assert_eq!(log.done.last().unwrap().1, Some(hub.weights.len() as u64));
    assert_eq!(
        std::fs::read_link(&path).unwrap(),
        Path::new("../../blobs").join(sha256(&hub.weights)),
        "a relative link to the blob"
    );
    assert_eq!(std::fs::read_to_string(hub.folder().join("refs/main")).unwrap(), COMMIT);
    let root = hub.env().hub_cache;
    assert!(std::fs::read_to_string(root.join("CACHEDIR.TAG")).unwrap().starts_with("Signature: 8a477f"));
    let lock = format!(".locks/models--timm--tiny.a1/{}.lock", sha256(&hub.weights));
    assert!(root.join(lock).exists());

    let config = cache.hub_config(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap().unwrap();
    assert_eq!(config.pretrained_cfg.crop_pct, Some(0.9));
    let asked = hub.server.requests().len();
    cache.hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    cache.hub_config(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    cache.hub_file(&repo(COMMIT), "config.json", Lookup::Revalidate, &mut ()).unwrap();
    assert_eq!(hub.server.requests().len(), asked, "nothing cached is asked for");
    cache.hub_weights(&repo("main"), Lookup::Revalidate, &mut ()).unwrap();
    assert_eq!(hub.server.count("HEAD"), 3);
    assert_eq!(hub.cdn.count("GET"), 1, "checked, not fetched");
}

#[test]
fn a_token_goes_to_the_hub_and_not_to_the_cdn() {
    let hub = Hub::new();
    let mut env = hub.env();
    env.token = Some("hf_secret".into());
    Cache::new(env).hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    assert!(hub.server.requests().iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")));
    assert!(hub.cdn.requests().iter().all(|r| r.header("authorization").is_none()));
}

#[test]
fn hub_downloads_are_resumed_and_verified() {
    let hub = Hub::serving("model.safetensors", |bytes, request| match request.nth {
        0 => Reply::file(bytes, request).cut(5_000),
        _ => Reply::file(bytes, request),
    });
    let path = Cache::new(hub.env()).hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    assert!(std::fs::read(path).unwrap() == hub.weights);
    assert_eq!(hub.cdn.requests()[1].range_start(), Some(5_000));

    let lying = Hub::serving("model.safetensors", |bytes, request| {
        Reply::file(&bytes.iter().map(|b| b ^ 1).collect::<Vec<_>>(), request)
    });
    let error = Cache::new(lying.env()).hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap_err();
    assert!(refusal(error).0.contains("sha256"));
    assert_eq!(std::fs::read_dir(lying.folder().join("blobs")).unwrap().count(), 0);
}

#[test]
fn small_files_are_verified_by_their_git_hash() {
    let bent = Server::start(|request| {
        let body: &[u8] = if request.method == "HEAD" { b"{}" } else { b"[]" };
        Reply::file(body, request).with("X-Repo-Commit", COMMIT).with("ETag", &git_sha1(b"{}"))
    });
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(env(dir.path(), &bent.url));
    let error = cache.hub_file(&repo("main"), "config.json", Lookup::CacheFirst, &mut ()).unwrap_err();
    assert!(refusal(error).0.contains("git hash"));
}

#[test]
fn other_names_of_weights_are_tried_and_absences_remembered() {
    let hub = Hub::serving("pytorch_model.bin", Reply::file);
    let cache = Cache::new(hub.env());
    let path = cache.hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    assert!(path.ends_with("pytorch_model.bin"));
    assert!(hub.folder().join(".no_exist").join(COMMIT).join("model.safetensors").is_file());
    let mut offline = hub.env();
    offline.offline = Some("TRANSFORMERS_OFFLINE".into());
    let offline = Cache::new(offline);
    assert_eq!(offline.hub_weights(&repo("main"), Lookup::Revalidate, &mut ()).unwrap(), path);
    let absent = offline.hub_file(&repo("main"), "model.safetensors", Lookup::CacheFirst, &mut ()).unwrap();
    assert_eq!(absent, None);
    let error = offline.hub_file(&repo("main"), "config.json", Lookup::CacheFirst, &mut ()).unwrap_err();
    assert!(refusal(error).0.contains("`TRANSFORMERS_OFFLINE` forbids"));
}

#[test]
fn revisions_renamed_repositories_and_refusals() {
    let hub = Hub::new();
    let cache = Cache::new(hub.env());
    cache.hub_file(&repo("v1/x"), "model.safetensors", Lookup::CacheFirst, &mut ()).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(hub.folder().join("refs/v1/x")).unwrap(), COMMIT);
    // The hub redirects a renamed repository within itself, the commit is in the second answer.
    let old = HubRepo { name: "old/name".into(), revision: "main".into() };
    assert!(cache.hub_file(&old, "config.json", Lookup::CacheFirst, &mut ()).unwrap().is_some());

    let ask = |repo: &HubRepo| refusal(cache.hub_weights(repo, Lookup::CacheFirst, &mut ()).unwrap_err());
    let (reason, hint) = ask(&HubRepo { name: "no/body".into(), revision: "main".into() });
    assert!(reason.contains("no repository `no/body`") && hint.contains("HF_TOKEN"), "{reason} {hint}");
    assert!(ask(&repo("v9")).0.contains("no revision `v9`"));

    let gated = Server::start(|_| Reply::status(403).with("X-Error-Code", "GatedRepo"));
    let cache = Cache::new(env(hub.dir.path(), &gated.url));
    let other = HubRepo { name: "a/b".into(), revision: "main".into() };
    let (reason, hint) = refusal(cache.hub_weights(&other, Lookup::CacheFirst, &mut ()).unwrap_err());
    assert!(reason.contains("agreement") && hint.contains("/a/b"), "{reason} {hint}");
}

#[test]
fn a_hub_that_is_down_leaves_the_cached_copy() {
    let hub = Hub::new();
    let path = Cache::new(hub.env()).hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    let down = Server::start(|_| Reply::status(503));
    let cache = Cache::new(env(hub.dir.path(), &down.url));
    let mut log = Log::default();
    assert_eq!(cache.hub_weights(&repo("main"), Lookup::Revalidate, &mut log).unwrap(), path);
    assert!(log.notes[0].contains("cached copy") && down.requests().len() == 1, "{:?}", log.notes);
    let other = HubRepo { name: "a/b".into(), revision: "main".into() };
    assert!(refusal(cache.hub_weights(&other, Lookup::CacheFirst, &mut ()).unwrap_err()).0.contains("503"));
}

#[test]
fn something_else_than_a_hub_is_not_believed() {
    let names = Arc::new(Mutex::new((String::new(), String::new())));
    let inside = names.clone();
    let server = Server::start(move |request| {
        let (commit, etag) = inside.lock().unwrap().clone();
        Reply::file(b"{}", request).with("X-Repo-Commit", &commit).with("ETag", &etag)
    });
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(env(dir.path(), &server.url));
    for (commit, etag) in [("../../x", "e"), (COMMIT, "../../../x"), ("", "e"), (COMMIT, "")] {
        *names.lock().unwrap() = (commit.into(), etag.into());
        let error = cache.hub_file(&repo("main"), "config.json", Lookup::CacheFirst, &mut ()).unwrap_err();
        assert!(refusal(error).0.contains("does not come from"), "{commit} {etag}");
    }
    let error = cache.hub_file(&repo("main"), "../x", Lookup::CacheFirst, &mut ()).unwrap_err();
    assert!(refusal(error).0.contains("leaves"));
}

#[test]
fn shards_are_fetched_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![(
        "model.safetensors.index.json".to_string(),
        br#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#.to_vec(),
    )];
    for (file, name) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
        let mut dict = weights::StateDict::new("");
        dict.insert(name, weights::Entry::from_f32(&[1], &[1.0]));
        weights::safetensors::write(&dir.path().join(file), &dict).unwrap();
        files.push((file.into(), std::fs::read(dir.path().join(file)).unwrap()));
    }
    let server = Server::start(move |request| {
        match files.iter().find(|(name, _)| request.path.ends_with(&format!("/{name}"))) {
            Some((_, bytes)) => Reply::file(bytes, request).with("ETag", &sha256(bytes)),
            None => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
        }
        .with("X-Repo-Commit", COMMIT)
    });
    let cache = Cache::new(env(dir.path(), &server.url));
    for lookup in [Lookup::CacheFirst, Lookup::CacheFirst, Lookup::Revalidate] {
        let path = cache.hub_weights(&repo("main"), lookup, &mut ()).unwrap();
        assert_eq!(weights::read(&path).unwrap().len(), 2);
    }
}

#[test]
fn without_links_the_snapshot_is_a_copy() {
    let hub = Hub::new();
    let mut env = hub.env();
    env.symlinks = false;
    let path = Cache::new(env).hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    assert!(!path.is_symlink() && std::fs::read(path).unwrap() == hub.weights);
}

#[test]
fn the_cache_is_listed_and_emptied() {
    let hub = Hub::new();
    let cache = Cache::new(hub.env());
    assert!(cache.list().unwrap().is_empty());
    cache.hub_weights(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    cache.hub_config(&repo("main"), Lookup::CacheFirst, &mut ()).unwrap();
    std::fs::create_dir_all(&cache.env().torch_cache).unwrap();
    std::fs::write(cache.env().torch_cache.join("a-01234567.pth"), [0; 10]).unwrap();
    let listed = cache.list().unwrap();
    assert_eq!(
        (listed[0].kind, listed[0].name.as_str(), listed[0].bytes),
        (Kind::Torchvision, "a-01234567.pth", 10)
    );
    assert_eq!((listed[1].kind, listed[1].name.as_str()), (Kind::Hub, "timm/tiny.a1"));
    assert_eq!(listed[1].files, ["config.json", "model.safetensors"]);
    assert_eq!(listed[1].bytes, (CONFIG.len() + hub.weights.len()) as u64);
    assert_eq!(cache.remove("timm/tiny.a1").unwrap(), listed[1].bytes);
    assert_eq!(cache.remove("a-01234567.pth").unwrap(), 10);
    assert!(cache.list().unwrap().is_empty() && !hub.folder().exists());
    assert!(matches!(cache.remove("../x"), Err(Error::NotFound { .. })));
}
