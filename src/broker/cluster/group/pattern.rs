//! Regular expressions for the names of topics: the part of RE2's syntax that names can need, matched against the whole
//! name in a time that grows with its length and the pattern's, whatever the pattern.

/// Steps that a pattern may have; repetitions count as often as they repeat.
const MAX_STEPS: usize = 10_000;
/// Parentheses within parentheses.
const MAX_DEPTH: usize = 50;

#[derive(Debug)]
enum Step {
    /// One character out of ranges, or not out of them.
    One(Vec<(char, char)>, bool),
    /// Go on at either.
    Split(usize, usize),
    Jump(usize),
    /// Nothing may stand before, or after.
    Start,
    End,
}

#[derive(Debug)]
pub(super) struct Pattern(Vec<Step>);

impl Pattern {
    /// `None` if it is not a regular expression, or one that is not understood here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text, depth: 0 };
        let steps = parser.alternatives()?;
        parser.rest.is_empty().then_some(Self(steps))
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let mut at: Vec<bool> = vec![false; self.0.len() + 1];
        self.reach(&mut at, 0, true, name.is_empty());
        let mut rest = name.chars();
        while let Some(sign) = rest.next() {
            let mut next = vec![false; self.0.len() + 1];
            for step in (0..self.0.len()).filter(|step| at[*step]) {
                if let Some(Step::One(ranges, outside)) = self.0.get(step)
                    && ranges.iter().any(|(low, high)| (*low..=*high).contains(&sign)) != *outside
                {
                    self.reach(&mut next, step + 1, false, rest.as_str().is_empty());
                }
            }
            at = next;
        }
        at[self.0.len()]
    }

    /// Marks all steps that can be reached from one without a character.
    fn reach(&self, at: &mut [bool], from: usize, first: bool, last: bool) {
        let mut todo = vec![from];
        while let Some(step) = todo.pop() {
            if std::mem::replace(&mut at[step], true) {
                continue;
            }
            match self.0.get(step) {
                Some(Step::Split(one, other)) => todo.extend([*one, *other]),
                Some(Step::Jump(to)) => todo.push(*to),
                Some(Step::Start) if first => todo.push(step + 1),
                Some(Step::End) if last => todo.push(step + 1),
                Some(Step::One(..) | Step::Start | Step::End) | None => {}
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

/// Steps with all places moved.
fn moved(steps: &[Step], by: usize) -> impl Iterator<Item = Step> + '_ {
    steps.iter().map(move |step| match step {
        Step::One(ranges, outside) => Step::One(ranges.clone(), *outside),
        Step::Split(one, other) => Step::Split(one + by, other + by),
        Step::Jump(to) => Step::Jump(to + by),
        Step::Start => Step::Start,
        Step::End => Step::End,
    })
}

fn append(steps: &mut Vec<Step>, more: &[Step]) -> Option<()> {
    if steps.len() + more.len() > MAX_STEPS {
        return None;
    }
    let by = steps.len();
    steps.extend(moved(more, by));
    Some(())
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let sign = self.peek()?;
        self.rest = &self.rest[sign.len_utf8()..];
        Some(sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.rest.strip_prefix(sign).map(|rest| self.rest = rest).is_some()
    }

    fn alternatives(&mut self) -> Option<Vec<Step>> {
        let mut last = self.sequence()?;
        let mut before = Vec::new();
        while self.eat("|") {
            before.push(std::mem::replace(&mut last, self.sequence()?));
        }
        let end = before.iter().map(|steps| steps.len() + 2).sum::<usize>() + last.len();
        let mut all = Vec::new();
        for steps in before {
            all.push(Step::Split(all.len() + 1, all.len() + 2 + steps.len()));
            append(&mut all, &steps)?;
            all.push(Step::Jump(end));
        }
        append(&mut all, &last)?;
        Some(all)
    }

    fn sequence(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        while self.peek().is_some_and(|sign| !matches!(sign, '|' | ')')) {
            let one = self.one()?;
            append(&mut steps, &self.repeated(one)?)?;
        }
        Some(steps)
    }

    fn one(&mut self) -> Option<Vec<Step>> {
        let single = |step| Some(vec![step]);
        match self.take()? {
            '.' => single(Step::One(vec![('\n', '\n')], true)),
            '^' => single(Step::Start),
            '$' => single(Step::End),
            '[' => single(self.class()?),
            '(' => {
                if self.rest.starts_with('?') && !self.eat("?:") {
                    return None;
                }
                self.depth += 1;
                let steps =
                    Some(self.depth).filter(|depth| *depth <= MAX_DEPTH).and_then(|_| self.alternatives())?;
                self.depth -= 1;
                self.eat(")").then_some(steps)
            }
            '\\' => {
                let (ranges, outside) = self.escaped()?;
                single(Step::One(ranges, outside))
            }
            '*' | '+' | '?' => None,
            sign => single(Step::One(vec![(sign, sign)], false)),
        }
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Option<(Vec<(char, char)>, bool)> {
        let digits = vec![('0', '9')];
        let word = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
        let space = vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
        Some(match self.take()? {
            'd' => (digits, false),
            'D' => (digits, true),
            'w' => (word, false),
            'W' => (word, true),
            's' => (space, false),
            'S' => (space, true),
            sign if sign.is_ascii_alphanumeric() => return None,
            sign => (vec![(sign, sign)], false),
        })
    }

    fn class(&mut self) -> Option<Step> {
        let outside = self.eat("^");
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            match self.take()? {
                ']' if !first => return Some(Step::One(ranges, outside)),
                '\\' => match self.escaped()? {
                    (more, false) => ranges.extend(more),
                    _ => return None,
                },
                low => {
                    let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
                    let high = if is_range { self.take().and_then(|_| self.take())? } else { low };
                    if high < low || high == '\\' {
                        return None;
                    }
                    ranges.push((low, high));
                }
            }
            first = false;
        }
    }

    /// What was just read, as often as what follows says.
    fn repeated(&mut self, one: Vec<Step>) -> Option<Vec<Step>> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(one),
            _ => return Some(one),
        };
        self.take();
        self.eat("?"); // how eager it is makes no difference to whole names
        repeat(&one, least, most)
    }

    fn counted(&mut self, one: Vec<Step>) -> Option<Vec<Step>> {
        let (inside, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let (least, most) = match inside.split_once(',') {
            Some((least, "")) => (least.parse().ok()?, None),
            Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
            None => (inside.parse().ok()?, Some(inside.parse().ok()?)),
        };
        self.rest = rest;
        self.eat("?");
        if most.is_some_and(|most| most < least) {
            return None;
        }
        repeat(&one, least, most)
    }
}

fn repeat(one: &[Step], least: usize, most: Option<usize>) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let times = most.unwrap_or(least);
    // The bound holds before anything is built, since nothing repeated is still nothing.
    if one.len().max(1).checked_mul(times)? > MAX_STEPS {
        return None;
    }
    for _ in 0..least {
        append(&mut steps, one)?;
    }
    match most {
        None => {
            let start = steps.len();
            steps.push(Step::Split(start + 1, start + 2 + one.len()));
            append(&mut steps, one)?;
            steps.push(Step::Jump(start));
        }
        Some(most) => {
            for _ in least..most {
                let start = steps.len();
                steps.push(Step::Split(start + 1, start + 1 + one.len()));
                append(&mut steps, one)?;
            }
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        for (pattern, matching, others) in [
            ("orders", &["orders"][..], &["order", "orders2", "xorders", ""][..]),
            ("orders.*", &["orders", "orders-eu"], &["order", "my-orders"]),
            ("^(a|bc|)d?$", &["a", "bc", "ad", "bcd", "d", ""], &["abc", "b", "add"]),
            ("[a-c_.-]+", &["a", "a.b-c_"], &["", "d", "a d"]),
            ("[^x]{2,3}", &["ab", "abc"], &["a", "abcd", "axb"]),
            ("t[0-9]{3}", &["t123"], &["t12", "t1234"]),
            ("\\d+\\.\\w*", &["12.", "1.a_9"], &["12", "a.b"]),
            ("(ab)*", &["", "ab", "abab"], &["aba"]),
            ("(a*)*b", &["b", "aaab"], &["aaa"]),
            ("(?:x|y)+?", &["x", "yxy"], &["", "z"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("a{2,}", &["aa", "aaaaa"], &["a"]),
            ("a^b", &[], &["ab", "a^b"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert!(matching.iter().all(|name| parsed.matches(name)), "{pattern} {matching:?}");
            assert!(!others.iter().any(|name| parsed.matches(name)), "{pattern} {others:?}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        let deep = format!("{}{}", "(".repeat(1000), ")".repeat(1000));
        for pattern in [
            "(",
            ")",
            "[a",
            "a)",
            "*",
            "a{3",
            "a{2,1}",
            "a{99999999}",
            "(a{200}){200}",
            "[z-a]",
            "\\q",
            "(?=a)",
            &deep,
        ] {
            assert!(Pattern::parse(pattern).is_none(), "{pattern}");
        }
        assert!(Pattern::parse("(){4000000000}").is_none());
    }

    #[test]
    fn no_name_takes_long() {
        let pattern = Pattern::parse("(a*)*(a*)*(a|aa)*b").unwrap();
        assert!(!pattern.matches(&"a".repeat(249)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(pattern in "[a\\\\\\[\\](){}*+?|^$.,0-9-]{0,20}", name in "[ab]{0,8}") {
            if let Some(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&name);
            }
        }
    }
}
