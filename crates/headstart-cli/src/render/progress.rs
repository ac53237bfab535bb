//! Progress on stderr: bars with throughput and time left, one line an epoch.

use std::time::Duration;

use headstart::train::observer::{Event, Observer};
use headstart::weights::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows what training does.
pub struct Bars {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self { bar: None, quiet }
    }

    fn bar(&mut self, total: u64, what: &str, unit: &str) -> &ProgressBar {
        if self.bar.as_ref().is_none_or(|b| b.message() != what || b.is_finished()) {
            self.close();
            let style = ProgressStyle::with_template(&format!(
                "{{msg}} {{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left"
            ))
            .expect("the template is sound");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_message(what.to_string());
            self.bar = Some(bar);
        }
        self.bar.as_ref().expect("just made")
    }

    /// Shows how many of something are done.
    pub fn counted(&mut self, what: &str, done: usize, all: usize) {
        if self.quiet {
            return;
        }
        let bar = self.bar(all as u64, what, "files");
        // Threads report out of order.
        bar.set_position(bar.position().max(done as u64));
        if done == all {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Observer for Bars {
    fn event(&mut self, event: Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            Event::Caching { done, total, before } => {
                let what = format!("features before `{before}`");
                self.bar(total as u64, &what, "pictures").set_position(done as u64);
                if done == total {
                    self.close();
                }
            }
            Event::PhaseStarted { index, count, name, groups, epochs } => {
                self.close();
                self.say(&format!("phase {}/{count} `{name}`: {epochs} epochs", index + 1));
                let parts: Vec<String> = (groups.iter())
                    .map(|(name, rate)| match rate {
                        Some(rate) => format!("{name} {rate:.1e}"),
                        None => format!("{name} frozen"),
                    })
                    .collect();
                self.say(&format!("  {}", parts.join(", ")));
            }
            Event::Step { epoch, step, steps, loss, .. } => {
                let bar = self.bar(steps as u64, &format!("epoch {}", epoch + 1), "steps");
                bar.set_position(step as u64 + 1);
                bar.set_prefix(format!("{loss:.3}"));
            }
            Event::EpochEnded(r) => {
                self.close();
                let (name, value) = r.headline();
                self.say(&format!(
                    "  epoch {:>3}  train loss {:.4}  val loss {:.4}  {name} {value:.4}{}  {:.1} s",
                    r.epoch + 1,
                    r.train_loss,
                    r.val_loss,
                    r.labelled.map_or(String::new(), |s| format!("  labelled {:.0} %", 100.0 * s)),
                    r.seconds
                ));
            }
            Event::Note(text) => self.say(text),
        }
    }

    fn wants_to_stop(&self) -> bool {
        headstart::stop_requested()
    }
}

impl Progress for Bars {
    fn started(&mut self, file: &str, total: Option<u64>) {
        if self.quiet {
            return;
        }
        self.close();
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
        bar.set_style(style.expect("the template is sound"));
        bar.set_message(file.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn advanced(&mut self, done: u64, _: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}
