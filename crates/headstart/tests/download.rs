//! Downloads of single files from a server that cuts, stalls, lies, redirects and refuses.
//!
//! The server is on the loopback interface; `hub.rs` does the same for whole repositories.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use headstart::weights::{Cache, Lookup};
use support::http_server::{Reply, Request, Server};
use support::{Log, content, env, refusal, sha256};

struct Torch {
    dir: tempfile::TempDir,
    server: Server,
    file: String,
    bytes: Vec<u8>,
}

impl Torch {
    /// A server of one torchvision file whose name promises the right hash.
    fn new(len: usize, answer: impl Fn(&[u8], &Request) -> Reply + Send + Sync + 'static) -> Torch {
        let bytes = content(len);
        let served = bytes.clone();
        let server = Server::start(move |request| answer(&served, request));
        let file = format!("tiny-{}.pth", &sha256(&bytes)[..8]);
        Torch { dir: tempfile::tempdir().unwrap(), server, file, bytes }
    }

    fn cache(&self) -> Cache {
        Cache::new(env(self.dir.path(), &self.server.url))
    }

    fn target(&self) -> PathBuf {
        self.cache().env().torch_cache.join(&self.file)
    }

    fn pull(&self, log: &mut Log) -> headstart::Result<PathBuf> {
        self.cache().torchvision_file(&self.file, Lookup::CacheFirst, log)
    }

    fn check(&self, path: &Path) {
        assert_eq!(path, self.target());
        assert!(std::fs::read(path).unwrap() == self.bytes, "the content is the server's");
        let parts = |p: &Path| p.to_string_lossy().ends_with("partial");
        let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert!(!folder.flatten().any(|e| parts(&e.path())), "no litter");
    }
}

#[test]
fn a_torchvision_file_is_fetched_once_and_watched() {
    let t = Torch::new(300_000, Reply::file);
    let mut log = Log::default();
    t.check(&t.pull(&mut log).unwrap());
    assert_eq!(log.done.last(), Some(&(300_000, Some(300_000))));
    assert!(log.done.is_sorted() && log.finished == 1 && log.notes.is_empty());
    t.check(&t.pull(&mut log).unwrap());
    assert_eq!(t.server.requests().len(), 1);
    assert_eq!(t.server.requests()[0].path, format!("/models/{}", t.file));
    assert_eq!(t.server.requests()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let t = Torch::new(300_000, |bytes, request| match request.nth {
        0 => Reply::file(bytes, request).cut(100_000),
        _ => Reply::file(bytes, request),
    });
    let mut log = Log::default();
    t.check(&t.pull(&mut log).unwrap());
    assert_eq!(t.server.requests()[1].range_start(), Some(100_000));
    assert!(log.notes[0].contains("100000 of 300000"), "{:?}", log.notes);
}

#[test]
fn the_next_run_goes_on_too() {
    let t = Torch::new(90_000, |bytes, request| match request.nth {
        0..3 => Reply::file(bytes, request).cut(20_000),
        _ => Reply::file(bytes, request),
    });
    let (reason, hint) = refusal(t.pull(&mut Log::default()).unwrap_err());
    assert!(reason.contains("60000 of 90000") && hint.contains("60000 bytes are kept"), "{reason} {hint}");
    assert!(!t.target().exists());
    let listed = t.cache().list().unwrap();
    assert!(listed.len() == 1 && listed[0].partial && listed[0].bytes == 60_000, "{listed:?}");
    t.check(&t.pull(&mut Log::default()).unwrap());
    assert_eq!(t.server.requests()[3].range_start(), Some(60_000));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let t = Torch::new(50_000, |bytes, request| {
        let whole = Reply { status: 200, body: bytes.to_vec(), ..Reply::default() };
        if request.nth == 0 { whole.cut(20_000) } else { whole }
    });
    t.check(&t.pull(&mut Log::default()).unwrap());
}

#[test]
fn a_stale_part_is_thrown_away() {
    for junk in [vec![7; 10_000], vec![7; 50_000], vec![7; 60_000]] {
        let t = Torch::new(50_000, Reply::file);
        std::fs::create_dir_all(t.target().parent().unwrap()).unwrap();
        std::fs::write(format!("{}.headstart.partial", t.target().display()), junk).unwrap();
        let mut log = Log::default();
        t.check(&t.pull(&mut log).unwrap());
        assert_eq!(t.server.requests().len(), 2);
    }
}

#[test]
fn a_lie_about_the_hash_is_found_and_nothing_kept() {
    let t = Torch::new(50_000, |bytes, request| {
        let mut other = bytes.to_vec();
        other[25_000] ^= 1;
        Reply::file(&other, request)
    });
    let (reason, _) = refusal(t.pull(&mut Log::default()).unwrap_err());
    assert!(reason.contains("sha256") && reason.contains("was promised"), "{reason}");
    let files = std::fs::read_dir(t.target().parent().unwrap()).unwrap();
    assert!(files.flatten().all(|f| f.file_name() == ".locks"));
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let t = Torch::new(5_000, Reply::file);
    let served = t.bytes.clone();
    let cdn = Server::start(move |request| Reply::file(&served, request));
    let there = format!("{}/f", cdn.url);
    let front = Server::start(move |request| match request.path.as_str() {
        "/models/loop.pth" => Reply::redirect(302, "loop.pth"),
        "/models/hop" => Reply::redirect(307, &there),
        _ => Reply::redirect(302, "hop"),
    });
    let cache = Cache::new(env(t.dir.path(), &front.url));
    t.check(&cache.torchvision_file(&t.file, Lookup::CacheFirst, &mut ()).unwrap());
    let (reason, _) = refusal(cache.torchvision_file("loop.pth", Lookup::CacheFirst, &mut ()).unwrap_err());
    assert!(reason.contains("circles"), "{reason}");
}

#[test]
fn a_busy_server_is_asked_again_and_a_missing_file_is_not() {
    let t = Torch::new(5_000, |bytes, request| match request.nth {
        0 => Reply::status(429).with("Retry-After", "0"),
        1 => Reply::status(503),
        _ => Reply::file(bytes, request),
    });
    let mut log = Log::default();
    t.check(&t.pull(&mut log).unwrap());
    assert!(log.notes[0].contains("429") && log.notes[1].contains("503"), "{:?}", log.notes);

    let broken = Torch::new(5_000, |_, _| Reply::status(500));
    let (reason, _) = refusal(broken.pull(&mut Log::default()).unwrap_err());
    assert!(reason.contains("500") && broken.server.requests().len() == 3, "{reason}");

    let missing = Torch::new(5_000, |_, _| Reply::status(404));
    let (reason, hint) = refusal(missing.pull(&mut Log::default()).unwrap_err());
    assert!(reason.contains("404") && hint.contains("name"), "{reason}");
    assert_eq!(missing.server.requests().len(), 1);
}

#[test]
fn retry_after_is_waited_for() {
    let t = Torch::new(500, |bytes, request| match request.nth {
        0 => Reply::status(429).with("Retry-After", "1"),
        _ => Reply::file(bytes, request),
    });
    let start = Instant::now();
    t.check(&t.pull(&mut Log::default()).unwrap());
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_stalled_download_is_given_up_and_resumed() {
    let t = Torch::new(60_000, |bytes, request| match request.nth {
        0 => Reply::file(bytes, request).stalled(10_000, Duration::from_secs(2)),
        _ => Reply::file(bytes, request),
    });
    let start = Instant::now();
    let mut log = Log::default();
    t.check(&t.pull(&mut log).unwrap());
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(log.notes[0].contains("stood still"), "{:?}", log.notes);
    assert_eq!(t.server.requests()[1].range_start(), Some(10_000));
}

#[test]
fn a_web_page_instead_of_weights_is_recognised() {
    let t = Torch::new(500, |_, request| {
        Reply::file(b"<html>log in</html>", request).with("Content-Type", "text/html; charset=utf-8")
    });
    assert!(refusal(t.pull(&mut Log::default()).unwrap_err()).0.contains("web page"));
}

#[test]
fn the_second_process_waits_for_the_first() {
    let t = Torch::new(60_000, |bytes, request| {
        Reply::file(bytes, request).stalled(10_000, Duration::from_millis(200))
    });
    let notes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut log = Log::default();
                // Each thread has its own cache object, as processes would.
                t.check(&t.pull(&mut log).unwrap());
                notes.lock().unwrap().extend(log.notes);
            });
        }
    });
    assert_eq!(t.server.requests().len(), 1, "one download for all");
    let notes = notes.into_inner().unwrap();
    assert!(notes.len() == 2 && notes.iter().all(|n| n.contains("another process")), "{notes:?}");
}

