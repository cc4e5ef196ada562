//! The known word that a wrong one is most like, so that an error can name what was meant. It knows no words of its own.

/// Changes of one letter, or of two beside each other, that still make a word a slip of another; at most half of a short one.
const FARTHEST: usize = 3;

/// The known word that is near enough to have been meant; upper and lower case count as the same letter.
#[must_use]
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&given, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= FARTHEST.min(word.chars().count() / 2))
        .min()
        .map(|(_, word)| word)
}

/// `, did you mean …` where a known word is near enough, and nothing otherwise.
#[must_use]
pub fn did_you_mean<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(given, known).map_or_else(String::new, |word| format!(", did you mean `{word}`?"))
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, nearest};

    #[test]
    fn the_nearest_word_is_named_and_what_is_far_off_is_not() {
        let known = ["owner", "expires", "environment", "id"];
        assert_eq!(nearest("ownr", known), Some("owner"));
        assert_eq!(nearest("Expires", known), Some("expires"));
        assert_eq!(nearest("enviromnent", known), Some("environment"));
        assert_eq!(nearest("password", known), None);
        assert_eq!(nearest("name", ["mode"]), None, "three letters of four would be others");
        assert_eq!(did_you_mean("ownr", known), ", did you mean `owner`?");
        assert_eq!(did_you_mean("password", known), "");
    }
}
