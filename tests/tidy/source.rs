//! One Rust file, as far as the rules need to understand it: which text is code, which code is a test, which paths it
//! names. It is a scanner, not a parser: it must be right about comments, strings and braces, and nothing else.

/// A file with three views of the same lines: as written, without comments and literals, and without tests as well.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Comments and the contents of literals are blanks; line numbers stay.
    pub(crate) code: String,
    /// `code` in which everything under `#[cfg(test)]` is blank too; empty for a file of tests.
    pub(crate) product: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let product = if is_test_file(path) {
            blank(&code)
        } else {
            blank_tests(&code)
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            product,
        }
    }

    /// `code` without what is in `product`: only what is compiled for tests.
    pub(crate) fn tests(&self) -> String {
        self.code
            .chars()
            .zip(self.product.chars())
            .map(|(code, product)| if product == code && code != '\n' { ' ' } else { code })
            .collect()
    }

    /// A complaint about a line, counted from 1.
    pub(crate) fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// A file that is only ever compiled for tests.
pub(crate) fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let folders = path.strip_suffix(name).unwrap_or_default();
    let is_harness = path.starts_with("src/faults/");
    is_harness || name == "tests.rs" || name.ends_with("_tests.rs") || format!("/{folders}").contains("/tests/")
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { ' ' }).collect()
}

/// The lines (from 1) in which `needle` stands as a whole word or path.
pub(crate) fn lines_with(text: &str, needle: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, needle))
        .map(|(index, _)| index + 1)
        .collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `needle` stands in `line` and is not a part of a longer word on a side where it ends in a letter.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let opens = needle.starts_with(is_word) && before.is_some_and(is_word);
        let closes = needle.ends_with(is_word) && after.is_some_and(is_word);
        !opens && !closes
    })
}

fn blank_comments_and_literals(text: &str) -> String {
    let mut scanner = Scanner {
        rest: text,
        out: String::with_capacity(text.len()),
    };
    while let Some(next) = scanner.rest.chars().next() {
        let before = scanner.out.chars().next_back();
        let starts_word = !before.is_some_and(is_word);
        if scanner.rest.starts_with("//") {
            scanner.hide_until("\n", false);
        } else if scanner.rest.starts_with("/*") {
            scanner.hide_block_comment();
        } else if starts_word && raw_string_hashes(scanner.rest).is_some() {
            scanner.hide_raw_string();
        } else if next == '"' {
            scanner.hide_string();
        } else if next == '\'' {
            scanner.hide_char_or_keep_lifetime();
        } else {
            scanner.keep(next.len_utf8());
        }
    }
    scanner.out
}

/// The number of `#` of the raw string that `rest` begins with.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let rest = rest
        .strip_prefix('b')
        .or_else(|| rest.strip_prefix('c'))
        .unwrap_or(rest);
    let rest = rest.strip_prefix('r')?;
    let hashes = rest.chars().take_while(|&c| c == '#').count();
    rest.chars().nth(hashes).filter(|&c| c == '"').map(|_| hashes)
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
}

impl Scanner<'_> {
    fn keep(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn hide(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.out.push_str(&blank(taken));
        self.rest = rest;
    }

    fn hide_until(&mut self, end: &str, inclusive: bool) {
        let found = self.rest.find(end);
        let length = found.map(|at| if inclusive { at + end.len() } else { at });
        self.hide(length.unwrap_or(self.rest.len()));
    }

    fn hide_block_comment(&mut self) {
        let mut depth = 0;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.hide(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.hide(2);
            } else {
                let Some(next) = self.rest.chars().next() else { return };
                self.hide(next.len_utf8());
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn hide_raw_string(&mut self) {
        let hashes = raw_string_hashes(self.rest).unwrap_or_default();
        let open = self.rest.find('"').map_or(self.rest.len(), |at| at + 1);
        self.hide(open);
        self.hide_until(&format!("\"{}", "#".repeat(hashes)), true);
    }

    fn hide_string(&mut self) {
        self.hide(1);
        while let Some(next) = self.rest.chars().next() {
            let escaped = if next == '\\' {
                self.rest.chars().nth(1).map_or(0, char::len_utf8)
            } else {
                0
            };
            self.hide(next.len_utf8() + escaped);
            if next == '"' {
                return;
            }
        }
    }

    fn hide_char_or_keep_lifetime(&mut self) {
        let mut next = self.rest.chars().skip(1);
        match (next.next(), next.next()) {
            (Some('\\'), Some(escaped)) => {
                self.hide(2 + escaped.len_utf8());
                self.hide_until("'", true);
            }
            (Some(single), Some('\'')) => self.hide(2 + single.len_utf8()),
            _ => self.keep(1),
        }
    }
}

/// Blanks every item that `#[cfg(test)]` stands before: up to its closing brace, or its semicolon.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, item) = rest.split_at(at);
        out.push_str(before);
        let end = item_end(item);
        let (test, after) = item.split_at(end);
        out.push_str(&blank(test));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}