#[test]
fn offline_means_offline() {
    let t = Torch::new(5_000, Reply::file);
    let mut offline = env(t.dir.path(), &t.server.url);
    offline.offline = Some("HF_HUB_OFFLINE".into());
    let cache = Cache::new(offline);
    let (reason, hint) = refusal(cache.torchvision_file(&t.file, Lookup::CacheFirst, &mut ()).unwrap_err());
    assert!(reason.contains("`HF_HUB_OFFLINE` forbids") && hint.contains("copy it to"), "{reason} {hint}");
    assert!(t.server.requests().is_empty());
    t.pull(&mut Log::default()).unwrap();
    t.check(&cache.torchvision_file(&t.file, Lookup::Revalidate, &mut ()).unwrap());
}

#[test]
fn a_damaged_cached_file_is_replaced_when_asked_to_check() {
    let t = Torch::new(5_000, Reply::file);
    std::fs::create_dir_all(t.target().parent().unwrap()).unwrap();
    std::fs::write(t.target(), b"half").unwrap();
    assert_eq!(std::fs::read(t.pull(&mut Log::default()).unwrap()).unwrap(), b"half");
    t.check(&t.cache().torchvision_file(&t.file, Lookup::Revalidate, &mut ()).unwrap());
}

#[test]
fn no_server_is_said_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Server::start(|_| Reply::status(200)).url.clone();
    let start = Instant::now();
    let cache = Cache::new(env(dir.path(), &closed));
    let (reason, hint) = refusal(cache.torchvision_file("x.pth", Lookup::CacheFirst, &mut ()).unwrap_err());
    assert!(reason.contains("cannot be reached") && hint.contains("--weights"), "{reason} {hint}");
    assert!(start.elapsed() < Duration::from_millis(500));
}
