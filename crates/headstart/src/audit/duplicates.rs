//! The same picture more than once: by bytes, by pixels, by look, by features.
//!
//! Each level adds to the one before: a group found by look names all its members, also those equal by bytes. A group is
//! listed at the first level that brings all of it together.

use std::collections::HashMap;

use serde::Serialize;

use super::Photo;
use super::hamming::near_pairs;

/// In what pictures agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    /// Every byte of the file.
    Bytes,
    /// Every pixel; files differ in metadata or lossless encoding.
    Pixels,
    /// The look: re-encoded, resized, slightly retouched.
    Look,
    /// What the network sees: another crop, another moment, perhaps only alike.
    Features,
}

impl Same {
    /// Says it in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Same::Bytes => "the same file",
            Same::Pixels => "the same pixels",
            Same::Look => "nearly the same picture: re-encoded, resized or retouched",
            Same::Features => "alike to the network",
        }
    }
}

/// Pictures that are one.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// In what they agree.
    pub same: Same,
    /// Their numbers, in order.
    pub photos: Vec<usize>,
    /// Whether they lie in more than one part of the data.
    pub across: bool,
    /// Whether they have more than one label.
    pub labels_differ: bool,
    /// The lowest cosine that joins them; only of [`Same::Features`].
    pub similarity: Option<f32>,
}

/// Most differing bits of two hashes worth a closer look. Re-encodings and resizings of photos stay within 6.
const RADIUS: u32 = 8;

/// Finds groups by bytes, pixels and look. Returns them with the cluster of each photo, for the next level.
pub fn by_content(photos: &[Photo]) -> (Vec<Group>, Clusters) {
    let mut clusters = Clusters::new(photos.len());
    let mut groups = Vec::new();
    join_equal(&mut clusters, photos, |p| p.seen.bytes);
    groups.extend(clusters.take_groups(Same::Bytes, photos));
    join_equal(&mut clusters, photos, |p| p.seen.pixels);
    groups.extend(clusters.take_groups(Same::Pixels, photos));
    join_alike(&mut clusters, photos);
    groups.extend(clusters.take_groups(Same::Look, photos));
    (groups, clusters)
}

/// Finds groups by pairs of close features.
pub fn by_features(photos: &[Photo], mut clusters: Clusters, pairs: &[(usize, usize, f32)]) -> Vec<Group> {
    let before = clusters.clone();
    let apart: Vec<_> = pairs.iter().filter(|(i, j, _)| before.find(*i) != before.find(*j)).collect();
    apart.iter().for_each(|(i, j, _)| clusters.join(*i, *j));
    let mut groups = clusters.take_groups(Same::Features, photos);
    for group in &mut groups {
        let root = clusters.find(group.photos[0]);
        let own = apart.iter().filter(|(i, _, _)| clusters.find(*i) == root).map(|(_, _, c)| *c);
        group.similarity = own.reduce(f32::min);
    }
    groups
}

fn join_equal<K: std::hash::Hash + Eq>(clusters: &mut Clusters, photos: &[Photo], key: impl Fn(&Photo) -> K) {
    let mut first = HashMap::new();
    for (i, photo) in photos.iter().enumerate() {
        clusters.join(*first.entry(key(photo)).or_insert(i), i);
    }
}

fn join_alike(clusters: &mut Clusters, photos: &[Photo]) {
    // Of each hash those that look different from one another: a thousand blank pages are one leader.
    let mut leaders: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut hashes = Vec::new();
    for (i, photo) in photos.iter().enumerate() {
        if clusters.find(i) != i {
            continue;
        }
        let hash = photo.seen.look.hash;
        let known = leaders.entry(hash).or_insert_with(|| {
            hashes.push(hash);
            Vec::new()
        });
        match known.iter().find(|k| photos[**k].seen.look.same(&photo.seen.look)) {
            Some(k) => clusters.join(*k, i),
            None => known.push(i),
        }
    }
    for (a, b) in near_pairs(&hashes, RADIUS) {
        for i in &leaders[&hashes[a]] {
            for j in &leaders[&hashes[b]] {
                if photos[*i].seen.look.same(&photos[*j].seen.look) {
                    clusters.join(*i, *j);
                }
            }
        }
    }
}

