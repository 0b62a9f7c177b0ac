//! A plot as an SVG file: both axes logarithmic and labelled, a line with points for each side.
use std::error::Error;
use std::path::Path;

use anyhow::anyhow;
use lab::Result;
use plotters::prelude::*;

use crate::row::Plot;

const SIZE: (u32, u32) = (720, 420);
/// One for each line (Okabe and Ito, told apart by most colour-blind people as well).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// Draws the plot into a file.
pub fn draw(plot: &Plot, file: &Path) -> Result {
    fill(plot, file).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn fill(plot: &Plot, file: &Path) -> std::result::Result<(), Box<dyn Error>> {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        (least / 1.3..most * 1.3).log_scale()
    };
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(plot.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            range(&mut points().map(|point| point.0)),
            range(&mut points().map(|point| point.1)),
        )?;
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .draw()?;
    for (line, colour) in plot.lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(
                LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(&line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    root.present()?;
    Ok(())
}
