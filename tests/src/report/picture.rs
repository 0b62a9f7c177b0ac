//! A small canvas for box drawings: what a node or a mesh looks like, in characters.
use std::fmt;

/// Lines of characters; whatever is drawn beyond the edges is left out.
#[derive(Clone, Debug)]
pub struct Picture {
    rows: Vec<Vec<char>>,
}

impl Picture {
    /// An empty canvas.
    pub fn new(width: usize, height: usize) -> Picture {
        Picture {
            rows: vec![vec![' '; width]; height],
        }
    }

    /// Writes text that begins at a place.
    pub fn text(&mut self, x: usize, y: usize, text: &str) -> &mut Picture {
        for (i, letter) in text.chars().enumerate() {
            self.put(x + i, y, letter);
        }
        self
    }

    /// Writes text whose middle is at a place.
    pub fn centred(&mut self, x: usize, y: usize, text: &str) -> &mut Picture {
        let half = text.chars().count() / 2;
        self.text(x.saturating_sub(half), y, text)
    }

    /// Draws a box with a title in its upper edge.
    pub fn boxed(
        &mut self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
        title: &str,
    ) -> &mut Picture {
        let (right, bottom) = (x + width - 1, y + height - 1);
        for i in x + 1..right {
            self.put(i, y, '─').put(i, bottom, '─');
        }
        for j in y + 1..bottom {
            self.put(x, j, '│').put(right, j, '│');
        }
        self.put(x, y, '┌')
            .put(right, y, '┐')
            .put(x, bottom, '└')
            .put(right, bottom, '┘');
        if title.is_empty() {
            self
        } else {
            self.text(x + 2, y, &format!(" {title} "))
        }
    }

    /// Draws a line downwards from the lower edge of one box to the upper edge of another.
    pub fn down(&mut self, x: usize, from: usize, to: usize) -> &mut Picture {
        for y in from + 1..to {
            self.put(x, y, '│');
        }
        self.put(x, from, '┬').put(x, to, '┴')
    }

    fn put(&mut self, x: usize, y: usize, letter: char) -> &mut Picture {
        if let Some(place) = self.rows.get_mut(y).and_then(|row| row.get_mut(x)) {
            *place = letter;
        }
        self
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{}", row.iter().collect::<String>().trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_join_by_a_line_and_nothing_leaves_the_canvas() {
        let mut picture = Picture::new(9, 6);
        picture
            .boxed(0, 0, 9, 2, "pod")
            .boxed(0, 3, 9, 2, "")
            .down(4, 1, 3)
            .text(7, 5, "over the edge");
        let drawn = "┌─ pod ─┐\n└───┬───┘\n    │\n┌───┴───┐\n└───────┘\n       ov\n";
        assert_eq!(picture.to_string(), drawn);
    }
}
