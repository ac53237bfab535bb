//! A small web server that misbehaves on request, on the loopback interface only.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for; header names in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// How many requests for this method and path came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first byte a `Range: bytes=N-` asks for.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// What the server sends, and how badly.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Sends so many bytes, then nothing for so long, then the rest.
    pub stall: Option<(usize, Duration)>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    /// Sends `content`, or the part a range asks for.
    pub fn file(content: &[u8], request: &Request) -> Reply {
        match request.range_start() {
            Some(start) if start >= content.len() => Reply::status(416),
            Some(start) => Reply {
                status: 206,
                headers: vec![(
                    "Content-Range".into(),
                    format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
                )],
                body: content[start..].to_vec(),
                ..Reply::default()
            },
            None => Reply { status: 200, body: content.to_vec(), ..Reply::default() },
        }
    }

    pub fn redirect(status: u16, to: &str) -> Reply {
        Reply::status(status).with("Location", to)
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, after: usize) -> Reply {
        self.cut_after = Some(after);
        self
    }

    pub fn stalled(mut self, after: usize, pause: Duration) -> Reply {
        self.stall = Some((after, pause));
        self
    }
}

/// A running server; stops when dropped.
pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (answer, log_inside, stop_inside) = (Arc::new(answer), log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_inside.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, log) = (answer.clone(), log_inside.clone());
                // A client that gives up breaks the connection; that is part of the tests.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &*answer, &log)));
            }
        });
        Server { url: format!("http://{address}"), log, stop, thread: Some(thread) }
    }

    /// Everything asked so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(&stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(()) };
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_string()));
    }
    let request = {
        let mut log = log.lock().unwrap();
        let nth = log.iter().filter(|r| r.method == method && r.path == path).count();
        log.push(Request { method, path, headers, nth });
        log.last().unwrap().clone()
    };
    let reply = answer(&request);

    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    let mut out = &stream;
    out.write_all(head.as_bytes())?;
    out.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        let end = reply.cut_after.unwrap_or(usize::MAX).min(reply.body.len());
        let (pause_at, pause) = reply.stall.unwrap_or((end, Duration::ZERO));
        let pause_at = pause_at.min(end);
        out.write_all(&reply.body[..pause_at])?;
        out.flush()?;
        std::thread::sleep(pause);
        out.write_all(&reply.body[pause_at..end])?;
    }
    Ok(())
}
