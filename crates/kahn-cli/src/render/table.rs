//! Plain tables: columns separated by two spaces, without borders, as wide as their contents.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// Formats a table. Cells must not contain styles, because their width is measured.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![["a".to_owned(), "succeeded".to_owned()], ["long-name".into(), "x".into()]];
        let text = table(["TASK", "STATE"], rows);
        assert_eq!(text, "TASK       STATE\na          succeeded\nlong-name  x\n");
    }
}
