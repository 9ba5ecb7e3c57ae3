//! The house rules that a reader should not have to check: layers, length, banned calls, spawn sites, words that do not
//! belong here. Reads the sources as text, in a second. Every finding names file, line and remedy.
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// Which top-level modules each may name. All may name those of `ANYWHERE`. One direction: nothing names what stands above.
const LAYERS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("record", &["protocol"]),
    ("assignor", &[]),
    ("partitioner", &["record"]),
    ("state", &["protocol", "record", "assignor", "partitioner"]),
    ("network", &["protocol", "state"]),
    ("client", &["protocol", "state", "network"]),
    ("admin", &["protocol", "state", "client", "network"]),
    ("producer", &["protocol", "record", "partitioner", "state", "network", "client"]),
    ("consumer", &["protocol", "record", "state", "network", "client"]),
    ("request_reply", &["record", "state", "client", "producer", "consumer"]),
    ("broker", &["protocol", "record", "assignor"]),
    ("error", &["protocol"]),
    ("topic_partition", &[]),
    ("guide", &[]),
];
const ANYWHERE: &[&str] = &["error", "topic_partition"];

/// Machines under `state/` that must not know each other; what one tells another goes through a shell.
const APART: &[&str] = &["producer", "consumer", "group", "reply"];

/// Folders without clock, task, socket, channel or randomness of their own.
const PURE: &[&str] = &[
    "src/protocol/",
    "src/record/",
    "src/state/",
    "src/assignor/",
    "src/broker/cluster/",
    "src/partitioner.rs",
    "src/assignor.rs",
];

/// The only places that start tasks or threads. The command line program may start its own.
const SPAWN_SITES: &[&str] = &["src/network/task.rs", "src/broker/listener.rs", "cli/", "bench/"];

const LONGEST: usize = 500;

/// Lines of the library, tests not counted.
const LIBRARY: usize = 15_000;

const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "return an error, or recover: `unwrap_or_else(PoisonError::into_inner)` for a lock"),
    (".expect(", "return an error, or recover: `unwrap_or_else(PoisonError::into_inner)` for a lock"),
    (".unwrap_err(", "match on the result"),
    (".expect_err(", "match on the result"),
    ("panic!", "return an error; `debug_assert!` for illegal use by our own code"),
    ("todo!", "write it, or return an error that says it is unsupported"),
    ("unimplemented!", "write it, or return an error that says it is unsupported"),
    ("unreachable!", "make the case impossible by its type, or return an error"),
    ("unbounded_channel", "every queue has a bound: use a bounded channel and say why its size"),
    ("mpsc::channel()", "every queue has a bound: use a bounded channel and say why its size"),
    ("sync::Mutex as Async", "a std mutex, never held across an await"),
    ("tokio::sync::Mutex", "a std mutex, never held across an await"),
    ("tokio::sync::RwLock", "a std lock, never held across an await"),
];

const SPAWNS: &[&str] = &[
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "thread::Builder",
    "JoinSet",
    "spawn_blocking(",
    "runtime::Handle",
];

/// Not in any file: paths of one machine, and notes that belong in a tracker. (Cut in two, so that this file passes.)
const WORDS: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine: make it relative or find it at run time"),
    (concat!("/ho", "me/"), "a path of one machine: make it relative or find it at run time"),
    (concat!("/ro", "ot/"), "a path of one machine: make it relative or find it at run time"),
    (concat!("/Us", "ers/"), "a path of one machine: make it relative or find it at run time"),
    (concat!("TO", "DO"), "do it now or open an issue"),
    (concat!("FIX", "ME"), "do it now or open an issue"),
    (concat!("CONTRACT", ".md"), "say it here instead of pointing at a page that readers do not have"),
];

#[test]
fn the_sources_are_tidy() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "tests/tidy.rs reads the wrong folder");
    let interface = interface(&sources);
    let findings: Vec<String> = sources.iter().flat_map(|source| source.findings(&interface)).collect();
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn the_library_is_small() {
    let sources = sources();
    let library = sources.iter().filter(|source| source.path.starts_with("src/"));
    let lines: usize = library.map(|source| source.lines.iter().filter(|line| !line.test).count()).sum();
    println!("the library has {lines} lines without tests");
    assert!(
        lines < LIBRARY,
        "the library has {lines} lines; {LIBRARY} are enough: simplify, or move a part out"
    );
}

