//! The known word that a mistyped one most looks like.

/// Below this likeness a suggestion confuses more than it helps.
const LIKENESS_MIN: f64 = 0.84;

/// Returns the word of `known` that `word` most looks like, if any does.
pub(crate) fn nearest(
    word: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&word, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
