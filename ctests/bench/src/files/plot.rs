//! A picture of each row: time of every contestant, as boxes.

use super::judge::{Entry, Result as Row};
use crate::Failure;
use plotters::prelude::*;
use std::path::Path;

const OURS: RGBColor = RGBColor(31, 119, 180);
const PEER: RGBColor = RGBColor(140, 140, 140);
/// Points of the picture for each contestant, and around them all.
const HEIGHT: u32 = 44;
const MARGIN: u32 = 110;

/// Draws a row into `files-NAME.svg`.
pub fn row(dir: &Path, row: &Row) -> Result<(), Failure> {
    let entries: Vec<&Entry> = row.entries.iter().filter(|e| e.runs > 0).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let path = dir.join(format!("files-{}.svg", row.name));
    draw(&path, row, &entries).map_err(|e| format!("{}: {e}", path.display()))
}

fn draw(path: &Path, row: &Row, entries: &[&Entry]) -> Result<(), Box<dyn std::error::Error>> {
    let count = entries.len();
    let root = SVGBackend::new(path, (860, MARGIN + HEIGHT * count as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = entries.iter().map(|e| e.wall.0[4]).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(&row.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(44)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..longest * 1.05, (0..count).into_segmented())?;
    // The first contestant stands on top.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) if *at < count => entries[count - 1 - at].name.clone(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(count)
        .y_label_formatter(&name)
        .x_desc("seconds; box: quartiles, dot: median, line: shortest to longest")
        .draw()?;
    for (at, entry) in entries.iter().rev().enumerate() {
        let color = if entry.ours { OURS } else { PEER };
        let [least, low, median, high, most] = entry.wall.0;
        let (bottom, top) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
        let mut quartiles = Rectangle::new([(low, bottom), (high, top)], color.mix(0.5).filled());
        quartiles.set_margin(10, 10, 0, 0);
        chart.draw_series([quartiles])?;
        let place = SegmentValue::CenterOf(at);
        let line = ErrorBar::new_horizontal(place, least, median, most, color.filled(), 14);
        chart.draw_series([line])?;
    }
    root.present()?;
    Ok(())
}