#[test]
fn no_text_holds_words_of_one_machine() {
    let mut findings = Vec::new();
    for path in files(Path::new(".")) {
        let Ok(text) = fs::read_to_string(&path) else { continue }; // not text
        for (number, line) in text.lines().enumerate() {
            for (word, remedy) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(format!("{path}:{}: `{word}`. {remedy}", number + 1));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let check = |path: &str, text: &str| {
        let source = Source::read(path, text, &HashSet::new());
        source.findings(&HashMap::from([("Client".to_owned(), "client".to_owned())])).join("\n")
    };
    for (path, text, part) in [
        (
            "src/record/mod.rs",
            "use crate::producer::Producer;",
            "src/record/mod.rs:1: `record` names `producer`",
        ),
        (
            "src/state/a.rs",
            "\nuse crate::{Client, error::Error};",
            "src/state/a.rs:2: `state` names `client`",
        ),
        ("src/network/b.rs", "use super::super::consumer::X;", "`network` names `consumer`"),
        ("src/broker/c.rs", "fn f() { crate::client::g() }", "`broker` names `client`"),
        ("src/state/consumer/x.rs", "use crate::state::producer::Y;", "must not know each other"),
        ("src/state/consumer/x.rs", "use super::super::producer::Y;", "must not know each other"),
        ("src/client/a.rs", "fn f() { g().unwrap() }", "`.unwrap()`"),
        ("cli/src/a.rs", "fn f() { panic!(\"\") }", "`panic!`"),
        ("src/client/a.rs", "fn f() { tokio::spawn(x) }", "`tokio::spawn`"),
        ("src/record/a.rs", "use tokio::io;", "`tokio`"),
        ("src/client/a.rs", &"\n".repeat(500), "500 lines"),
        ("src/client/a.rs", "impl A {\n    /// Waits.\n    #[inline]\n    pub async fn f() {}\n}", "cancel"),
        ("tests/a.rs", "fn f() { std::thread::sleep(x) }", "`thread::sleep`"),
    ] {
        let found = check(path, text);
        assert!(found.contains(part), "{path}: {text:?} gave {found:?}");
    }
    for (path, text) in [
        ("src/client/a.rs", "// .unwrap()\nconst A: &str = \"panic! \\\" .unwrap()\"; const B: char = '\"';"),
        ("src/client/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap() }\n}"),
        ("src/client/tests.rs", "fn f() { g().unwrap() }"),
        ("src/network/task.rs", "fn f() { tokio::spawn(x) }"),
        ("src/record/a.rs", "//! Never tokio.\nfn f<'a>(x: &'a str) {}"),
        ("src/client/a.rs", "/// Waits.\n///\n/// Cancel safe: nothing is lost.\npub async fn f() {}"),
        ("src/state/producer/a.rs", "use super::batch::X;\nuse super::super::metadata::Y;"),
    ] {
        assert_eq!(check(path, text), "", "{path}: {text:?}");
    }
}

struct Source {
    path: String,
    lines: Vec<Line>,
}

struct Line {
    number: usize,
    text: String,
    /// The line without comments and without what stands in quotes.
    code: String,
    /// Compiled for tests only.
    test: bool,
}

impl Source {
    fn read(path: &str, text: &str, test_only: &HashSet<String>) -> Self {
        let code = without_comments_and_quotes(text);
        let in_tests = test_lines(&code);
        let is_test = path.starts_with("tests/")
            || path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || test_only
                .iter()
                .any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")));
        let lines = text.lines().zip(code.lines()).enumerate().map(|(index, (text, code))| Line {
            number: index + 1,
            text: text.to_owned(),
            code: code.to_owned(),
            test: is_test || in_tests.contains(&index),
        });
        Self { path: path.to_owned(), lines: lines.collect() }
    }

    fn findings(&self, interface: &HashMap<String, String>) -> Vec<String> {
        let mut findings = Vec::new();
        if self.lines.len() >= LONGEST {
            let (path, count) = (&self.path, self.lines.len());
            findings.push(format!(
                "{path}:{count}: {count} lines, below {LONGEST} is the rule. Split it by noun"
            ));
        }
        let mut say =
            |line: &Line, what: String| findings.push(format!("{}:{}: {what}", self.path, line.number));
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| self.path.starts_with(prefix));
        let in_library = is(&["src/"]);
        for (index, line) in self.lines.iter().enumerate() {
            if line.code.contains("thread::sleep") && !is(&["tests/support/", "bench/"]) {
                say(line, "`thread::sleep`. Wait for a condition with a deadline".into());
            }
            if line.test {
                continue;
            }
            for (call, remedy) in
                BANNED.iter().filter(|(call, _)| is(&["src/", "cli/"]) && names(&line.code, call))
            {
                say(line, format!("`{call}` outside tests. {remedy}"));
            }
            for call in SPAWNS
                .iter()
                .filter(|call| !is(SPAWN_SITES) && !is(&["tests/", "benches/"]) && names(&line.code, call))
            {
                say(line, format!("`{call}`. Start it in src/network/task.rs, so that an owner ends it"));
            }
            if is(PURE) && names(&line.code, "tokio") {
                say(line, "`tokio` in a pure module. Pass time in, return events and deadlines".into());
            }
            if in_library
                && !is(&["src/broker/"])
                && line.code.trim_start().starts_with("pub async fn")
                && !self.tells_cancel_safety(index)
            {
                say(line, "a public async method must say whether it is cancel safe. Add \"Cancel safe: ..\" to its docs".into());
            }
        }
        if in_library {
            self.layers(interface, &mut say);
        }
        findings
    }

    fn tells_cancel_safety(&self, index: usize) -> bool {
        let above = self.lines[..index].iter().rev().map(|line| line.text.trim_start());
        let mut docs = above.take_while(|text| text.starts_with("///") || text.starts_with("#["));
        docs.any(|text| text.to_lowercase().contains("cancel safe"))
    }

    fn layers(&self, interface: &HashMap<String, String>, say: &mut impl FnMut(&Line, String)) {
        let own = self.module();
        let Some(top) = own.first().map(String::as_str) else { return }; // lib.rs names everything
        let Some((_, below)) = LAYERS.iter().find(|(layer, _)| *layer == top) else {
            say(&self.lines[0], format!("`{top}` is in no layer. Give it a line in LAYERS of tests/tidy.rs"));
            return;
        };
        let code: String =
            self.lines.iter().filter(|line| !line.test).map(|line| format!("{}\n", line.code)).collect();
        let numbers: Vec<&Line> = self.lines.iter().filter(|line| !line.test).collect();
        for (at, path) in paths(&code, &own) {
            let line = numbers[code[..at].matches('\n').count()];
            let Some(first) = path.first() else { continue };
            let named = interface.get(first).map_or(first.as_str(), String::as_str);
            let known = LAYERS.iter().any(|(layer, _)| *layer == named);
            if known && named != top && !below.contains(&named) && !ANYWHERE.contains(&named) {
                say(
                    line,
                    format!(
                        "`{top}` names `{named}`. It may name {}: move what it needs down, or pass it in",
                        below.join(", ")
                    ),
                );
            }
            if let ([_, mine, ..], [state, other, ..]) = (own.as_slice(), path.as_slice())
                && top == "state"
                && state == "state"
                && mine != other
                && APART.contains(&mine.as_str())
                && APART.contains(&other.as_str())
            {
                say(
                    line,
                    format!(
                        "state::{mine} and state::{other} must not know each other. Let a shell carry it over"
                    ),
                );
            }
        }
    }

    /// `src/state/consumer/mod.rs` is ["state", "consumer"].
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "mod" | "lib")).map(str::to_owned).collect()
    }
}

