//! Reading CSV manifests: one picture a line, columns by name.
//!
//! The file column is `file_name` (Hugging Face's `metadata.csv`), `filename`, `path`, `image` or
//! `file`, relative to the manifest; the label column is `label` or `class`; a column `split` may
//! say `train`, `val` or `test`. Fields may be quoted as in RFC 4180; commas, semicolons and tabs
//! separate. Columns nobody asks for stay readable through [`Manifest::column`].

use std::path::{Path, PathBuf};

use super::folder::{Entry, Found};
use super::split::Split;
use crate::error::{Error, Result};

pub(super) const FILE_COLUMNS: [&str; 5] = ["file_name", "filename", "path", "image", "file"];
pub(super) const LABEL_COLUMNS: [&str; 2] = ["label", "class"];

/// A CSV table with a header.
#[derive(Clone, Debug)]
pub struct Manifest {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    line: usize,
    fields: Vec<String>,
}

impl Manifest {
    /// Reads the table at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        let text = String::from_utf8(bytes).map_err(|e| Error::BadData {
            place: path.display().to_string(),
            what: format!("byte {} is not UTF-8", e.utf8_error().valid_up_to()),
            hint: "save the table as UTF-8 CSV".into(),
        })?;
        Self::parse(&text, path)
    }

    /// Reads a table from text; `path` names it in errors and anchors relative paths.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().next().unwrap_or_default();
        let separator = [',', ';', '\t'].into_iter().max_by_key(|&s| (first.matches(s).count(), s == ','));
        let mut rows = records(text, separator.expect("three were given"), path)?.into_iter();
        let bad = |line: usize, what: String, hint: &str| Error::BadData {
            place: format!("{}:{line}", path.display()),
            what,
            hint: hint.into(),
        };
        let header = rows.next().ok_or_else(|| {
            bad(
                1,
                "the table is empty".into(),
                "write a header such as `file_name,label` and a line per picture",
            )
        })?;
        let header: Vec<String> = header.fields.iter().map(|f| f.trim().to_lowercase()).collect();
        let rows: Vec<Row> = rows.collect();
        if let Some(row) = rows.iter().find(|row| row.fields.len() != header.len()) {
            let what = format!("{} fields where the header has {}", row.fields.len(), header.len());
            return Err(bad(row.line, what, "put fields that hold the separator in double quotes"));
        }
        Ok(Manifest { path: path.to_path_buf(), header, rows })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the column names, in lower case.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Returns a column's values with their line numbers, if there is such a column.
    pub fn column(&self, name: &str) -> Option<Vec<(usize, &str)>> {
        let at = self.header.iter().position(|h| h == name)?;
        Some(self.rows.iter().map(|row| (row.line, row.fields[at].trim())).collect())
    }

    /// Returns the names of the picture files as they are written, whether or not they exist.
    pub fn file_names(&self) -> Result<Vec<&str>> {
        Ok(self.first_of(&FILE_COLUMNS, "picture files")?.into_iter().map(|(_, name)| name).collect())
    }

    /// Returns the picture files with their line numbers; each must exist.
    pub fn files(&self) -> Result<Vec<(usize, PathBuf)>> {
        let column = self.first_of(&FILE_COLUMNS, "picture files")?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let file = |(line, name): (usize, &str)| {
            let path = folder.join(name);
            match path.is_file() {
                true => Ok((line, path)),
                false => Err(Error::BadData {
                    place: format!("{}:{line}", self.path.display()),
                    what: format!("the picture `{}` does not exist", path.display()),
                    hint: "paths are relative to the manifest".into(),
                }),
            }
        };
        column.into_iter().map(file).collect()
    }

    /// Returns the part each line names, if it names one.
    pub fn splits(&self) -> Result<Vec<Option<Split>>> {
        let Some(words) = self.column("split") else { return Ok(vec![None; self.rows.len()]) };
        let read = |(line, word): (usize, &str)| match word {
            "" => Ok(None),
            word => Split::of_folder(word).map(Some).ok_or_else(|| Error::BadData {
                place: format!("{}:{line}", self.path.display()),
                what: format!("`{word}` is no part of a data set"),
                hint: "write `train`, `val` or `test`".into(),
            }),
        };
        words.into_iter().map(read).collect()
    }

    /// Reads the table as pictures with one class each.
    pub fn entries(&self) -> Result<Found> {
        let labels = self.first_of(&LABEL_COLUMNS, "class names")?;
        let splits = self.splits()?;
        let mut found = Found::default();
        for (at, (line, path)) in self.files()?.into_iter().enumerate() {
            let bad = |what: String, hint: &str| Error::BadData {
                place: format!("{}:{line}", self.path.display()),
                what,
                hint: hint.into(),
            };
            let class = labels[at].1.to_string();
            if class.is_empty() {
                return Err(bad("the label is empty".into(), "name the class or remove the line"));
            }
            found.entries.push(Entry { split: splits[at], class, path });
        }
        found.entries.sort();
        if let Some(pair) = found.entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(Error::BadData {
                place: self.path.display().to_string(),
                what: format!("the picture `{}` appears twice", pair[0].path.display()),
                hint: "keep one line per picture".into(),
            });
        }
        Ok(found)
    }

    fn first_of(&self, names: &[&str], what: &str) -> Result<Vec<(usize, &str)>> {
        names.iter().find_map(|name| self.column(name)).ok_or_else(|| Error::BadData {
            place: format!("{}:1", self.path.display()),
            what: format!("no column holds the {what}; the header is `{}`", self.header.join(",")),
            hint: format!("call it `{}`", names.join("` or `")),
        })
    }
}

