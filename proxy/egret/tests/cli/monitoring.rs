//! What `dist` says of the metrics against what a running egret exposes: the list of them, the
//! dashboard and the alert rules. `EGRET_UPDATE_METRICS=1` writes the list.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

use super::metrics::Watched;

const UPDATE: &str = "EGRET_UPDATE_METRICS";

/// Labels whose values are not ours to list: the ends of buckets, and what is in force.
const OPEN: [&str; 3] = ["le", "revision", "version"];

/// More values than this are listed below the table.
const SHORT: usize = 12;

/// One family of metrics, as it is exposed in the text format 0.0.4.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// The values of each label, in the order in which they are exposed.
    labels: BTreeMap<String, Vec<String>>,
}

/// Reads an exposition, and requires of each line that it can be read in one way.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let family = Family { help: help.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} is there twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            families.get_mut(name).expect("help comes first").kind = kind.to_owned();
        } else {
            let (series, figure) = line.rsplit_once(' ').unwrap();
            assert!(figure.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} is there twice");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let family = families.get_mut(family_of(name)).unwrap_or_else(|| panic!("{line}"));
            for (label, value) in labels_of(labels) {
                let values = family.labels.entry(label).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    families
}

/// The family of a sample: a histogram has three kinds of them.
fn family_of(sample: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| sample.strip_suffix(suffix))
        .unwrap_or(sample)
}

fn labels_of(text: &str) -> Vec<(String, String)> {
    let text = text.strip_suffix('}').unwrap();
    let labels = text.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once('=').unwrap();
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        assert!(value.chars().all(plain), "a value that is not a word of ours: {label}");
        (name.to_owned(), value.to_owned())
    });
    labels.collect()
}

/// The list, as it stands in `dist/METRICS.md`.
fn list(families: &BTreeMap<String, Family>) -> String {
    let mut text = String::from(
        "# Metrics\n\nWhat `[metrics]` exposes at `/metrics`. Every label is a closed set: no host, \
         worker, path or address is ever one, so traffic cannot add a series. Times are in seconds, \
         sizes in bytes. A test compares this page with what a running egret exposes, on Linux; \
         where there is no `/proc`, memory and descriptors are absent.\n\n\
         | metric | kind | says | labels |\n|---|---|---|---|\n",
    );
    let mut long = String::from(
        "\n## Reasons\n\nThe codes that workers and records get. Of `egret_requests_total`, `allow` has \
         `egress.allowed`, `would_deny` what no rule matched, and `deny` all but the first.\n",
    );
    for (name, Family { kind, help, labels }) in families {
        let labels = labels.iter().filter(|(label, _)| *label != "le").map(|(label, values)| {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            if OPEN.contains(&label.as_str()) {
                format!("`{label}`")
            } else if values.len() > SHORT {
                long.push_str(&format!("\n`{name}`: {}.\n", values.join(", ")));
                format!("`{label}`: see below")
            } else {
                format!("`{label}`: {}", values.join(", "))
            }
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        text.push_str(&format!("| `{name}` | {kind} | {help} | {labels} |\n"));
    }
    text + &long
}

fn dist(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(dist(file)).unwrap()
}

/// The names of samples that a query speaks of.
fn names(query: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = query.split(|c| !word(c)).filter(|name| name.starts_with("egret_"));
    names.map(str::to_owned).collect()
}

/// Requires that a running egret exposes every sample that a query speaks of.
#[track_caller]
fn exposed(families: &BTreeMap<String, Family>, query: &str) {
    for name in names(query) {
        // A histogram is asked for by its samples, everything else by its name.
        let found = families.get(&name).filter(|family| family.kind != "histogram");
        let parts = || families.get(family_of(&name)).filter(|family| family.kind == "histogram");
        let found = found.or_else(parts);
        let found = found.unwrap_or_else(|| panic!("{name} is not exposed: {query}"));
        // What is asked of a label must be a value that it has.
        for (label, values) in
            found.labels.iter().filter(|(label, _)| !OPEN.contains(&label.as_str()))
        {
            for asked in asked_of(query, label) {
                let elsewhere = families.values().filter_map(|family| family.labels.get(label));
                let known: Vec<_> = values.iter().chain(elsewhere.flatten()).collect();
                let fits = asked.split('|').all(|value| known.iter().any(|has| *has == value));
                assert!(fits, "{label} is never {asked}: {query}");
            }
        }
    }
}

/// The values that a query compares a label with.
fn asked_of<'q>(query: &'q str, label: &str) -> Vec<&'q str> {
    let after = query.match_indices(label).map(|(at, _)| &query[at + label.len()..]);
    let values = after.filter_map(|rest| {
        let (operator, rest) = rest.split_once('"')?;
        ["=", "!=", "=~", "!~"].contains(&operator).then(|| rest.split('"').next().unwrap())
    });
    values.collect()
}