/// Every path in the code that starts at `crate::` or climbs with `super::`, from the root on: at most two names.
fn paths(code: &str, own: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        tree(at, &code[at + "crate::".len()..], &[], &mut found);
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue; // climbed already
        }
        let mut rest = &code[at..];
        let mut base = own.len();
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, base) = (next, base.saturating_sub(1));
        }
        tree(at, rest, &own[..base], &mut found);
    }
    found
}

/// Reads `a::b`, `{a, b::c}` or `a::{b, c}`, as deep as the layers need.
fn tree(at: usize, rest: &str, base: &[String], found: &mut Vec<(usize, Vec<String>)>) {
    if base.len() >= 2 {
        return found.push((at, base.to_vec()));
    }
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (index, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    tree(at, &group[start..index], base, found);
                    start = index + 1;
                    if char == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
    if end == 0 {
        return;
    }
    let path = [base, &[rest[..end].to_owned()]].concat();
    match rest[end..].strip_prefix("::") {
        Some(deeper) => tree(at, deeper, &path, found),
        None => found.push((at, path)),
    }
}

/// Whether the code has this word, not as the end or the start of a longer one.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    code.match_indices(word).any(|(at, _)| {
        let starts =
            !word.starts_with(char::is_alphanumeric) || !part_of_word(code[..at].chars().next_back());
        let ends =
            !word.ends_with(char::is_alphanumeric) || !part_of_word(code[at + word.len()..].chars().next());
        starts && ends
    })
}

