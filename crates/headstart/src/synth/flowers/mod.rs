//! Pictures of flowers for the demo: five species that differ in form, not in colour.
//!
//! Colours are drawn from one list for all species, and place, number, size, turn, tilt, light,
//! background, focus and what stands in front all vary, so the mean colour says little and a
//! person still tells the species at a glance. `petal` has the parts, `blossom` the flowers
//! seen from above, `side` those seen from the side, `scene` everything around them.

mod blossom;
mod petal;
mod scene;
mod side;

use std::path::Path;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;

use self::petal::{Dye, Light, Stance};
use self::scene::Ground;
use super::canvas::{Canvas, Point};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// The species [`flower`] can draw, in class order.
pub const SPECIES: [&str; 5] = ["bellflower", "daisy", "poppy", "sunflower", "tulip"];

/// What is true of a drawn picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Position in [`SPECIES`].
    pub species: usize,
    /// What lies behind the flowers: `bokeh`, `meadow`, `soil`, `sky`, `foliage` or `wall`.
    pub ground: &'static str,
    /// Flowers in front, those far behind not counted.
    pub count: usize,
    /// Radius of the largest, as a fraction of the picture's side.
    pub radius: f32,
}

/// Draws picture `seed` of a species, `size` × `size` pixels. The same arguments give the same picture.
///
/// Panics if `species` is not below 5 or `size` is 0.
pub fn flower(species: usize, seed: u64, size: u32) -> RgbImage {
    flower_with_facts(species, seed, size).0
}

/// Draws the picture of [`flower`] and tells what is on it.
pub fn flower_with_facts(species: usize, seed: u64, size: u32) -> (RgbImage, Facts) {
    assert!(species < SPECIES.len(), "species {species} of {}", SPECIES.len());
    assert!(size > 0, "a picture needs at least one pixel");
    let rng = &mut Rng::keyed(&[0xF10E, species as u64, seed]);
    let light = Light::random(rng);
    let ground = Ground::random(rng);
    let mut canvas = scene::background(ground, size as usize, rng);
    let dye = Dye::random(species, rng);

    // A few of the same kind far behind, out of focus.
    if rng.chance(0.35) {
        for _ in 0..rng.between(1, 4) {
            let at = [rng.range(0.0, 1.0), rng.range(0.0, 0.8)];
            plant(&mut canvas, species, at, rng.range(0.07, 0.13), ground, &dye, &light, rng);
        }
        canvas.blur(rng.range(0.008, 0.02) * size as f32);
    }
    let placed = arrange(species, rng);
    let largest = placed.iter().map(|(_, radius)| *radius).fold(0.0, f32::max);
    let facts = Facts { species, ground: ground.name(), count: placed.len(), radius: largest };
    for (at, radius) in placed {
        plant(&mut canvas, species, at, radius, ground, &dye, &light, rng);
    }
    if rng.chance(0.4) {
        scene::foreground(&mut canvas, &light, rng);
    }
    scene::photograph(&mut canvas, &light, rng);
    (canvas.to_rgb(), facts)
}

/// Chooses how many flowers there are, where (as fractions of the picture) and how large.
fn arrange(species: usize, rng: &mut Rng) -> Vec<(Point, f32)> {
    let (count, (small, large)) = match rng.unit() {
        u if u < 0.5 => (1, (0.24, 0.42)),
        u if u < 0.8 => (rng.between(2, 3), (0.17, 0.26)),
        _ => (rng.between(4, 6), (0.13, 0.19)),
    };
    // A bellflower is a whole spray of bells, each much smaller than the plant.
    let (count, grow) = if species == 0 { (count.min(3), 1.3) } else { (count, 1.0) };
    let mut placed: Vec<(Point, f32)> = Vec::new();
    for _ in 0..60 {
        if placed.len() == count {
            break;
        }
        let radius = grow * rng.range(small, large);
        let margin = 0.7 * radius;
        let at = [rng.range(margin, 1.0 - margin), rng.range(margin, 1.0 - margin)];
        let clear = |(other, size): &(Point, f32)| {
            (other[0] - at[0]).hypot(other[1] - at[1]) > 0.85 * (radius + size)
        };
        if placed.iter().all(clear) {
            placed.push((at, radius));
        }
    }
    // Higher up is farther away and is drawn first.
    placed.sort_by(|a, b| a.0[1].total_cmp(&b.0[1]));
    placed
}

#[allow(clippy::too_many_arguments)] // One call's worth of scene; a struct would be built and taken apart here only.
fn plant(
    canvas: &mut Canvas,
    species: usize,
    at: Point,
    radius: f32,
    ground: Ground,
    dye: &Dye,
    light: &Light,
    rng: &mut Rng,
) {
    let size = canvas.width as f32;
    let centre = [at[0] * size, at[1] * size];
    let scale = radius * size;
    let dye = &dye.vary(rng);
    let above = matches!(species, 1..=3);
    if above {
        // A stem is seen only where one looks across rather than down.
        let tilt = if ground.seen_from_above() { rng.range(0.0, 0.6) } else { rng.range(0.1, 0.95) };
        let stance = Stance::new(centre, scale, rng.range(-0.5, 0.5), tilt);
        if !ground.seen_from_above() || rng.chance(0.2) {
            side::stem(canvas, centre, scale, light, rng);
        }
        match species {
            1 => blossom::daisy(canvas, &stance, dye, light, rng),
            2 => blossom::poppy(canvas, &stance, dye, light, rng),
            _ => blossom::sunflower(canvas, &stance, dye, light, rng),
        }
    } else {
        let stance = Stance::new(centre, scale, rng.range(-0.45, 0.45), 0.0);
        match species {
            0 => side::bellflower(canvas, &stance, dye, light, rng),
            _ => side::tulip(canvas, &stance, dye, light, rng),
        }
    }
}

