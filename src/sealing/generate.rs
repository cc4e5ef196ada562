//! Secrets of our own choosing: drawn without bias from the alphabet that a connector names, and a wrong one of the same shape.

use zeroize::Zeroizing;

use crate::clock::Chance;
use keyfall_sdk::{SecretShape, SecretValue};

/// Why no secret was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error("the operating system gave no randomness, so no secret was drawn")]
    Draw,
    #[error("the shape names no secret: it needs a length and an alphabet of 2 to 128 different ASCII characters")]
    Shape,
}

/// Draws secrets of one shape.
#[derive(Debug, Clone, Copy)]
pub struct SecretGenerator {
    shape: SecretShape,
}

impl SecretGenerator {
    /// # Errors
    /// [`GenerateError::Shape`]: nothing can be drawn from this shape, or not evenly (a character that stands twice).
    pub fn new(shape: SecretShape) -> Result<Self, GenerateError> {
        let letters = shape.alphabet.as_bytes();
        let mut sorted = letters.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let even = shape.alphabet.is_ascii() && sorted.len() == letters.len();
        if shape.length == 0 || letters.len() < 2 || !even {
            return Err(GenerateError::Shape);
        }
        Ok(Self { shape })
    }

    /// # Errors
    /// [`GenerateError::Draw`].
    pub fn draw(&self, random: &dyn Chance) -> Result<SecretValue, GenerateError> {
        let letters = self.shape.alphabet.as_bytes();
        // A byte at or above the largest multiple of the alphabet's size is thrown away: the remainder of it would favour the first letters.
        let limit = 256 - 256 % letters.len();
        let mut secret = Zeroizing::new(Vec::with_capacity(self.shape.length));
        let mut drawn = Zeroizing::new([0_u8; 64]);
        while secret.len() < self.shape.length {
            random.fill(drawn.as_mut_slice()).map_err(|_| GenerateError::Draw)?;
            let even = drawn.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < limit);
            let wanted = self.shape.length - secret.len();
            secret.extend(even.filter_map(|byte| letters.get(byte % letters.len())).take(wanted));
        }
        Ok(SecretValue::new(secret.as_slice()))
    }

    /// The negative control: of the same shape, and certainly not `right`.
    ///
    /// # Errors
    /// [`GenerateError::Draw`].
    pub fn draw_wrong(&self, right: &SecretValue, random: &dyn Chance) -> Result<SecretValue, GenerateError> {
        loop {
            let wrong = self.draw(random)?;
            if !wrong.matches(right) {
                return Ok(wrong);
            }
        }
    }
}
