//! The one type that holds secret bytes in memory. It has no `Display` and no `Serialize`, its `Debug` prints the type's
//! name, and its bytes are overwritten when it is dropped. Opening it is a method whose name can be searched for.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret bytes. Equality is not derived: use [`SecretValue::matches`], which takes the same time wherever the bytes differ.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Box<[u8]>>);

impl SecretValue {
    /// Takes ownership of the bytes. The caller's own copy, if there is one, is the caller's to overwrite.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Opens the secret. Each call is a place where a secret may leak, so this name is what a reviewer searches for.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Opens the secret as text; `None` when its bytes are not UTF-8.
    #[must_use]
    pub fn expose_secret_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Compares in constant time (for equal lengths; the length of a secret is not a secret).
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

#[cfg(test)]
mod tests {
    use super::SecretValue;

    #[test]
    fn debug_names_the_type_and_nothing_else() {
        assert_eq!(format!("{:?}", SecretValue::from("hunter2".to_owned())), "SecretValue");
    }

    #[test]
    fn matches_compares_bytes_and_lengths() {
        let one = SecretValue::from("abc".to_owned());
        assert!(one.matches(&SecretValue::new(*b"abc")));
        assert!(!one.matches(&SecretValue::new(*b"abd")));
        assert!(!one.matches(&SecretValue::new(*b"abcd")));
    }
}