/// Writes a picture set as JPEG files `dir/{train,val}/species/NNN.jpg`.
///
/// Files that are there already are overwritten; other files are left alone.
///
/// ```no_run
/// headstart::synth::write_flowers("demo".as_ref(), 40, 20, 0, 160)?;
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn write_flowers(
    dir: &Path,
    per_class_train: usize,
    per_class_val: usize,
    seed: u64,
    size: u32,
) -> Result<()> {
    let mut jobs = Vec::new();
    for (split, (name, count)) in [("train", per_class_train), ("val", per_class_val)].iter().enumerate() {
        for (species, class) in SPECIES.iter().enumerate() {
            let folder = dir.join(name).join(class);
            std::fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
            jobs.extend((0..*count).map(|i| (folder.join(format!("{i:03}.jpg")), species, split, i)));
        }
    }
    jobs.into_par_iter().try_for_each(|(path, species, split, i)| {
        let key = Rng::keyed(&[seed, split as u64, i as u64]).bits();
        write_jpeg(&path, &flower(species, key, size))
    })
}

fn write_jpeg(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(picture)
        .map_err(|e| Error::write(path)(std::io::Error::other(e)))?;
    std::fs::write(path, bytes).map_err(Error::write(path))
}

/// Writes a picture set described by tables: JPEG files `dir/NNNN.jpg`, `dir/labels.csv` (`file_name,labels,split`: species,
/// ground, and `several` flowers) and `dir/numbers.csv` (`file_name,radius,count,split`).
pub fn write_flower_tables(dir: &Path, train: usize, val: usize, seed: u64, size: u32) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::write(dir))?;
    let lines = (0..train + val).into_par_iter().map(|i| {
        let (name, split) = (format!("{i:04}.jpg"), if i < train { "train" } else { "val" });
        let key = Rng::keyed(&[seed, 2, i as u64]).bits();
        let (picture, facts) = flower_with_facts(i % SPECIES.len(), key, size);
        write_jpeg(&dir.join(&name), &picture)?;
        let several = if facts.count > 1 { "|several" } else { "" };
        let labels = format!("{name},{}|{}{several},{split}\n", SPECIES[facts.species], facts.ground);
        Ok((labels, format!("{name},{},{},{split}\n", facts.radius, facts.count)))
    });
    let (labels, numbers): (Vec<_>, Vec<_>) = lines.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    for (file, header, lines) in [
        ("labels.csv", "file_name,labels,split\n", labels),
        ("numbers.csv", "file_name,radius,count,split\n", numbers),
    ] {
        let path = dir.join(file);
        std::fs::write(&path, header.to_string() + &lines.concat()).map_err(Error::write(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_colour(picture: &RgbImage) -> [f32; 3] {
        let mut sum = [0.0; 3];
        picture.pixels().for_each(|p| (0..3).for_each(|c| sum[c] += p.0[c] as f32));
        sum.map(|s| s / (picture.width() * picture.height()) as f32)
    }

    #[test]
    fn the_mean_colour_does_not_give_the_species_away() {
        let set = |from: u64| -> Vec<(usize, [f32; 3])> {
            (0..5).flat_map(|s| (from..from + 24).map(move |i| (s, mean_colour(&flower(s, i, 48))))).collect()
        };
        let (train, test) = (set(0), set(1000));
        let nearest = |c: &[f32; 3]| {
            let gap = |o: &[f32; 3]| (0..3).map(|i| (o[i] - c[i]).powi(2)).sum::<f32>();
            train.iter().min_by(|a, b| gap(&a.1).total_cmp(&gap(&b.1))).unwrap().0
        };
        let right = test.iter().filter(|(s, c)| nearest(c) == *s).count();
        assert!(right * 100 < 40 * test.len(), "{right} of {}; chance is a fifth", test.len());
    }

    #[test]
    fn the_set_has_the_promised_files() {
        let dir = tempfile::tempdir().unwrap();
        write_flowers(dir.path(), 2, 1, 7, 24).unwrap();
        for name in SPECIES {
            assert_eq!(std::fs::read_dir(dir.path().join("train").join(name)).unwrap().count(), 2);
        }
        let bytes = std::fs::read(dir.path().join("val/tulip/000.jpg")).unwrap();
        let key = Rng::keyed(&[7, 1, 0]).bits();
        let decoded = image::load_from_memory(&bytes).unwrap().to_rgb8();
        let (a, b) = (mean_colour(&decoded), mean_colour(&flower(4, key, 24)));
        assert!((0..3).all(|c| (a[c] - b[c]).abs() < 4.0), "{a:?} {b:?}");
    }
}
