//! The heading of a grid's column: the field's name as a sentence.

/// `userId` is "User id", `client_name` is "Client name".
pub fn title(field: &str) -> String {
    let mut words = String::with_capacity(field.len() + 4);
    let mut before: Option<char> = None;
    for c in field.chars() {
        let begins = c.is_uppercase() && before.is_some_and(|b| b.is_lowercase() || b.is_numeric());
        let is_part = c.is_alphanumeric();
        if (begins || !is_part) && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        if is_part {
            match words.is_empty() {
                true => words.extend(c.to_uppercase()),
                false => words.extend(c.to_lowercase()),
            }
        }
        before = Some(c);
    }
    words.truncate(words.trim_end().len());
    if words.is_empty() { field.to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_sentences() {
        for (field, expected) in [
            ("userId", "User id"),
            ("client_name", "Client name"),
            ("name", "Name"),
            ("a-b c", "A b c"),
            ("URL", "Url"),
            ("address2Line", "Address2 line"),
            ("été", "Été"),
            ("__", "__"),
            ("", ""),
        ] {
            assert_eq!(title(field), expected, "{field}");
        }
    }
}
