//! What all pages share: a document that works offline, light or dark, on a phone or a desk.

use std::fmt::Display;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Puts a page around `body`; `title` is plain text.
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · Headstart</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
}

/// A part of a page with a heading.
pub fn section(id: &str, heading: &str, body: &str) -> String {
    format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{}</h2>\n{body}\n</section>\n",
        escape(heading)
    )
}

/// A table in a box that scrolls where the screen is narrow. Columns marked in `numbers` are right-aligned; cells are
/// HTML already.
pub fn table(header: &[&str], numbers: &[bool], rows: &[Vec<String>]) -> String {
    let class = |i: usize| if numbers[i] { " class=\"n\"" } else { "" };
    let head: String = header
        .iter()
        .enumerate()
        .map(|(i, h)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(h)))
        .collect();
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().enumerate().map(|(i, c)| match i {
            0 => format!("<th scope=\"row\"{}>{c}</th>", class(i)),
            _ => format!("<td{}>{c}</td>", class(i)),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
}

/// A list of plain texts, written as `word` says: [`escape`] or [`prose`]; nothing for none.
pub fn list(items: impl IntoIterator<Item = impl Display>, word: fn(&str) -> String) -> String {
    let items: String = items.into_iter().map(|i| format!("<li>{}</li>\n", word(&i.to_string()))).collect();
    if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") }
}

/// Something that opens on demand; `summary` is plain text.
pub fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

/// One number with its name and a remark, all plain text.
pub fn tile(value: &str, name: &str, remark: &str) -> String {
    let (value, name, remark) = (escape(value), escape(name), escape(remark));
    format!("<div class=\"tile\"><dt>{name}</dt><dd><b>{value}</b><span>{remark}</span></dd></div>\n")
}

/// Makes text safe inside HTML.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// Makes the words of a message HTML: what stands between backticks is code.
pub fn prose(text: &str) -> String {
    let text = escape(text);
    let mut html = String::new();
    let mut rest = text.as_str();
    while let Some((before, (code, after))) =
        rest.split_once('`').and_then(|(b, r)| Some((b, r.split_once('`')?)))
    {
        html += &format!("{before}<code>{code}</code>");
        rest = after;
    }
    html + rest
}

/// The last name of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A share as per cent, `–` for none.
pub fn percent(share: Option<f64>) -> String {
    share.filter(|s| s.is_finite()).map_or("–".into(), |s| format!("{:.1} %", 100.0 * s))
}

/// The day now, in UTC.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date((seconds / 86_400) as i64)
}

/// The Gregorian date of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

const STYLE: &str = "
:root{--ink:#1d1d1f;--soft:#6a6a70;--line:#e3e3e6;--paper:#fff;--card:#f6f6f8;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--bad:#b3261e;--warn:#9a6700}
@media (prefers-color-scheme:dark){:root{--ink:#ececee;--soft:#a2a2a8;--line:#3a3a3e;--paper:#161618;--card:#212124;--c0:#56b4e9;--c1:#f0924a;--c2:#3fc79f;--bad:#ff8a80;--warn:#e3b341}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1rem}
header{padding-top:2rem}
h1{font-size:1.6rem;font-weight:650;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;font-weight:650;margin:2.4rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--line)}
h3{font-size:1rem;font-weight:650;margin:1.4rem 0 .4rem}
p{margin:.4rem 0;max-width:46rem;overflow-wrap:anywhere}
nav{margin:.8rem 0 0;font-size:.9rem}nav a{margin-right:1rem;white-space:nowrap;display:inline-block}
a{color:var(--c0)}
.lead{font-size:1.25rem}.lead b{font-size:2.2rem;font-weight:650;letter-spacing:-.02em}
.soft,footer,figcaption,small{color:var(--soft)}
footer{padding:2rem 1rem;font-size:.85rem}
.alarm{border-left:4px solid var(--bad);background:var(--card);padding:.6rem .9rem;margin:1rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0}
.tile{background:var(--card);border-radius:.5rem;padding:.6rem .8rem;min-width:0;overflow-wrap:anywhere}
.tile dt{font-size:.82rem;color:var(--soft)}.tile dd{margin:0}.tile b{display:block;font-size:1.35rem;font-weight:650}.tile span{font-size:.8rem;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:1rem}
figure{margin:0}.charts figure{max-width:34rem}figcaption{font-size:.85rem}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}svg .ink{fill:var(--ink)}
svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}
svg .s0{stroke:var(--c0)}svg .s1{stroke:var(--c1)}svg .s2{stroke:var(--c2)}svg .f0{fill:var(--c0)}svg .f1{fill:var(--c1)}svg .f2{fill:var(--c2)}
svg path{fill:none;stroke-width:2;stroke-linejoin:round}svg .dash{stroke:var(--soft);stroke-dasharray:4 4;stroke-width:1.2}
.wide{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.92rem}th,td{padding:.25rem .7rem;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:550}thead th{color:var(--soft);font-size:.82rem;white-space:normal}@media (max-width:30rem){th,td{padding:.25rem .4rem}}.n{text-align:right;font-variant-numeric:tabular-nums}
td small{display:block;font-size:.76rem}
.matrix td{text-align:center;min-width:2.6rem;font-variant-numeric:tabular-nums;border:1px solid var(--paper)}.matrix thead th{vertical-align:bottom}
.photos{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.8rem;margin:.6rem 0}
@media (max-width:30rem){.photos:not(.maps){grid-template-columns:repeat(2,1fr)}}
.photos figure,.group{background:var(--card);border-radius:.5rem;padding:.5rem;overflow-wrap:anywhere}
.photos img{width:100%;height:auto;aspect-ratio:1;object-fit:contain;border-radius:.25rem;display:block;background:var(--line)}
.photos.maps{grid-template-columns:repeat(auto-fill,minmax(min(100%,14rem),1fr))}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.25rem}
figcaption b{color:var(--ink);font-weight:600}figcaption small{display:block}
.group{margin:.6rem 0}.group .photos{grid-template-columns:repeat(auto-fill,minmax(8rem,10rem))}.group .photos figure{padding:0}
pre{background:var(--card);border-radius:.5rem;padding:.8rem;overflow-x:auto;font-size:.85rem}
code{font-size:.9em;display:inline-block;max-width:100%}.hash{overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.85rem}
details{margin:.4rem 0}summary{cursor:pointer}.findings details{margin:0;font-size:.88rem;color:var(--soft);overflow-wrap:anywhere}
.serious{color:var(--bad)}.warning{color:var(--warn)}.badge{font-size:.75rem;font-weight:600;text-transform:uppercase;letter-spacing:.04em;margin-right:.4rem}
.findings{list-style:none;padding:0}.findings li{margin:.4rem 0}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        // date -u -d @$((86400 * N)) +%F
        for (day, want) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_453, "2025-12-31"), (59, "1970-03-01")]
        {
            assert_eq!(date(day), want);
        }
    }

    #[test]
    fn code_in_messages_is_code() {
        assert_eq!(prose("try `a <b>` or `c`, it`s"), "try <code>a &lt;b&gt;</code> or <code>c</code>, it`s");
        assert_eq!(prose("nothing"), "nothing");
    }

    #[test]
    fn names_cannot_break_out() {
        let page = document("<a>", &list(["</ul><script>"], prose));
        assert!(!page.contains("<script>") && page.contains("&lt;a&gt; · Headstart"));
        assert!(table(&["x"], &[true], &[]).contains("scope=\"col\" class=\"n\""));
    }
}
