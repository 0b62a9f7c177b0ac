//! Text that fits a screen of 80 columns.

/// What a terminal has at least.
const COLUMNS: usize = 80;

/// Breaks a line at its blanks; what follows begins below what comes after `head`. A word that is too long stays whole, for
/// it is there to be copied.
pub(super) fn wrapped(head: &str, text: &str) -> String {
    let below = " ".repeat(head.chars().count());
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(head)
        .subsequent_indent(&below)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}