/// Blanks out comments, strings and character literals; lines stay where they are.
fn without_comments_and_quotes(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut index = 0;
    while index < chars.len() {
        let start = index;
        match chars[index] {
            '/' if at(index + 1) == '/' => index = end_of(&chars, index, "\n").saturating_sub(1),
            '/' if at(index + 1) == '*' => index = end_of(&chars, index, "*/"),
            'r' if matches!(at(index + 1), '"' | '#')
                && !(index > 0 && (at(index - 1).is_alphanumeric() || at(index - 1) == '_')) =>
            {
                let hashes = chars[index + 1..].iter().take_while(|char| **char == '#').count();
                if at(index + 1 + hashes) == '"' {
                    index = end_of(&chars, index + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
                } else {
                    index += 1; // a raw identifier
                }
            }
            '"' => {
                index += 1;
                while index < chars.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
            }
            '\'' if at(index + 1) == '\\' => index = end_of(&chars, index + 3, "'"),
            '\'' if at(index + 2) == '\'' => index += 3,
            _ => index += 1,
        }
        let index = index.min(chars.len());
        if index == start + 1 {
            code.push(chars[start]);
        } else {
            code.extend(chars[start..index].iter().map(|char| if *char == '\n' { '\n' } else { ' ' }));
        }
    }
    code
}

fn end_of(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let rest = chars.get(from..).unwrap_or_default();
    let found = rest.windows(what.len()).position(|window| window == what);
    found.map_or(chars.len() + 1, |position| from + position + what.len())
}

/// The lines of items that carry `#[cfg(test)]`, found by their braces.
fn test_lines(code: &str) -> HashSet<usize> {
    let mut lines = HashSet::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let (mut depth, mut end) = (0, code.len());
        for (index, char) in code[at..].char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(char, '}' | ';') {
                end = at + index;
                break;
            }
        }
        let line = |at: usize| code[..at].matches('\n').count();
        lines.extend(line(at)..=line(end.min(code.len())));
    }
    lines
}

/// Modules without a body in their parent's file that carry `#[cfg(test)]`, as paths without `.rs`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = match path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix("/lib.rs")) {
        Some(folder) => folder,
        None => path.trim_end_matches(".rs"),
    };
    let mut modules = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
        let declared = pair[1].trim_start_matches("pub(crate) ").strip_prefix("mod ");
        modules
            .extend(declared.and_then(|rest| rest.strip_suffix(';')).map(|name| format!("{folder}/{name}")));
    }
    modules
}

/// The names that `lib.rs` re-exports, with the module each comes from.
fn interface(sources: &[Source]) -> HashMap<String, String> {
    let root = sources.iter().find(|source| source.path == "src/lib.rs");
    let code: String =
        root.into_iter().flat_map(|root| &root.lines).map(|line| format!("{} ", line.code)).collect();
    let mut names = HashMap::new();
    for statement in code.split(';').filter_map(|statement| statement.split("pub use ").nth(1)) {
        let module = statement.split("::").next().unwrap_or_default().trim();
        let exported = statement.split(|char: char| !char.is_alphanumeric() && char != '_');
        let types = exported.filter(|name| name.starts_with(char::is_uppercase));
        names.extend(types.map(|name| (name.to_owned(), module.to_owned())));
    }
    names
}

fn sources() -> Vec<Source> {
    let paths: Vec<String> = files(Path::new(".")).into_iter().filter(|path| path.ends_with(".rs")).collect();
    let texts: Vec<(String, String)> =
        paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    let test_only: HashSet<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    texts.iter().map(|(path, text)| Source::read(path, text, &test_only)).collect()
}

/// Every file of the project, with slashes, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if matches!(name.to_str(), Some(".git" | "target" | ".idea" | "Cargo.lock")) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.to_string_lossy().trim_start_matches("./").replace('\\', "/"));
        }
    }
    found.sort();
    found
}
