//! The tree keeps its own rules: what a reader would otherwise have to check by eye.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use settings::{NOT_YET, SETTINGS, Setting, When};

/// The floors from left to right, by the names that dependents call them, and where they are.
const FLOORS: [(&str, &str); 8] = [
    ("wire", "crates/wire"),
    ("auth", "crates/auth"),
    ("settings", "crates/config"),
    ("events", "crates/events"),
    ("net", "crates/net"),
    ("pool", "crates/pool"),
    ("admin", "crates/admin"),
    ("pgusher", "."),
];

/// What touches the world; the first three floors do not.
const WORLDLY: [&str; 5] = ["tokio", "nix", "socket2", "libc", "tracing"];

/// Settings whose effect no conversation shows yet, by the reason.
const WITHOUT_TEST: [(&str, &[&str]); 2] = [
    (
        "seen only when a peer does not answer the kernel's probes: read back beside the code",
        &["tcp_keepcnt", "tcp_keepintvl"],
    ),
    (
        "the system's own log, of which there is one: tested beside the code",
        &["syslog", "syslog_facility", "syslog_ident"],
    ),
];

/// The lines of the log whose names operators may rely on.
const EVENTS: &str = "etc/log-events.md";

#[test]
fn every_event_of_the_log_is_told_and_none_that_is_not_there() {
    let told = read(EVENTS);
    let told: BTreeSet<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(event, _)| event)
        .collect();
    let rooms = sources()
        .into_iter()
        .filter(|it| it.name().starts_with("crates"));
    let texts: Vec<String> = rooms.map(|room| room.text).collect();
    let calls = texts
        .iter()
        .flat_map(|text| text.split("tracing::").skip(1));
    let named = calls.filter_map(|call| {
        let (_, given) = call.split_once("!(")?;
        let (event, _) = given
            .trim_start()
            .strip_prefix("name: \"")?
            .split_once('"')?;
        Some(event)
    });
    assert_eq!(named.collect::<BTreeSet<_>>(), told);
}

#[test]
fn every_file_opens_with_its_purpose() {
    for source in sources() {
        // A file of tests next door is about the file that it stands beside.
        let tests = source.path.ends_with("tests.rs");
        assert!(
            tests || source.text.starts_with("//! "),
            "{}",
            source.name()
        );
    }
}

#[test]
fn a_floor_uses_only_those_to_its_left() {
    for (place, (floor, dir)) in FLOORS.into_iter().enumerate() {
        let (left, rest) = FLOORS.split_at(place);
        for used in dependencies(dir) {
            assert!(
                rest.iter().all(|(name, _)| used != *name),
                "{floor} uses {used}"
            );
            let pure = left.len() < 3;
            assert!(!pure || !WORLDLY.contains(&&*used), "{floor} uses {used}");
        }
    }
    for dir in ["crates/testkit", "benches"] {
        for used in dependencies(dir) {
            assert!(
                FLOORS.iter().all(|(name, _)| used != *name),
                "{dir} uses {used}"
            );
        }
    }
}

#[test]
fn the_workspace_lists_its_floors_from_left_to_right() {
    let manifest = read("Cargo.toml");
    let members = section(&manifest, "members = [", "]").lines();
    let members = members.filter_map(|line| line.trim().strip_prefix('"')?.split('"').next());
    let floors = FLOORS.iter().map(|(_, dir)| *dir);
    let expected: Vec<_> = floors.chain(["crates/testkit", "benches"]).collect();
    assert_eq!(members.collect::<Vec<_>>(), expected);
}

#[test]
fn the_floor_plan_names_every_room_and_no_other() {
    let plan = read("crates/README.md");
    for floor in [
        "wire", "auth", "config", "events", "net", "pool", "admin", "pgusher", "testkit",
    ] {
        let rows = section(&plan, &format!("\n### `{floor}`"), "\n#");
        let names = rows
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let planned: BTreeSet<_> = names
            .flat_map(|names| names.split(['`', ' ']))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        assert_eq!(planned, rooms(floor), "{floor}");
    }
}

/// The files and directories at the top of a crate, without their endings.
fn rooms(floor: &str) -> BTreeSet<String> {
    fs::read_dir(root().join("crates").join(floor).join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib")
        .collect()
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    for source in sources() {
        for word in words {
            assert!(!source.text.contains(word), "{}: {word}", source.name());
        }
    }
}

#[test]
fn nobodys_own_directories_are_named() {
    let places = ["/home/", "/root/", "/Users/"];
    let texts = [
        "md", "rs", "toml", "ini", "txt", "py", "js", "json", "java", "yaml", "yml", "1",
    ];
    for top in [
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        ".ci",
        ".cargo",
        "crates",
        "benches",
        "docker",
        "docs",
        "etc",
        "packaging",
        "tests",
    ] {
        for path in files(&root().join(top)) {
            let ending = path.extension().and_then(|ending| ending.to_str());
            let here = path == root().join("tests/tidy.rs");
            // What the fuzzer left is bytes.
            let corpus = path.components().any(|part| part.as_os_str() == "corpus");
            if here || corpus || !ending.is_none_or(|ending| texts.contains(&ending)) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for place in places {
                assert!(!text.contains(place), "{}: {place}", path.display());
            }
        }
    }
}

#[test]
fn commands_that_pages_name_exist() {
    let makefile = read("Makefile");
    let aliases = read(".cargo/config.toml");
    for page in [
        "README.md",
        "CHANGELOG.md",
        "crates/README.md",
        "benches/README.md",
        "docker/README.md",
        "docs/migrating-from-pgbouncer.md",
    ] {
        let text = read(page);
        for target in words_after(&text, "make ") {
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{page}: make {target}"
            );
        }
        for verb in words_after(&text, "cargo ") {
            let known = ["bench", "build", "run", "test"].contains(&verb);
            let alias = aliases.contains(&format!("\n{verb} = "));
            assert!(known || alias, "{page}: cargo {verb}");
        }
    }
}

