//! Columns for people: as wide as what stands in them, two spaces apart.

/// Rows of a listing, the first of them its head.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Draws the rows; numbers, which begin with a digit, stand on the right of their column.
    pub(crate) fn drawn(&self) -> String {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let number = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
                line += &match number {
                    true => format!("{cell:>width$}  "),
                    false => format!("{cell:<width$}  "),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let mut table = Table::new(["COUNT", "WHO", "WHAT"]);
        table.row(["7".to_owned(), "ci-1".to_owned(), "a".to_owned()]);
        table.row(["12345678".to_owned(), "é".to_owned(), String::new()]);
        assert_eq!(table.drawn(), "COUNT     WHO   WHAT\n       7  ci-1  a\n12345678  é\n");
    }
}
