//! Which files to leave out so that the serious findings about files are gone.

use std::collections::BTreeSet;

use super::duplicates::{Group, Same};
use super::{Audit, Photo};
use crate::data::Split;
use crate::image::Mode;

/// Lists files to leave out with reasons: what cannot be read, and of copies all but one.
///
/// The copy kept is the one in the most precious part (test, then validation, then training), and there the one that
/// shows most. A picture that
/// carries two labels goes altogether; two labels of pictures that are only nearly the same within a part stay, as do
/// pictures alike to the network. With `suspects` the labels to look at
/// are on the list too.
pub fn fix_list(audit: &Audit, suspects: bool) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = audit.unreadable.clone();
    for group in audit.groups.iter().filter(|g| g.same != Same::Features) {
        let exact = group.same != Same::Look;
        match (group.labels_differ, exact, group.across) {
            // Which of the labels is right, nobody knows.
            (true, true, _) => {
                for i in &group.photos {
                    rows.push((
                        audit.photos[*i].name.clone(),
                        format!("{} under two labels", group.same.words()),
                    ));
                }
            }
            // Two labels may be the point of two photos that are nearly the same.
            (true, false, false) => {}
            _ => {
                let kept = kept(group, &audit.photos);
                let name = &audit.photos[kept].name;
                for i in group.photos.iter().filter(|i| **i != kept) {
                    rows.push((
                        audit.photos[*i].name.clone(),
                        format!("copy of {name}: {}", group.same.words()),
                    ));
                }
            }
        }
    }
    let mut listed = BTreeSet::new();
    for s in audit.suspects.iter().filter(|_| suspects) {
        let photo = &audit.photos[s.photo];
        let reason =
            format!("labelled {}, looks like {} ({:.2})", photo.marked.words, s.suggested, s.confidence);
        // A photo may have several doubtful labels; the most doubtful is the first.
        if listed.insert(s.photo) {
            rows.push((photo.name.clone(), reason));
        }
    }
    rows
}

fn kept(group: &Group, photos: &[Photo]) -> usize {
    let worth = |i: &&usize| {
        let (header, part) = (&photos[**i].seen.header, photos[**i].split);
        let part = match part {
            Some(Split::Test) => 0,
            Some(Split::Val) => 1,
            Some(Split::Train) | None => 2,
        };
        // Of equals the one that shows most: in colour, then the largest, then the first by name.
        let pixels = u64::from(header.width) * u64::from(header.height);
        (part, header.mode != Mode::Rgb, std::cmp::Reverse(pixels))
    };
    *group.photos.iter().min_by_key(worth).expect("groups have members")
}
