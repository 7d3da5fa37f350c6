//! Tables for people: columns as wide as they must be, and no wider than the terminal. Pure.

use std::fmt::Write;

/// One column: its title, and how it gives way when there is not enough room.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    pub right: bool,
    /// 0 stays; of the others the highest goes first.
    pub expendable: u8,
}

/// Two blanks between columns.
const GAP: usize = 2;

/// A cell: its text, and the colour of it (the number of an SGR sequence), if any.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub text: String,
    pub colour: Option<&'static str>,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, colour: None }
    }
}

/// Composes the table. Beyond `width` columns are left out; the last one that stays is cut.
pub fn compose(
    columns: &[Column],
    rows: &[Vec<Cell>],
    width: Option<usize>,
    colours: bool,
) -> String {
    let mut shown: Vec<(usize, Column, usize)> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0);
            (index, *column, widest.max(column.title.chars().count()))
        })
        .collect();
    if let Some(width) = width {
        let total = |shown: &[(usize, Column, usize)]| {
            // What the last column has to say may be cut, down to its title.
            let last = shown
                .last()
                .map_or(0, |(_, column, _)| column.title.chars().count());
            let others = shown.len().saturating_sub(1);
            shown
                .iter()
                .take(others)
                .map(|(_, _, widest)| widest + GAP)
                .sum::<usize>()
                + last
        };
        while total(&shown) > width
            && let Some(goes) = shown.iter().map(|(_, column, _)| column.expendable).max()
            && goes > 0
        {
            shown.retain(|(_, column, _)| column.expendable != goes);
        }
        let others = shown.len().saturating_sub(1);
        let used: usize = shown
            .iter()
            .take(others)
            .map(|(_, _, widest)| widest + GAP)
            .sum();
        if let Some((_, _, widest)) = shown.last_mut() {
            *widest = (*widest).min(width.saturating_sub(used));
        }
    }
    let mut text = String::new();
    let titles: Vec<Cell> = columns
        .iter()
        .map(|column| Cell {
            text: column.title.to_owned(),
            colour: Some("2"),
        })
        .collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (place, (index, column, widest)) in shown.iter().enumerate() {
            let cell = row.get(*index).cloned().unwrap_or_default();
            let last = place + 1 == shown.len();
            line.push_str(&painted(&cell, column.right, *widest, last, colours));
            if !last {
                line.push_str("  ");
            }
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn painted(cell: &Cell, right: bool, widest: usize, last: bool, colours: bool) -> String {
    let length = cell.text.chars().count();
    let text = if length > widest {
        let kept: String = cell.text.chars().take(widest.saturating_sub(1)).collect();
        format!("{kept}…")
    } else {
        cell.text.clone()
    };
    let blanks = " ".repeat(widest.saturating_sub(length));
    let text = match (cell.colour, colours) {
        (Some(colour), true) if !text.is_empty() => format!("\x1b[{colour}m{text}\x1b[0m"),
        (Some(_) | None, _) => text,
    };
    match (right, last) {
        (true, _) => blanks + &text,
        (false, false) => text + &blanks,
        (false, true) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "NAME",
            right: false,
            expendable: 0,
        },
        Column {
            title: "N",
            right: true,
            expendable: 1,
        },
        Column {
            title: "WHY",
            right: false,
            expendable: 0,
        },
    ];

    fn rows() -> Vec<Vec<Cell>> {
        [["a", "1", "because of it"], ["bcdef", "23", ""]]
            .map(|row| row.map(|text| Cell::from(text.to_owned())).to_vec())
            .to_vec()
    }

    #[test]
    fn columns_line_up_and_give_way() {
        let table = [
            (
                None,
                "NAME    N  WHY\na       1  because of it\nbcdef  23\n",
            ),
            (Some(18), "NAME    N  WHY\na       1  becaus…\nbcdef  23\n"),
            (Some(12), "NAME   WHY\na      beca…\nbcdef\n"),
        ];
        for (width, wanted) in table {
            assert_eq!(
                compose(&COLUMNS, &rows(), width, false),
                wanted,
                "{width:?}"
            );
        }
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let mut rows = rows();
        rows[0][0].colour = Some("31");
        let text = compose(&COLUMNS, &rows, Some(18), true);
        assert!(text.contains("\x1b[31ma\x1b[0m       1  becaus…"), "{text}");
    }
}
