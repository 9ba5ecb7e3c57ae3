//! Rust read as text: enough to tell code from comments, tests from the rest, and which modules a file names.
use std::collections::HashSet;

/// Every path in the code that starts at `crate::` or climbs with `super::`, from the root on: at most two names.
pub(crate) fn paths(code: &str, own: &[String]) -> Vec<(usize, Vec<String>)> {
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
pub(crate) fn names(code: &str, word: &str) -> bool {
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
pub(crate) fn without_comments_and_quotes(text: &str) -> String {
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
pub(crate) fn test_lines(code: &str) -> HashSet<usize> {
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
pub(crate) fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
    let mut modules = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
        let declared = pair[1].trim_start_matches("pub(crate) ").strip_prefix("mod ");
        modules
            .extend(declared.and_then(|rest| rest.strip_suffix(';')).map(|name| format!("{folder}/{name}")));
    }
    modules
}
