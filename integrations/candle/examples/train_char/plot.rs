//! The losses as a picture.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (760, 420);
const TRAINED: RGBColor = RGBColor(0, 114, 178);
const HELD_OUT: RGBColor = RGBColor(213, 94, 0);

/// One line: steps and losses.
pub type Line = Vec<(usize, f32)>;

/// Both losses over the steps as SVG.
///
/// # Errors
/// Where it cannot be drawn.
pub fn svg(trained: &Line, held_out: &Line) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, trained, held_out).map_err(|error| format!("the plot cannot be drawn: {error}"))?;
    Ok(text + "\n")
}

fn draw(text: &mut String, trained: &Line, held_out: &Line) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let both = || trained.iter().chain(held_out);
    let steps = both().map(|point| point.0).max().unwrap_or(1).max(1);
    let top = both().map(|point| point.1).fold(1.0, f32::max) * 1.05;
    let mut chart = ChartBuilder::on(&area)
        .caption("Loss of train_char", ("sans-serif", 16))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..steps, 0f32..top)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("steps").y_desc("nats a character").draw()?;
    let lines = [("trained on", TRAINED, trained), ("held out", HELD_OUT, held_out)];
    for (row, (name, colour, line)) in lines.into_iter().enumerate() {
        chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
        let style = ("sans-serif", 13).into_font().color(&colour).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(name, (SIZE.0 as i32 - 32, 48 + 20 * row as i32), style))?;
    }
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}
