//! Lengths of time as people write them in manifests: `30d`, `1h 30m`, `250ms`. A day is 24 hours and a week 7 days here; months and
//! years are refused, because they have no one length.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serializer};

/// # Errors
/// When the text is not a length, is negative, or counts in months or years.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let help = "write a length such as 30d, 1h 30m or 250ms";
    let span: Span = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a length of time; {help}"))?;
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("`{text}` counts in months or years, which have no one length; {help}"))?;
    if length.is_negative() {
        return Err(format!("`{text}` is negative; {help}"));
    }
    Ok(length)
}

/// # Errors
/// As the serializer has them.
pub fn serialize<S: Serializer>(length: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{length:#}"))
}

/// # Errors
/// As [`parse`] has them.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for a length that may be absent.
pub mod optional {
    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer};

    /// # Errors
    /// As the serializer has them.
    pub fn serialize<S: Serializer>(length: &Option<SignedDuration>, serializer: S) -> Result<S::Ok, S::Error> {
        match length {
            Some(length) => super::serialize(length, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// As [`super::parse`] has them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SignedDuration>, D::Error> {
        let text = Option::<std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use jiff::SignedDuration;

    #[test]
    fn days_are_24_hours_and_months_are_refused() {
        assert_eq!(parse("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(parse("1w 1h"), Ok(SignedDuration::from_hours(169)));
        assert_eq!(parse("250ms"), Ok(SignedDuration::from_millis(250)));
        assert!(parse("1mo").is_err());
        assert!(parse("-5s").is_err());
        assert!(parse("soon").is_err());
    }
}
