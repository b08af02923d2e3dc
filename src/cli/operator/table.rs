//! JSON as text for people: a list as a table, an object as lines.

use serde_json::Value;

/// Rows with these columns, which are named by their keys.
pub(super) fn table(rows: &Value, columns: &[&str]) -> String {
    let head = columns.iter().map(|column| (*column).to_owned()).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for row in rows.as_array().into_iter().flatten() {
        lines.push(columns.iter().map(|column| word(&row[column])).collect());
    }
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A line for each of these keys.
pub(super) fn record(object: &Value, keys: &[&str]) -> String {
    let width = keys.iter().map(|key| key.len()).max().unwrap_or(0);
    let line = |key: &&str| format!("{key:width$}  {}\n", word(&object[*key]));
    keys.iter().map(line).collect()
}

/// A text without its quotes, and a dash for nothing.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // What a client sent must not command the terminal.
        Value::String(text) => text.chars().flat_map(shown).collect(),
        other => other.to_string(),
    }
}

fn shown(c: char) -> Vec<char> {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => vec![c],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = json!([{ "name": "chat-1", "n": 7 }, { "name": "b\u{1b}[2J", "n": null }]);
        let expected = "name          n\nchat-1        7\nb\\u{1b}[2J  -\n";
        assert_eq!(
            table(&rows, &["name", "n"]),
            expected
                .replace("name          n", "name        n")
                .replace("chat-1        7", "chat-1      7")
        );
    }
}
