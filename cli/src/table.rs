//! Columns as Go's `tabwriter` lays them out (docker's tables): a column is as wide as its widest cell among
//! neighbouring lines that have it, three spaces apart, ten wide at least; the last cell of a line is never padded.

use unicode_width::UnicodeWidthStr;

/// Of docker's tables.
pub const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns text whose cells are separated by tabs.
pub fn align(text: &str) -> String {
    align_to(text, MIN_WIDTH)
}

/// The same with another least width of a column.
pub fn align_to(text: &str, least: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut out = Layout {
        lines: &lines,
        least,
        widths: Vec::new(),
        out: String::with_capacity(text.len() * 2),
    };
    out.block(0, lines.len());
    // The last line ends without a newline when the text did.
    out.out.pop();
    out.out
}

struct Layout<'a> {
    lines: &'a [Vec<&'a str>],
    least: usize,
    /// Widths of the columns to the left, which hold for the block being written.
    widths: Vec<usize>,
    out: String,
}

impl Layout<'_> {
    fn block(&mut self, mut from: usize, to: usize) {
        let column = self.widths.len();
        let in_column = |line: &Vec<&str>| column + 1 < line.len();
        let mut at = from;
        while at < to {
            if !in_column(&self.lines[at]) {
                at += 1;
                continue;
            }
            self.write(from, at);
            from = at;
            let mut width = self.least;
            while at < to && in_column(&self.lines[at]) {
                width = width.max(self.lines[at][column].width() + PADDING);
                at += 1;
            }
            self.widths.push(width);
            self.block(from, at);
            self.widths.pop();
            from = at;
        }
        self.write(from, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            for (column, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column) {
                    self.out
                        .extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_line_up() {
        assert_eq!(
            align("A\tB\tC\naaaaaaaaaaaa\tb\tc\n"),
            "A              B         C\naaaaaaaaaaaa   b         c\n"
        );
        assert_eq!(align("plain\n"), "plain\n");
        assert_eq!(align("no newline"), "no newline");
        assert_eq!(align("\t\tx\n"), "                    x\n");
        // A line without the cell ends the column.
        assert_eq!(
            align("aaaaaaaaaaaaaa\tb\nx\naa\tb"),
            "aaaaaaaaaaaaaa   b\nx\naa        b"
        );
    }
}
