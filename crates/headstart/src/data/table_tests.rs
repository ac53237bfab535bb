//! Tests of manifests with labels and numbers: what is recognised, and every way it can be wrong.

use std::path::PathBuf;

use super::classes::Classes;
use super::dataset::Dataset;
use super::split::{Split, SplitConfig};
use crate::error::Result;
use crate::task::{Task, TaskSpec};

/// A folder with pictures `0.jpg` to `39.jpg` and `all.csv`.
struct Place(tempfile::TempDir);

impl Place {
    fn new(csv: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        (0..40).for_each(|i| std::fs::write(dir.path().join(format!("{i}.jpg")), b"x").unwrap());
        std::fs::write(dir.path().join("all.csv"), csv).unwrap();
        Self(dir)
    }

    fn csv(&self) -> PathBuf {
        self.0.path().join("all.csv")
    }
}

fn spec(task: Option<Task>, columns: &[&str]) -> TaskSpec {
    TaskSpec { task, columns: columns.iter().map(|c| c.to_string()).collect() }
}

fn open(csv: &str, spec: &TaskSpec) -> Result<Dataset> {
    let place = Place::new(csv);
    Dataset::open_as(place.csv(), &SplitConfig::default(), spec)
}

fn rows(data: &Dataset, split: Split) -> Vec<Vec<f64>> {
    data.part(split).iter().map(|s| data.rows[s.label].clone()).collect()
}

#[test]
fn the_columns_decide_the_task() {
    let auto = spec(None, &[]);
    let tags =
        "file_name,labels,split\n0.jpg,red|tall,train\n1.jpg,,train\n2.jpg, tall ,val\n3.jpg,red|red,train\n";
    let data = open(tags, &auto).unwrap();
    assert_eq!(
        (data.task, data.classes.names()),
        (Task::Multilabel, &["red".to_string(), "tall".into()][..])
    );
    assert_eq!(rows(&data, Split::Train), [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]);
    assert_eq!(
        (rows(&data, Split::Val), data.class_counts(Split::Train)),
        (vec![vec![0.0, 1.0]], vec![2, 1])
    );

    let hot = "file_name,tall,red,split\n0.jpg,1,0,train\n1.jpg,0,true,train\n2.jpg,1.0,1,val\n";
    let data = open(hot, &auto).unwrap();
    assert_eq!(
        (data.task, data.classes.names()),
        (Task::Multilabel, &["tall".to_string(), "red".into()][..])
    );
    assert_eq!(rows(&data, Split::Val), [[1.0, 1.0]]);

    let numbers = "file_name,age,weight,split\n0.jpg,1,-2e1,train\n1.jpg,3,5,train\n2.jpg,0,1,val\n";
    let data = open(numbers, &auto).unwrap();
    assert_eq!(
        (data.task, rows(&data, Split::Train)),
        (Task::Regress, vec![vec![1.0, -20.0], vec![3.0, 5.0]])
    );
    let scales = data.scales();
    assert_eq!((scales[0].mean, scales[0].std, scales[1].std), (2.0, 1.0, 12.5));
    let truth = data.truth(Split::Val, &scales);
    assert_eq!(truth.goal(&[0])[0], -2.0);
    assert_eq!(data.notes, ["the columns `age`, `weight` are learned; `--targets` chooses others"]);
    // A line count without a name, as some programs write it, is no target.
    let counted = open(",file_name,age\n0,0.jpg,1\n1,1.jpg,3\n2,2.jpg,4\n", &auto).unwrap();
    assert_eq!(counted.classes.names(), ["age"]);
    // Some of the columns.
    let one = open(numbers, &spec(None, &["Weight"])).unwrap();
    assert_eq!((one.classes.names(), rows(&one, Split::Val)), (&["weight".to_string()][..], vec![vec![1.0]]));

    for (csv, task) in [
        ("file_name,label\n0.jpg,0.5\n1.jpg,2\n2.jpg,3\n", Task::Regress),
        ("file_name,label\n0.jpg,5\n1.jpg,2\n2.jpg,2\n3.jpg,5\n", Task::Classify),
        ("image_name,tags\n0.jpg,haze water\n1.jpg,\n", Task::Multilabel),
    ] {
        let data = open(&csv.replace("image_name", "path"), &auto).unwrap();
        assert_eq!(data.task, task, "{csv}");
    }
    let forced =
        open("file_name,label\n0.jpg,5\n1.jpg,2\n2.jpg,3\n", &spec(Some(Task::Regress), &[])).unwrap();
    assert_eq!(forced.task, Task::Regress);
    let forced =
        open("file_name,label\n0.jpg,a;b\n1.jpg,a\n2.jpg,b\n", &spec(Some(Task::Multilabel), &[])).unwrap();
    assert_eq!((forced.task, forced.classes.len()), (Task::Multilabel, 2));
}