#[test]
fn the_list_is_what_a_running_egret_exposes() {
    let families = families(&Watched::ready().figures());
    for (name, family) in &families {
        assert!(name.starts_with("egret_"), "{name}");
        assert!(!family.kind.is_empty() && family.help.len() > 10, "{name}: {family:?}");
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
    }
    let list = list(&families);
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(dist("METRICS.md"), &list).unwrap();
    }
    assert_eq!(read("METRICS.md"), list, "{UPDATE}=1 writes it");
}

#[test]
fn the_dashboard_asks_for_what_is_exposed() {
    let families = families(&Watched::ready().figures());
    let dashboard: Value = serde_json::from_str(&read("grafana/egret.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice: {panel}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{place}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            assert!(!names(query).is_empty(), "{query}");
            exposed(&families, query);
            assert!(query.contains("instance=~\"$instance\""), "for all instances: {query}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{query}");
        }
    }
    let everything: String = dashboard.to_string();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let name = format!("${}", variable["name"].as_str().unwrap());
        let braced = name.replacen('$', "${", 1) + "}";
        assert!(everything.contains(&name) || everything.contains(&braced), "{name} is not used");
    }
    for query in ["annotations", "templating"].map(|part| dashboard[part].to_string()) {
        exposed(&families, &query.replace("\\\"", "\""));
    }
}

#[test]
fn the_alert_rules_ask_for_what_is_exposed() {
    let families = families(&Watched::ready().figures());
    let rules = yaml(&read("prometheus/egret.rules.yml"));
    let mut alerts = BTreeSet::new();
    for group in rules["groups"].as_array().unwrap() {
        assert!(group["name"].as_str().unwrap().starts_with("egret."), "{group}");
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(alerts.insert(name.to_owned()), "{name} is there twice");
            let query = rule["expr"].as_str().unwrap();
            exposed(&families, query);
            assert!(!names(query).is_empty() || query.starts_with("up{"), "{query}");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
            let summary = rule["annotations"]["summary"].as_str().unwrap();
            assert!(!summary.is_empty(), "{name}");
            for key in rule.as_object().unwrap().keys() {
                let known = ["alert", "expr", "for", "labels", "annotations"];
                assert!(known.contains(&key.as_str()), "{name} has {key}");
            }
        }
    }
    assert!(alerts.len() > 10, "{alerts:?}");
}

/// Reads YAML of mappings, lists and texts, without anchors.
fn yaml(text: &str) -> Value {
    /// What has begun, and the key that waits for its value.
    type Open = (Value, Option<String>);
    let mut open: Vec<Open> = vec![(Value::Array(vec![]), None)];
    for event in Parser::new_from_str(text) {
        let (event, place) = event.unwrap();
        let done = match event {
            Event::MappingStart(..) => {
                open.push((Value::Object(Map::new()), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push((Value::Array(vec![]), None));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => open.pop().unwrap().0,
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::Alias(_) => panic!("an alias at {place:?}"),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        let (into, key) = open.last_mut().unwrap();
        match (into, key.take()) {
            (Value::Array(list), _) => list.push(done),
            (Value::Object(map), Some(key)) => {
                assert!(map.insert(key, done).is_none(), "a key is there twice at {place:?}");
            }
            (Value::Object(_), None) => *key = Some(done.as_str().unwrap().to_owned()),
            (other, _) => panic!("{other} is not open"),
        }
    }
    open.pop().unwrap().0[0].take()
}
