//! What a source file names: modules of its own crate, other crates, and the word `unsafe`.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word, and the line that it stands in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// The word.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// What a source file names. Modules called `tests` are left out: a test may use anything.
#[derive(Default, Debug)]
pub(super) struct Code {
    /// Every identifier.
    pub words: Vec<Word>,
    /// The top-level modules (or other items of the crate's root) that paths lead to.
    pub roots: Vec<Word>,
}

impl Code {
    /// Reads the source of `module`, a path below the crate's root: `["plan", "diff"]`.
    ///
    /// # Errors
    /// Text that is not made of Rust's tokens.
    pub(super) fn read(source: &str, module: &[&str]) -> Result<Self> {
        let tokens: TokenStream = source.parse().map_err(|e: proc_macro2::LexError| anyhow!("{e}"))?;
        let mut code = Self::default();
        code.walk(tokens, &mut module.iter().map(|&name| name.to_owned()).collect());
        Ok(code)
    }

    fn walk(&mut self, tokens: TokenStream, module: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((token, after)) = rest.split_first() {
            rest = after;
            match token {
                TokenTree::Group(group) => self.walk(group.stream(), module),
                TokenTree::Ident(name) if name == "mod" => {
                    if let [TokenTree::Ident(name), TokenTree::Group(body), after @ ..] = rest {
                        rest = after;
                        if name != "tests" {
                            module.push(name.to_string());
                            self.walk(body.stream(), module);
                            module.pop();
                        }
                    }
                }
                TokenTree::Ident(name) => {
                    self.words.push(word(token));
                    if name == "crate" {
                        self.path(rest);
                    } else if name == "super" {
                        self.upwards(rest, module.len());
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// A path that began with `super`, `depth` modules below the root.
    fn upwards(&mut self, mut rest: &[TokenTree], depth: usize) {
        let mut steps = 1;
        while let Some([TokenTree::Ident(name), after @ ..]) = after_colons(rest)
            && name == "super"
        {
            (rest, steps) = (after, steps + 1);
        }
        if steps == depth {
            self.path(rest);
        }
    }

    /// What follows the root of the crate in a path: a name, or names in braces.
    fn path(&mut self, rest: &[TokenTree]) {
        match after_colons(rest) {
            Some([name @ TokenTree::Ident(_), ..]) => self.roots.push(word(name)),
            Some([TokenTree::Group(group), ..]) if group.delimiter() == Delimiter::Brace => {
                let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
                let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                self.roots.extend(tokens.split(comma).filter_map(<[_]>::first).map(word));
            }
            _ => {}
        }
    }
}

fn word(token: &TokenTree) -> Word {
    Word { text: token.to_string(), line: token.span().start().line }
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), rest @ ..] if a.as_char() == ':' && b.as_char() == ':' => {
            Some(rest)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(source: &str, module: &[&str]) -> Vec<(String, usize)> {
        let code = Code::read(source, module).unwrap();
        code.roots.into_iter().map(|word| (word.text, word.line)).collect()
    }

    #[test]
    fn every_form_of_a_path_to_the_root_is_seen() {
        let expected = |names: &[(&str, usize)]| -> Vec<_> {
            names.iter().map(|(name, line)| ((*name).to_owned(), *line)).collect()
        };
        let source = "use crate::model::Key;\nuse crate::{\n plan::{Op, diff},\n self,\n};\nfn f() { crate::agent::run() }";
        assert_eq!(roots(source, &["x"]), expected(&[("model", 1), ("plan", 3), ("self", 4), ("agent", 6)]));
        assert_eq!(roots("use super::tables::T;", &["plan"]), expected(&[("tables", 1)]));
        assert_eq!(
            roots("use super::super::{ctl, bpf};", &["plan", "diff"]),
            expected(&[("ctl", 1), ("bpf", 1)])
        );
        assert_eq!(roots("mod inner { use super::super::net; }", &["plan"]), expected(&[("net", 1)]));
    }

    #[test]
    fn comments_texts_siblings_and_tests_are_not_imports() {
        let source = "// crate::agent\n/// crate::agent\npub(crate) fn f() { g(\"crate::agent\") }\n\
                      use super::sibling;\nmod tests { use crate::agent; }";
        assert_eq!(roots(source, &["plan", "diff"]), []);
    }
}