/// The words that follow `command` where code begins: behind a backtick, or at the front of a line.
fn words_after<'a>(text: &'a str, command: &str) -> Vec<&'a str> {
    let code = text.split(['`', '\n']);
    code.filter_map(|code| code.strip_prefix(command))
        .map(|rest| rest.split([' ', '`', '\n']).next().unwrap())
        .collect()
}

#[test]
fn each_setting_leads_to_the_test_of_its_effect() {
    let page = read("tests/effects.md");
    let shown: Vec<_> = page.lines().filter_map(effect).collect();
    let excused = WITHOUT_TEST.iter().flat_map(|(_, keys)| *keys).copied();
    let keys = shown.iter().map(|effect| effect.key);
    let named: Vec<&str> = keys.chain(excused).collect();
    for key in SETTINGS.iter().map(|setting| setting.name) {
        let count = named.iter().filter(|name| **name == key).count();
        let expected = match NOT_YET.iter().find(|row| row.key == key) {
            None => 1..=1,
            Some(row) if row.acting.is_empty() => 0..=0,
            // It acts for some of its values.
            Some(_) => 0..=1,
        };
        assert!(
            expected.contains(&count),
            "{key} is named {count} times, not {expected:?}"
        );
    }
    for name in named {
        assert!(
            SETTINGS.iter().any(|setting| setting.name == name),
            "{name} is no setting"
        );
    }
    for Effect {
        key,
        test,
        by_reload,
    } in shown
    {
        let follows = Setting::named(key).unwrap().when == When::OnReload;
        assert_eq!(by_reload.is_some(), follows, "{key} by RELOAD");
        for test in [Some(test), by_reload].into_iter().flatten() {
            let (module, function) = test.rsplit_once("::").unwrap();
            let file = format!("tests/integration/{}.rs", module.replace("::", "/"));
            let is_there = read(&file).contains(&format!("async fn {function}()"));
            assert!(is_there, "{key}: {file} has no test {function}");
        }
    }
}

/// A row of the table: a setting, its test, and the one that changes it by RELOAD.
struct Effect<'a> {
    key: &'a str,
    test: &'a str,
    /// None if that takes a restart.
    by_reload: Option<&'a str>,
}

fn effect(line: &str) -> Option<Effect<'_>> {
    let row = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let (key, row) = row.split_once("` | `")?;
    let (test, by_reload) = row.split_once("` | ")?;
    let by_reload = by_reload.strip_prefix('`');
    Some(Effect {
        key,
        test,
        by_reload: by_reload.and_then(|test| test.strip_suffix('`')),
    })
}

/// For the reader, not as a gate; `cargo nextest run --test tidy --no-capture longest` shows it.
#[test]
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
fn the_longest_are_told() {
    let sources = sources();
    let by_file = sources
        .iter()
        .map(|source| (source.text.lines().count(), source.name()));
    let by_function = sources.iter().flat_map(functions);
    println!("The ten longest files:\n{}", ten_longest(by_file));
    println!("The ten longest functions:\n{}", ten_longest(by_function));
}

fn ten_longest(lengths: impl Iterator<Item = (usize, String)>) -> String {
    let mut lengths: Vec<_> = lengths.collect();
    lengths.sort_by(|a, b| b.cmp(a));
    let ten = lengths.iter().take(10);
    ten.map(|(lines, name)| format!("{lines:5}  {name}\n"))
        .collect()
}

/// The functions of a file and their lengths. Formatted code ends them where they are indented.
fn functions(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let begins = (0..lines.len()).filter_map(|at| Some((at, function_name(lines[at])?)));
    let measure = |(at, name): (usize, &str)| {
        let body = body(&lines, at)?;
        Some((body.len(), format!("{}:{} {name}", source.name(), at + 1)))
    };
    begins.filter_map(measure).collect()
}

fn body(lines: &[&str], at: usize) -> Option<Range<usize>> {
    let indent = lines[at].len() - lines[at].trim_start().len();
    let end = format!("{}}}", " ".repeat(indent));
    let more = lines[at..].iter().position(|line| *line == end)?;
    Some(at..at + more + 1)
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ');
    let modifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "async",
        "const",
        "unsafe",
    ];
    let first = words.find(|word| !modifiers.contains(word))?;
    let name = words.next().filter(|_| first == "fn")?;
    let one_liner = line.ends_with(';') || line.ends_with('}');
    name.split(['(', '<']).next().filter(|_| !one_liner)
}

/// A Rust file of the tree.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Its path from the root.
    fn name(&self) -> String {
        self.path
            .strip_prefix(root())
            .unwrap()
            .display()
            .to_string()
    }
}

fn sources() -> Vec<Source> {
    ["crates", "tests", "benches"]
        .iter()
        .flat_map(|top| files(&root().join(top)))
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path,
        })
        .collect()
}

/// The file, or all files of ours under the directory, in order.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.ends_with("node_modules"));
    paths.sort();
    paths.iter().flat_map(|path| files(path)).collect()
}

/// What a manifest names under `[dependencies]`.
fn dependencies(dir: &str) -> BTreeSet<String> {
    let manifest = read(&format!("{dir}/Cargo.toml"));
    section(&manifest, "\n[dependencies]\n", "\n[")
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// What stands between `start` and the next `end`.
fn section<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start:?}"));
    rest.split_once(end).map_or(rest, |(section, _)| section)
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
