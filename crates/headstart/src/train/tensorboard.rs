//! TensorBoard's event files, written by hand: `tensorboard --logdir runs` shows every run without a further program.
//!
//! An event file is a sequence of TFRecords (length, checksum, bytes, checksum) of the protobuf message
//! `tensorflow.Event`, of which five fields are needed. Formats: tensorflow/core/lib/io/record_writer.cc,
//! tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::observer::{EpochRecord, Event, Observer};

/// What names this program's files among others', so that a new run replaces only its own.
const ENDING: &str = ".headstart";

/// Passes news on and writes numbers down, an epoch at a time: `train/loss` and `train/learning_rate` by step,
/// `train/epoch_loss`, `val/loss`, `val/top1` (or `val/map`; or `val/rmse_std`, `val/r2` and `val/rmse`, with several
/// targets `val/rmse_0` and so on) and `train/epoch` at its last step.
pub struct Board<'a> {
    outer: &'a mut dyn Observer,
    folder: PathBuf,
    resume: bool,
    file: Option<PathBuf>,
    /// Steps of the epoch under way: step, steps an epoch, loss, rate, seconds since 1970.
    pending: Vec<(usize, usize, f64, f64, f64)>,
    failure: Option<std::io::Error>,
}

impl<'a> Board<'a> {
    /// Watches for a run in `folder`; unless it is resumed, files of an earlier run there go when the first epoch ends.
    pub fn new(folder: &Path, resume: bool, outer: &'a mut dyn Observer) -> Self {
        Self { outer, folder: folder.into(), resume, file: None, pending: Vec::new(), failure: None }
    }

    /// Tells why the last epochs are not in the file, if they are not. A full disk must not end a training.
    pub fn failure(&self) -> Option<&std::io::Error> {
        self.failure.as_ref()
    }

    fn write(&mut self, r: &EpochRecord) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let now = now();
        if self.file.is_none() {
            fs::create_dir_all(&self.folder)?;
            if !self.resume {
                remove_old(&self.folder)?;
            }
            let name = format!("events.out.tfevents.{:010}.{}{ENDING}", now as u64, std::process::id());
            self.file = Some(self.folder.join(name));
            bytes = record(&event(now, 0, &Content::Version));
        }
        let mut last = 0;
        for (step, steps, loss, lr, time) in self.pending.drain(..) {
            last = (r.epoch * steps + step + 1) as i64;
            let values = [("train/loss", loss), ("train/learning_rate", lr)];
            bytes.extend(record(&event(time, last, &Content::Values(&values))));
        }
        let mut values = vec![
            ("train/epoch_loss", r.train_loss),
            ("train/epoch", r.epoch as f64 + 1.0),
            ("val/loss", r.val_loss),
        ];
        let named = [("val/top1", Some(r.top1).filter(|x| !x.is_nan())), ("val/map", r.map)];
        let named = named.into_iter().chain([("val/rmse_std", r.nrmse), ("val/r2", r.r2)]);
        values.extend(named.filter_map(|(tag, value)| Some((tag, value?))));
        let tags: Vec<String> = match r.rmse.len() {
            1 => vec!["val/rmse".into()],
            n => (0..n).map(|i| format!("val/rmse_{i}")).collect(),
        };
        values.extend(tags.iter().map(String::as_str).zip(r.rmse.iter().copied()));
        bytes.extend(record(&event(now, last, &Content::Values(&values))));
        let file = self.file.as_ref().expect("made above");
        OpenOptions::new().create(true).append(true).open(file)?.write_all(&bytes)
    }
}

impl Observer for Board<'_> {
    fn event(&mut self, event: Event<'_>) {
        match &event {
            // What came before was a sweep for the rate.
            Event::PhaseStarted { .. } => self.pending.clear(),
            Event::Step { step, steps, loss, lr, .. } => {
                self.pending.push((*step, *steps, *loss, *lr, now()))
            }
            Event::EpochEnded(record) => {
                self.failure = self.write(record).err();
            }
            _ => {}
        }
        self.outer.event(event);
    }

    fn wants_to_stop(&self) -> bool {
        self.outer.wants_to_stop()
    }
}

fn remove_old(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("events.out.tfevents.") && name.ends_with(ENDING) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// What an event says.
enum Content<'a> {
    /// The version of the format, in the first event of a file.
    Version,
    /// Numbers by tag.
    Values(&'a [(&'a str, f64)]),
}

/// Encodes `tensorflow.Event`.
fn event(time: f64, step: i64, content: &Content) -> Vec<u8> {
    let mut out = vec![0x09]; // wall_time = 1, 64 bits
    out.extend(time.to_le_bytes());
    out.push(0x10); // step = 2, varint
    varint(&mut out, step as u64);
    match content {
        Content::Version => bytes(&mut out, 0x1A, b"brain.Event:2"), // file_version = 3
        Content::Values(values) => {
            let mut summary = Vec::new();
            for (tag, value) in *values {
                let mut one = Vec::new();
                bytes(&mut one, 0x0A, tag.as_bytes()); // Value.tag = 1
                one.push(0x15); // Value.simple_value = 2, 32 bits
                one.extend((*value as f32).to_le_bytes());
                bytes(&mut summary, 0x0A, &one); // Summary.value = 1
            }
            bytes(&mut out, 0x2A, &summary); // summary = 5
        }
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, key: u8, content: &[u8]) {
    out.push(key);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// Frames bytes as a TFRecord.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(content);
    out.extend(masked(crc32c(content)).to_le_bytes());
    out
}

/// TensorFlow rotates and shifts checksums, so that a checksum of checksums stays meaningful.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), bit by bit: a few kilobytes an epoch.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::super::observer::Silent;
    use super::*;

    #[test]
    fn checksums_and_events_are_those_of_the_formats() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // `Event(wall_time=1.5, step=300, summary=…("val/top1", 0.75))` by TensorBoard 2.21's own protobuf classes.
        let expected = "09000000000000f83f10ac022a110a0f0a0876616c2f746f7031150000403f";
        let found = event(1.5, 300, &Content::Values(&[("val/top1", 0.75)]));
        assert_eq!(super::super::prefix::hex(&found), expected);
    }

    #[test]
    fn steps_are_counted_over_epochs_and_a_new_run_replaces_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(folder.path()).unwrap().count();
        for resume in [false, false, true] {
            let mut silent = Silent;
            let mut board = Board::new(folder.path(), resume, &mut silent);
            board.event(Event::Step { epoch: 0, step: 0, steps: 2, loss: 1.0, lr: 0.1, pictures: 8 });
            assert!(board.file.is_none(), "nothing is written before an epoch ends");
            let old = files();
            let record = EpochRecord { epoch: 70, ..EpochRecord::default() };
            board.event(Event::EpochEnded(&record));
            assert!(board.failure().is_none());
            let text = fs::read(board.file.as_ref().unwrap()).unwrap();
            // 70 · 2 + 1 as a varint, after the key of `step`.
            assert!(text.windows(3).any(|w| w == [0x10, 0x8D, 0x01]));
            assert_eq!(files(), if old == 0 || !resume { 1 } else { old });
        }
    }
}
