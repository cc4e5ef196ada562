//! The portable texts as PostgreSQL reads them.

/// `$name` becomes `$1`, `$2`, … by first appearance, and what stands in `/*!…*/` is no comment here.
pub(in crate::store) fn translated(text: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part
            .find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        out.push('$');
        out.push_str(&(place + 1).to_string());
        out.push_str(rest);
    }
    out.replace("/*!", "").replace("*/", "")
}

/// The rows that are read are nobody else's to change. Weaker than `for update`, which would also hold up who only refers to a row.
pub(super) fn locking(text: &str) -> String {
    let mut text = translated(text);
    text.push_str(" for no key update");
    text
}

#[cfg(test)]
mod tests {
    use super::{locking, translated};

    #[test]
    fn names_become_numbers_by_first_appearance() {
        assert_eq!(
            translated("select $b, $a where x = $b and $a_1 > 0 limit $a/*! for update*/"),
            "select $1, $2 where x = $1 and $3 > 0 limit $2 for update"
        );
        assert_eq!(locking("select 1"), "select 1 for no key update");
    }
}