/// Splits CSV into records; a quoted field may hold separators, quotes (doubled) and line ends.
fn records(text: &str, separator: char, path: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut row = Row { line: 1, fields: vec![] };
    let (mut field, mut line) = (String::new(), 1);
    let mut quoted_since = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted_since.is_some() => {
                if chars.next_if_eq(&'"').is_some() {
                    field.push('"');
                } else {
                    quoted_since = None;
                }
            }
            c if quoted_since.is_some() => field.push(c),
            '"' if field.is_empty() => quoted_since = Some(line),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                row.fields.push(std::mem::take(&mut field));
                rows.push(std::mem::replace(&mut row, Row { line, fields: vec![] }));
            }
            c if c == separator => row.fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if let Some(line) = quoted_since {
        return Err(Error::BadData {
            place: format!("{}:{line}", path.display()),
            what: "a quoted field does not end".into(),
            hint: "close it with a double quote".into(),
        });
    }
    if !field.is_empty() || !row.fields.is_empty() {
        row.fields.push(field);
        rows.push(row);
    }
    rows.retain(|row| row.fields.iter().any(|f| !f.trim().is_empty()));
    Ok(rows)
}

/// Writes one CSV field, quoted where it must be.
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', ';', '\t', '"', '\n', '\r']) || text.trim() != text {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, files: &[&str]) -> (Result<Found>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|f| std::fs::write(dir.path().join(f), b"x").unwrap());
        let found = Manifest::parse(text, &dir.path().join("all.csv")).and_then(|m| m.entries());
        (found, dir)
    }

    fn complaint(text: &str, files: &[&str]) -> String {
        let (found, dir) = read(text, files);
        let error = found.unwrap_err();
        format!("{error}; {}", error.hints().join(", ")).replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn quotes_and_separators_are_understood() {
        let text = "\u{feff}Path;Class;split;note\r\n\"a;1.jpg\";\"red \"\"rose\"\"\";val;\r\n\n2.jpg;tulip;;\"x\ny\"\r\n";
        let (found, dir) = read(text, &["a;1.jpg", "2.jpg"]);
        let found = found.unwrap().entries;
        let entry =
            |split, class: &str, file| Entry { split, class: class.into(), path: dir.path().join(file) };
        assert_eq!(
            found,
            [entry(None, "tulip", "2.jpg"), entry(Some(Split::Val), "red \"rose\"", "a;1.jpg")]
        );
    }

    #[test]
    fn other_columns_stay_readable() {
        let m = Manifest::parse("image,age,label\n1.jpg,3.5,a\n", Path::new("m.csv")).unwrap();
        assert_eq!(m.column("age").unwrap(), [(2, "3.5")]);
        assert_eq!(m.header(), ["image", "age", "label"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        let all = ["1.jpg", "2.jpg"];
        for (text, want) in [
            ("", "the table is empty in `all.csv:1`"),
            (
                "file_name,kind\n1.jpg,a\n",
                "no column holds the class names; the header is `file_name,kind` in `all.csv:1`",
            ),
            ("file_name,label\n1.jpg,a\nno.jpg,b\n", "the picture `no.jpg` does not exist in `all.csv:3`"),
            ("file_name,label\n1.jpg,a,b\n", "3 fields where the header has 2 in `all.csv:2`"),
            ("file_name,label\n1.jpg,\n", "the label is empty in `all.csv:2`"),
            ("file_name,label\n1.jpg,\"a\n", "a quoted field does not end in `all.csv:2`"),
            ("file_name,label,split\n1.jpg,a,tset\n", "`tset` is no part of a data set in `all.csv:2`"),
            ("file_name,label\n1.jpg,a\n1.jpg,b\n", "the picture `1.jpg` appears twice in `all.csv`"),
        ] {
            let said = complaint(text, &all);
            assert!(said.starts_with(want), "{said}");
            assert!(said.len() > want.len() + 4, "no hint: {said}");
        }
    }

    #[test]
    fn a_written_field_is_read_back() {
        for text in ["plain", "a,b", "say \"hi\"", " edge ", "two\nlines"] {
            let m = format!("x,y\n{},1\n", field(text));
            let m = Manifest::parse(&m, Path::new("m.csv")).unwrap();
            assert_eq!(m.rows[0].fields[0], text);
        }
    }
}