/// Disjoint sets; the smallest member stands for its set.
#[derive(Clone, Debug)]
pub struct Clusters {
    parent: Vec<usize>,
    /// The sets when groups were last taken.
    taken: Vec<usize>,
}

impl Clusters {
    fn new(n: usize) -> Self {
        Self { parent: (0..n).collect(), taken: (0..n).collect() }
    }

    /// Returns the smallest member of the set of `i`.
    pub fn find(&self, mut i: usize) -> usize {
        while self.parent[i] != i {
            i = self.parent[i];
        }
        i
    }

    fn join(&mut self, i: usize, j: usize) {
        let (a, b) = (self.find(i), self.find(j));
        self.parent[a.max(b)] = a.min(b);
        // Short paths for those who ask again.
        self.parent[i] = a.min(b);
        self.parent[j] = a.min(b);
    }

    /// Returns the sets that grew since groups were last taken.
    fn take_groups(&mut self, same: Same, photos: &[Photo]) -> Vec<Group> {
        let now: Vec<usize> = (0..photos.len()).map(|i| self.find(i)).collect();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); photos.len()];
        let mut grew = vec![false; photos.len()];
        for (i, root) in now.iter().enumerate() {
            members[*root].push(i);
            grew[*root] |= self.taken[i] != *root;
        }
        self.taken = now;
        let group = |photos_of: Vec<usize>| {
            let first = &photos[photos_of[0]];
            Group {
                same,
                across: photos_of.iter().any(|i| photos[*i].split != first.split),
                labels_differ: photos_of.iter().any(|i| photos[*i].marked != first.marked),
                similarity: None,
                photos: photos_of,
            }
        };
        members.into_iter().zip(grew).filter(|(_, grew)| *grew).map(|(m, _)| group(m)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Marked, Split, inspect};
    use crate::image::RgbImage;
    use ::image::imageops::{FilterType, resize};

    fn draw(seed: u64) -> RgbImage {
        let mut rng = crate::rng::Rng::keyed(&[seed]);
        let patches = RgbImage::from_fn(9, 6, |_, _| ::image::Rgb([0; 3].map(|_: u8| rng.below(256) as u8)));
        resize(&patches, 90, 60, FilterType::CatmullRom)
    }

    #[test]
    fn each_level_finds_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let save = |name: &str, picture: &RgbImage| picture.save(dir.path().join(name)).unwrap();
        save("a.png", &draw(1));
        std::fs::copy(dir.path().join("a.png"), dir.path().join("b.png")).unwrap();
        save("c.bmp", &draw(1));
        save("d.jpg", &resize(&draw(1), 135, 90, FilterType::Triangle));
        save("e.png", &draw(4));
        save("f.png", &draw(7));
        let photo = |name: &str, split, class: &str| Photo {
            path: dir.path().join(name),
            name: name.into(),
            split: Some(split),
            marked: Marked::class(class),
            seen: inspect(&dir.path().join(name)).unwrap(),
        };
        let photos = [
            photo("a.png", Split::Train, "x"),
            photo("b.png", Split::Train, "x"),
            photo("c.bmp", Split::Val, "x"),
            photo("d.jpg", Split::Val, "y"),
            photo("e.png", Split::Train, "x"),
            photo("f.png", Split::Val, "x"),
        ];
        let (groups, clusters) = by_content(&photos);
        let short: Vec<_> =
            groups.iter().map(|g| (g.same, g.photos.clone(), g.across, g.labels_differ)).collect();
        assert_eq!(
            short,
            [
                (Same::Bytes, vec![0, 1], false, false),
                (Same::Pixels, vec![0, 1, 2], true, false),
                (Same::Look, vec![0, 1, 2, 3], true, true)
            ]
        );
        let found = by_features(&photos, clusters, &[(0, 3, 0.99), (4, 5, 0.97)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].photos.clone(), found[0].similarity), (vec![4, 5], Some(0.97)));
    }
}
