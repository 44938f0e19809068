//! Which subjects are legal, and which a subscription takes in. The same rules on every bus.

use crate::SUBJECT_BYTES;

/// Whether a message can be published on it: whole tokens without wildcards, spaces or control characters.
pub(crate) fn publishable(subject: &str) -> bool {
    legal(subject) && !subject.contains(['*', '>'])
}

/// Whether it can be subscribed to: as [`publishable`], with `*` as a whole token and `>` as the whole last one.
pub(crate) fn subscribable(subject: &str) -> bool {
    let mut tokens = subject.split('.').peekable();
    legal(subject)
        && std::iter::from_fn(|| tokens.next().map(|token| (token, tokens.peek().is_none()))).all(
            |(token, last)| match token {
                "*" => true,
                ">" => last,
                word => !word.contains(['*', '>']),
            },
        )
}

/// Whether it can name a queue.
pub(crate) fn queueable(queue: &str) -> bool {
    legal(queue) && !queue.contains(['*', '>', '.'])
}

/// Whether it has `*` or `>`.
pub(crate) fn is_pattern(subject: &str) -> bool {
    subject.contains(['*', '>'])
}

/// Whether a subscription takes a subject in. Both must be legal.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (word, Some(token)) if word == token => {}
            (_, Some(_)) => return false,
        }
    }
    tokens.next().is_none()
}

fn legal(subject: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    subject.len() <= SUBJECT_BYTES && !subject.contains(odd) && !subject.split('.').any(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_one_token_and_an_arrow_the_rest() {
        for (pattern, subject, taken) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), taken, "{pattern} {subject}");
        }
    }

    #[test]
    fn only_whole_plain_tokens_can_be_published_on() {
        for subject in ["", ".", "a.", ".a", "a..b", "a b", "a\nb", "a\u{1}", "a.*", "a.>", "a*b"] {
            assert!(!publishable(subject), "{subject:?}");
        }
        assert!(publishable(&"a".repeat(SUBJECT_BYTES)));
        assert!(!publishable(&"a".repeat(SUBJECT_BYTES + 1)));
    }

    #[test]
    fn wildcards_are_whole_tokens() {
        for subject in ["a.b", "a.*.c", "*", ">", "a.*.>"] {
            assert!(subscribable(subject), "{subject}");
        }
        for subject in ["", "a.>.b", "a*", "a.b>", "a..*", "a .*"] {
            assert!(!subscribable(subject), "{subject}");
        }
    }
}
