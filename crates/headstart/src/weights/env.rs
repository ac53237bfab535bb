//! The settings of downloads and caches, read once from the environment.
//!
//! Variables and defaults are those of torch and of huggingface_hub,
//! so that files already on the disk are found. Everything is a plain field: tests and embedders
//! set what they need without touching the process's environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where torchvision publishes its weights.
pub const TORCHVISION_URL: &str = "https://download.pytorch.org/models/";
/// Where the Hugging Face hub answers.
pub const HUB_URL: &str = "https://huggingface.co";

/// Says where caches are, whom to ask and how patiently.
#[derive(Clone)]
pub struct Env {
    /// The folder of torchvision's files: `$TORCH_HOME/hub/checkpoints`.
    pub torch_cache: PathBuf,
    /// The folder of hub repositories: `$HF_HUB_CACHE`.
    pub hub_cache: PathBuf,
    /// The address before a torchvision file name, with its final slash; `HEADSTART_TORCHVISION_URL`
    /// names a mirror.
    pub torchvision_url: String,
    /// The address of the hub or of a mirror, without a final slash: `HF_ENDPOINT`.
    pub hub_url: String,
    /// The user's hub token: `HF_TOKEN` or the token file.
    pub token: Option<String>,
    /// The variable that forbids the network, if one does.
    pub offline: Option<String>,
    /// Whether snapshots may be symbolic links; off under `HF_HUB_DISABLE_SYMLINKS`.
    pub symlinks: bool,
    /// How long to wait for a connection and for an answer's headers: `HF_HUB_ETAG_TIMEOUT`.
    pub answer_timeout: Duration,
    /// How long a download may bring nothing: `HF_HUB_DOWNLOAD_TIMEOUT`.
    pub stall_timeout: Duration,
    /// How often to try before giving up.
    pub attempts: u32,
    /// The pause after the first failure; doubles from there.
    pub backoff: Duration,
}

// By hand, so that a token never ends up in a log.
impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("torch_cache", &self.torch_cache)
            .field("hub_cache", &self.hub_cache)
            .field("torchvision_url", &self.torchvision_url)
            .field("hub_url", &self.hub_url)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Env {
    /// Reads the environment of this process.
    pub fn from_process() -> Env {
        Env::from_vars(|name| std::env::var(name).ok())
    }

    /// Reads variables from `var`; an empty one counts as unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Env {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(var("HOME").or_else(|| var("USERPROFILE")).unwrap_or_else(|| ".".into()));
        let path = |name: &str| var(name).map(|value| expand(&value, &home));
        let on = |name: &str| {
            var(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()))
        };
        let seconds = |name: &str| {
            let given = var(name).and_then(|v| v.parse::<f64>().ok()).filter(|s| *s > 0.0 && s.is_finite());
            Duration::from_secs_f64(given.unwrap_or(10.0).min(3600.0))
        };

        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let torch_home = path("TORCH_HOME").unwrap_or_else(|| cache.join("torch"));
        let hub_home = path("HF_HOME").unwrap_or_else(|| cache.join("huggingface"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home.join("token"));
        let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                return None;
            }
            std::fs::read_to_string(token_file).ok()
        });
        // huggingface_hub looks at the second only if the first is unset: `0` there means online.
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|n| var(n).is_some());
        Env {
            torch_cache: torch_home.join("hub").join("checkpoints"),
            hub_cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| hub_home.join("hub")),
            torchvision_url: with_slash(
                var("HEADSTART_TORCHVISION_URL").unwrap_or_else(|| TORCHVISION_URL.into()),
            ),
            hub_url: var("HF_ENDPOINT").unwrap_or_else(|| HUB_URL.into()).trim_end_matches('/').into(),
            token: token.map(|t| t.trim().to_string()).filter(|t| !t.is_empty()),
            offline: offline.filter(|n| on(n)).map(String::from),
            symlinks: !on("HF_HUB_DISABLE_SYMLINKS"),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT"),
            stall_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT"),
            attempts: 5,
            backoff: Duration::from_secs(1),
        }
    }
}

fn expand(value: &str, home: &Path) -> PathBuf {
    match value.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(value),
    }
}

fn with_slash(mut url: String) -> String {
    if !url.ends_with('/') {
        url.push('/');
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Env::from_vars(move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn folders_follow_the_variables_of_torch_and_hugging_face() {
        let default = env(&[("HOME", "/h")]);
        assert_eq!(default.torch_cache, Path::new("/h/.cache/torch/hub/checkpoints"));
        assert_eq!(default.hub_cache, Path::new("/h/.cache/huggingface/hub"));
        let xdg = env(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]);
        assert_eq!(xdg.torch_cache, Path::new("/x/torch/hub/checkpoints"));
        assert_eq!(xdg.hub_cache, Path::new("/x/huggingface/hub"));
        let own = env(&[("HOME", "/h"), ("TORCH_HOME", "~/t"), ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]);
        assert_eq!(own.torch_cache, Path::new("/h/t/hub/checkpoints"));
        assert_eq!(own.hub_cache, Path::new("/c"));
    }

    #[test]
    fn switches_times_and_tokens() {
        let plain =
            env(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1"), ("HF_ENDPOINT", "http://m/")]);
        assert_eq!((plain.offline, plain.hub_url.as_str(), plain.symlinks), (None, "http://m", true));
        let offline =
            env(&[("TRANSFORMERS_OFFLINE", "yes"), ("HF_HUB_DOWNLOAD_TIMEOUT", "2.5"), ("HF_TOKEN", " t\n")]);
        assert_eq!(offline.offline.as_deref(), Some("TRANSFORMERS_OFFLINE"));
        assert_eq!(offline.stall_timeout, Duration::from_millis(2500));
        assert_eq!(offline.token.as_deref(), Some("t"));
        assert!(!format!("{offline:?}").contains("\"t\""));
    }
}