#[test]
fn bad_cells_are_named_with_line_and_column() {
    let auto = spec(None, &[]);
    let many: String = (2..30).map(|i| format!("{i}.jpg,1,0\n")).collect();
    for (csv, spec, want) in [
        (
            "file_name,age\n0.jpg,1\n1.jpg,old\n2.jpg,3\n".into(),
            &auto,
            "`old` in column `age` is not a number in `all.csv:3`",
        ),
        (
            "file_name,age\n0.jpg,1\n1.jpg,NaN\n2.jpg,3\n".into(),
            &auto,
            "`NaN` in column `age` is not finite in `all.csv:3`",
        ),
        ("file_name,age\n0.jpg,1\n1.jpg,\n2.jpg,3\n".into(), &auto, "column `age` is empty in `all.csv:3`"),
        (
            format!("file_name,red,tall\n0.jpg,1,0\n1.jpg,1,2\n{many}"),
            &auto,
            "`2` in column `tall` is neither 0 nor 1 in `all.csv:3`",
        ),
        (
            "file_name,age\n0.jpg,7\n1.jpg,7\n2.jpg,7\n".into(),
            &auto,
            "column `age` is 7 for every training picture in `all.csv`",
        ),
        (
            "file_name,labels,split\n0.jpg,a,train\n1.jpg,b,val\n".into(),
            &auto,
            "the label `b` in column `labels` is on no training picture in `all.csv:3`",
        ),
        (
            "file_name,age\n0.jpg,1\n1.jpg,2\n".into(),
            &spec(None, &["size"]),
            "no column is called `size` in `all.csv:1`",
        ),
        (
            "file_name,age\n0.jpg,1\n0.jpg,2\n".into(),
            &auto,
            "the picture `0.jpg` appears twice in `all.csv:3`",
        ),
        ("file_name,age,split\n0.jpg,1,val\n1.jpg,2,test\n".into(), &auto, "no training part in `all.csv`"),
        ("file_name,note\n0.jpg,x\n".into(), &auto, "no column holds the class names"),
        (
            "file_name\n0.jpg\n".into(),
            &spec(Some(Task::Regress), &[]),
            "no column holds numbers in `all.csv:1`",
        ),
    ] as [(String, &TaskSpec, &str); 11]
    {
        let place = Place::new(&csv);
        let error = Dataset::open_as(place.csv(), &SplitConfig::default(), spec).unwrap_err();
        let said = error.to_string().replace(&format!("{}/", place.0.path().display()), "");
        assert!(said.starts_with(want), "{said}");
        assert!(!error.hints().is_empty(), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Dataset::open_as(folder.path(), &SplitConfig::default(), &spec(Some(Task::Regress), &[]));
    assert!(error.unwrap_err().to_string().starts_with("folders say one class a picture"));
}

#[test]
fn divisions_are_fair_to_rare_labels_and_to_the_range() {
    let tags: String =
        (0..40).map(|i| format!("{i}.jpg,{}\n", if i % 8 == 0 { "all|rare" } else { "all" })).collect();
    let data = open(&format!("file_name,labels\n{tags}"), &spec(None, &[])).unwrap();
    assert_eq!((data.class_counts(Split::Val), data.val.len()), (vec![8, 1], 8));
    assert!(data.notes.iter().any(|n| n == "every training picture has `all`"), "{:?}", data.notes);
    let numbers: String = (0..40).map(|i| format!("{i}.jpg,{}\n", i * i)).collect();
    let data = open(&format!("file_name,size\n{numbers}"), &spec(None, &[])).unwrap();
    let mut places: Vec<usize> = rows(&data, Split::Val).iter().map(|r| r[0].sqrt() as usize / 10).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 0, 1, 1, 2, 2, 3, 3]);
    let again = open(&format!("file_name,size\n{numbers}"), &spec(None, &[])).unwrap();
    assert_eq!(rows(&data, Split::Val), rows(&again, Split::Val));
}

#[test]
fn a_trained_network_s_names_decide() {
    let names = |n: &[&str]| Classes::ordered(n.iter().map(|s| s.to_string()).collect()).unwrap();
    let place = Place::new("file_name,red,tall,note\n0.jpg,1,0,x\n1.jpg,0,1,y\n");
    let data = Dataset::open_for(place.csv(), Task::Multilabel, &names(&["tall", "red"])).unwrap();
    assert_eq!(rows(&data, Split::Val), [[0.0, 1.0], [1.0, 0.0]]);
    let place = Place::new("file_name,labels\n0.jpg,red|blue\n");
    let error = Dataset::open_for(place.csv(), Task::Multilabel, &names(&["tall", "red"])).unwrap_err();
    assert!(error.to_string().starts_with("the label `blue` in column `labels` is not among"), "{error}");
    let place = Place::new("file_name,weight,age\n0.jpg,3,4\n");
    let data = Dataset::open_for(place.csv(), Task::Regress, &names(&["age"])).unwrap();
    assert_eq!(rows(&data, Split::Val), [[4.0]]);
    let digest = |csv: &str| {
        let place = Place::new(csv);
        Dataset::open_for(place.csv(), Task::Regress, &names(&["age"])).unwrap().digest().unwrap()
    };
    assert_ne!(digest("file_name,age\n0.jpg,3\n"), digest("file_name,age\n0.jpg,4\n"));
}
