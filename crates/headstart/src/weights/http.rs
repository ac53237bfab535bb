//! Asks servers: the only file that touches the network.
//!
//! Redirects are followed by hand, because the hub wants its own answer looked at before the
//! CDN's, and because a token must not travel to another host.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::env::Env;

const MAX_REDIRECTS: usize = 10;
/// What a busy server may ask for; beyond a minute the user decides.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Holds connections and patience.
pub(super) struct Http {
    agent: Agent,
    stall_timeout: Duration,
}

/// Holds a server's answer that is not a failure.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Body,
}

/// Says why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no: status, the hub's error code, its commit if known.
    Refused { status: u16, code: String, commit: Option<String> },
    /// The server or the connection may do better in a while.
    Passing { reason: String, wait: Option<Duration> },
    /// There is no server, or none to trust.
    Unreachable { reason: String },
}

impl Failure {
    /// Says it in plain words.
    pub(super) fn reason(&self) -> String {
        match self {
            Failure::Refused { status: 404, .. } => "the server does not have it (404)".into(),
            Failure::Refused { status: 401 | 403, .. } => "the server wants a permission for it".into(),
            Failure::Refused { status, .. } => format!("the server refused ({status})"),
            Failure::Passing { reason, .. } | Failure::Unreachable { reason } => reason.clone(),
        }
    }
}

impl Answer {
    /// Returns a header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a header as a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// Streams the body.
    pub(super) fn into_reader(self) -> impl Read {
        self.body.into_reader()
    }
}

impl Http {
    /// Prepares an agent; nothing is asked yet.
    pub(super) fn new(env: &Env) -> Http {
        let agent = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_resolve(Some(env.answer_timeout))
            .timeout_connect(Some(env.answer_timeout))
            .timeout_recv_response(Some(env.answer_timeout))
            .user_agent(concat!("headstart/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would break sizes, ranges and hashes.
            .accept_encoding("identity")
            .build()
            .new_agent();
        Http { agent, stall_timeout: env.stall_timeout }
    }

    /// Asks for the headers of a file; a redirect that already carries the hub's facts about the
    /// file (its commit) is the answer, since the CDN it points to does not know them.
    pub(super) fn head(&self, url: &str, token: Option<&str>) -> Result<Answer, Failure> {
        self.ask(url, token, Follow::UpToFacts, |url, token| authorized(self.agent.head(url), token).call())
    }

    /// Asks for a file from byte `from` on, wherever it is.
    pub(super) fn get(&self, url: &str, token: Option<&str>, from: u64) -> Result<Answer, Failure> {
        self.ask(url, token, Follow::All, |url, token| {
            let mut request = authorized(self.agent.get(url), token);
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            request.config().timeout_per_read(Some(self.stall_timeout)).build().call()
        })
    }

    fn ask(
        &self,
        url: &str,
        mut token: Option<&str>,
        follow: Follow,
        send: impl Fn(&str, Option<&str>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer, Failure> {
        let unreachable = |reason: &str| Failure::Unreachable { reason: reason.into() };
        let mut url = url.to_string();
        for _ in 0..=MAX_REDIRECTS {
            let (parts, body) = send(&url, token).map_err(failure)?.into_parts();
            let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return judge(answer);
            }
            let next = answer
                .header("location")
                .and_then(|to| join(&url, to))
                .ok_or_else(|| unreachable("the server redirects without saying where"))?;
            if origin(&next) != origin(&url) {
                if matches!(follow, Follow::UpToFacts) && answer.header("x-repo-commit").is_some() {
                    return Ok(answer);
                }
                if url.starts_with("https://") && !next.starts_with("https://") {
                    return Err(unreachable("the server redirects to an unprotected address"));
                }
                token = None;
            }
            url = next;
        }
        Err(unreachable("the server redirects in circles"))
    }
}

enum Follow {
    UpToFacts,
    All,
}

fn authorized(request: RequestBuilder<WithoutBody>, token: Option<&str>) -> RequestBuilder<WithoutBody> {
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

/// Sorts statuses into answers, passing troubles and refusals.
fn judge(answer: Answer) -> Result<Answer, Failure> {
    match answer.status {
        // 416: the range starts behind the end; whoever asked knows what to do.
        200 | 206 | 416 => Ok(answer),
        429 => Err(Failure::Passing {
            reason: "the server is busy (429: too many requests)".into(),
            wait: answer.number("retry-after").map(Duration::from_secs).map(|w| w.min(MAX_RETRY_AFTER)),
        }),
        status @ (408 | 500..=599) => Err(Failure::Passing {
            reason: format!("the server is in trouble ({status})"),
            wait: answer.number("retry-after").map(Duration::from_secs).map(|w| w.min(MAX_RETRY_AFTER)),
        }),
        status => Err(Failure::Refused {
            status,
            code: answer.header("x-error-code").unwrap_or_default().into(),
            commit: answer.header("x-repo-commit").map(String::from),
        }),
    }
}

fn failure(error: ureq::Error) -> Failure {
    let passing = |reason: &str| Failure::Passing { reason: reason.into(), wait: None };
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Failure::Unreachable { reason: "the server cannot be reached: no answer".into() }
        }
        ureq::Error::Timeout(_) => passing("the server does not answer"),
        ureq::Error::HostNotFound => Failure::Unreachable { reason: "the server's name is not known".into() },
        ureq::Error::ConnectionFailed => {
            Failure::Unreachable { reason: "the server cannot be reached".into() }
        }
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::Unreachable { reason: "the server cannot be reached: connection refused".into() }
        }
        ureq::Error::Io(e) => passing(&format!("the connection broke ({e})")),
        ureq::Error::Protocol(e) => passing(&format!("the answer is garbled ({e})")),
        other => Failure::Unreachable { reason: other.to_string() },
    }
}

/// Returns scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |i| i + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |i| start + i);
    &url[..end]
}

/// Resolves a redirect's target against the address it came from.
fn join(base: &str, to: &str) -> Option<String> {
    let origin = origin(base);
    if to.starts_with("https://") || to.starts_with("http://") {
        Some(to.into())
    } else if let Some(rest) = to.strip_prefix("//") {
        Some(format!("{}://{rest}", base.split("://").next()?))
    } else if to.starts_with('/') {
        Some(format!("{origin}{to}"))
    } else if to.is_empty() || to.contains("://") {
        None
    } else {
        let path = base.split(['?', '#']).next()?;
        let folder = &path[..path.rfind('/').filter(|&i| i >= origin.len()).unwrap_or(path.len())];
        Some(format!("{folder}/{to}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let base = "https://h:1/a/b?x=/y";
        for (to, expected) in [
            ("https://k/z", Some("https://k/z")),
            ("//k/z", Some("https://k/z")),
            ("/z?q", Some("https://h:1/z?q")),
            ("z", Some("https://h:1/a/z")),
            ("ftp://k/z", None),
        ] {
            assert_eq!(join(base, to).as_deref(), expected, "{to}");
        }
        assert_eq!(join("http://h", "z").as_deref(), Some("http://h/z"));
        assert_eq!(origin("https://h:1?x"), "https://h:1");
    }
}
