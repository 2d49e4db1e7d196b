//! Pass 1: text into tokens, each with its line.

use crate::error::Problem;

/// One token of PTX.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name: opcode, register, label, symbol.
    Word(&'a str),
    /// A name that begins with a dot, without the dot: directive or modifier (`shared::cta` is one).
    Dot(&'a str),
    /// An integer literal.
    Int(u64),
    /// `0f…`: the bits of an f32.
    F32(u32),
    /// `0d…` or a decimal fraction: the bits of an f64.
    F64(u64),
    /// A quoted string, without its quotes.
    Text(&'a str),
    /// Any other character; `<<` and `>>` are `«` and `»`.
    Sign(char),
}

/// A token and the line (from 1) on which it begins.
#[derive(Clone, Debug)]
pub(crate) struct Located<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%')
}

/// Splits the whole text. Malformed literals are reported and skipped, so that one pass finds all of them.
pub(crate) fn tokenize<'a>(text: &'a str, problems: &mut Vec<Problem>) -> Vec<Located<'a>> {
    Lexer { text, bytes: text.as_bytes(), at: 0, line: 1, tokens: Vec::new(), problems }.run()
}

struct Lexer<'a, 'p> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
    tokens: Vec<Located<'a>>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Lexer<'a, '_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn run(mut self) -> Vec<Located<'a>> {
        while self.at < self.bytes.len() {
            self.step();
        }
        self.tokens
    }

    fn push(&mut self, token: Token<'a>) {
        self.tokens.push(Located { token, line: self.line });
    }

    fn problem(&mut self, what: String) {
        self.problems.push(Problem { line: self.line, what });
    }

    fn word_end(&self, from: usize) -> usize {
        self.bytes[from..].iter().position(|&c| !is_word(c)).map_or(self.bytes.len(), |n| from + n)
    }

    fn step(&mut self) {
        let c = self.peek(0);
        match c {
            b'\n' => {
                self.line += 1;
                self.at += 1;
            }
            _ if c.is_ascii_whitespace() => self.at += 1,
            b'/' if self.peek(1) == b'/' => self.skip_line(),
            // Preprocessor leftovers and line markers.
            b'#' => self.skip_line(),
            b'/' if self.peek(1) == b'*' => self.skip_comment(),
            b'"' => self.string(),
            b'.' if is_word(self.peek(1)) => {
                let mut end = self.word_end(self.at + 1);
                while self.bytes[end..].starts_with(b"::")
                    && self.bytes.get(end + 2).is_some_and(|&c| is_word(c))
                {
                    end = self.word_end(end + 2);
                }
                self.push(Token::Dot(&self.text[self.at + 1..end]));
                self.at = end;
            }
            b'0'..=b'9' => self.number(),
            _ if is_word(c) => {
                let end = self.word_end(self.at);
                self.push(Token::Word(&self.text[self.at..end]));
                self.at = end;
            }
            b'<' if self.peek(1) == b'<' => self.sign('«', 2),
            b'>' if self.peek(1) == b'>' => self.sign('»', 2),
            _ if c.is_ascii() => self.sign(c as char, 1),
            _ => {
                let other = self.text[self.at..].chars().next().unwrap_or('\u{fffd}');
                self.problem(format!("the character {other:?} has no meaning in PTX"));
                self.at += other.len_utf8();
            }
        }
    }

    fn sign(&mut self, sign: char, length: usize) {
        self.push(Token::Sign(sign));
        self.at += length;
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) {
        self.at += 2;
        while self.at < self.bytes.len() && !(self.peek(0) == b'*' && self.peek(1) == b'/') {
            self.line += u32::from(self.peek(0) == b'\n');
            self.at += 1;
        }
        self.at = (self.at + 2).min(self.bytes.len());
    }

    fn string(&mut self) {
        let start = self.at + 1;
        self.at = start;
        while self.at < self.bytes.len() && self.peek(0) != b'"' && self.peek(0) != b'\n' {
            self.at += 1;
        }
        self.push(Token::Text(&self.text[start..self.at]));
        self.at += usize::from(self.peek(0) == b'"');
    }

    fn number(&mut self) {
        let start = self.at;
        let mut end = self.word_end(start);
        let word = &self.text[start..end];
        let hex_float = |prefix: &[&str], digits| {
            prefix.iter().find_map(|p| word.strip_prefix(p)).filter(|rest| rest.len() == digits)
        };
        let token = if let Some(digits) = hex_float(&["0f", "0F"], 8) {
            u32::from_str_radix(digits, 16).ok().map(Token::F32)
        } else if let Some(digits) = hex_float(&["0d", "0D"], 16) {
            u64::from_str_radix(digits, 16).ok().map(Token::F64)
        } else if self.bytes.get(end) == Some(&b'.')
            && self.bytes.get(end + 1).is_none_or(|c| !c.is_ascii_alphabetic())
        {
            end = self.word_end(end + 1);
            let exponent_sign = self.bytes.get(end).is_some_and(|&c| c == b'-' || c == b'+');
            if exponent_sign && matches!(self.bytes[end - 1], b'e' | b'E') {
                end = self.word_end(end + 1);
            }
            self.text[start..end].parse::<f64>().ok().map(|x| Token::F64(x.to_bits()))
        } else {
            integer(word).map(Token::Int)
        };
        match token {
            Some(token) => self.push(token),
            None => self.problem(format!("`{}` is not a number", &self.text[start..end])),
        }
        self.at = end;
    }
}

/// Decimal, `0x`, `0b` or octal, with an optional `U`.
fn integer(word: &str) -> Option<u64> {
    let word = word.strip_suffix(['U', 'u']).unwrap_or(word);
    let lower = word.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(binary) = lower.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if lower.len() > 1 && lower.starts_with('0') {
        u64::from_str_radix(&lower, 8).ok()
    } else {
        lower.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut problems = Vec::new();
        let tokens = tokenize(text, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        tokens.into_iter().map(|t| t.token).collect()
    }

    #[test]
    fn modifiers_stay_whole_and_numbers_have_their_values() {
        use Token::*;
        assert_eq!(
            tokens("ld.shared::cta.f32 %f1, [a+0x10]; // no\n/* no */ 0f3F800000 1.5e-3 017 7U"),
            vec![
                Word("ld"),
                Dot("shared::cta"),
                Dot("f32"),
                Word("%f1"),
                Sign(','),
                Sign('['),
                Word("a"),
                Sign('+'),
                Int(16),
                Sign(']'),
                Sign(';'),
                F32(0x3f80_0000),
                F64(1.5e-3f64.to_bits()),
                Int(15),
                Int(7),
            ]
        );
    }
}
