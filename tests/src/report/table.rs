//! A plain table: columns as wide as their widest cell, numbers to the right.
use std::fmt;
use std::time::Duration;

/// Rows of cells under a header.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with only its header.
    pub fn new(header: &[&str]) -> Table {
        Table {
            rows: vec![header.iter().map(|cell| cell.to_string()).collect()],
        }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) -> &mut Table {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                line += &match is_figure(cell) {
                    true => format!("  {cell:>width$}"),
                    false => format!("  {cell:<width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Whether a cell is a number, with or without a unit.
fn is_figure(cell: &str) -> bool {
    let number = cell.split(' ').next().unwrap_or_default();
    number.trim_end_matches(['×', '%']).parse::<f64>().is_ok()
}

/// A time as a person reads it: three figures and a unit.
pub fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        1e3..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["from", "time"]);
        table.row(["web", "12 µs"]).row(["client", "1.20 ms"]);
        assert_eq!(
            table.to_string(),
            "  from    time\n  web       12 µs\n  client  1.20 ms\n"
        );
    }

    #[test]
    fn times_carry_the_unit_that_suits_them() {
        let times = [
            Duration::from_micros(7),
            Duration::from_micros(1234),
            Duration::from_millis(2500),
        ];
        assert_eq!(times.map(time), ["7 µs", "1.23 ms", "2.50 s"]);
    }
}
