//! The picture: bars beside their labels, and lines over a few places, as SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::short;

/// One diagram.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// Horizontal bars: one row a label, one column of bars a measure.
    Bars {
        /// What is shown.
        title: String,
        /// A heading above each run of rows that share it; as many as labels, or none.
        groups: Vec<String>,
        /// One a row.
        labels: Vec<String>,
        /// Each measure with its unit as a name; as many values as labels.
        columns: Vec<(String, Vec<Option<f64>>)>,
    },
    /// Lines over the same places.
    Lines {
        /// What is shown.
        title: String,
        /// What the places are.
        x_title: String,
        /// The places.
        x: Vec<String>,
        /// Of the values.
        unit: String,
        /// The lines.
        series: Vec<Series>,
    },
}

/// One line: a value at each place, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// As many as places.
    pub values: Vec<Option<f64>>,
}

impl Panel {
    /// Bars without groups, where every value is known.
    pub fn bars(title: &str, labels: Vec<String>, columns: Vec<(&str, Vec<f64>)>) -> Panel {
        let column = |(unit, values): (&str, Vec<f64>)| (unit.into(), values.into_iter().map(Some).collect());
        Panel::Bars {
            title: title.into(),
            groups: vec![],
            labels,
            columns: columns.into_iter().map(column).collect(),
        }
    }

    /// Width and height in pixels.
    fn size(&self) -> (i32, i32) {
        match self {
            Panel::Bars { groups, labels, columns, .. } => {
                let width = LABELS + columns.len() as i32 * COLUMN;
                (width, BARS_TOP + (labels.len() + headings(groups)) as i32 * ROW + MARGIN)
            }
            Panel::Lines { .. } => (440, 330),
        }
    }
}

const MARGIN: i32 = 16;
const ROW: i32 = 20;
const LABELS: i32 = 200;
const COLUMN: i32 = 260;
/// Above the first bar: title and names of the measures.
const BARS_TOP: i32 = 62;
/// Height of the line on top of the picture.
const HEADING: i32 = 40;
/// Line diagrams side by side.
const LINES_A_ROW: usize = 3;
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
const FRAME: RGBColor = RGBColor(225, 225, 225);

/// Colours that those who see few can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// How many headings the rows have.
fn headings(groups: &[String]) -> usize {
    groups.iter().enumerate().filter(|&(i, group)| i == 0 || groups[i - 1] != *group).count()
}

/// The panels under a heading as one SVG.
///
/// # Errors
/// Where it cannot be drawn.
pub fn svg(heading: &str, panels: &[Panel]) -> Result<String, String> {
    let places = places(panels);
    let right = places.iter().zip(panels).map(|((x, _), panel)| x + panel.size().0).max().unwrap_or(0);
    let bottom = places.iter().zip(panels).map(|((_, y), panel)| y + panel.size().1).max().unwrap_or(0);
    // About 6 pixels a character; the heading must not be cut off.
    let width = (right + MARGIN).max(heading.chars().count() as i32 * 6 + 2 * MARGIN);
    let mut text = String::new();
    {
        let size = (width as u32, (bottom.max(HEADING) + MARGIN) as u32);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let draw = || {
            area.fill(&WHITE)?;
            write(&area, heading, (MARGIN, MARGIN), 13, GREY, HPos::Left)?;
            for ((x, y), panel) in places.iter().zip(panels) {
                let (width, height) = panel.size();
                let (x, y) = (*x as u32, *y as u32);
                panel.draw(&area.clone().shrink((x, y), (width as u32, height as u32)))?;
            }
            area.present()
        };
        draw().map_err(|error| format!("the picture cannot be drawn: {error}"))?;
    }
    Ok(text + "\n")
}

/// Where each panel begins: line diagrams side by side, everything else below one another.
fn places(panels: &[Panel]) -> Vec<(i32, i32)> {
    let (mut y, mut in_row, mut places) = (HEADING, 0, vec![]);
    for (i, panel) in panels.iter().enumerate() {
        let (width, height) = panel.size();
        places.push((MARGIN + in_row as i32 * width, y));
        let lines = |panel: &Panel| matches!(panel, Panel::Lines { .. });
        in_row += 1;
        if !lines(panel) || in_row == LINES_A_ROW || !panels.get(i + 1).is_some_and(lines) {
            (in_row, y) = (0, y + height);
        }
    }
    places
}

type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, colour: RGBColor, to: HPos) -> Drawn {
    let style = (FONT, size).into_font().color(&colour).pos(Pos::new(to, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style))
}

impl Panel {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        match self {
            Panel::Bars { title, groups, labels, columns } => bars(area, title, groups, labels, columns),
            Panel::Lines { title, x_title, x, unit, series } => {
                lines(area, title, [x_title, unit], x, series)
            }
        }
    }
}

fn bars(
    area: &Area<'_>,
    title: &str,
    groups: &[String],
    labels: &[String],
    columns: &[(String, Vec<Option<f64>>)],
) -> Drawn {
    write(area, title, (0, 12), 16, BLACK, HPos::Left)?;
    for (c, (unit, _)) in columns.iter().enumerate() {
        write(area, unit, (LABELS + c as i32 * COLUMN, 42), 13, BLACK, HPos::Left)?;
    }
    let mut y = BARS_TOP;
    for (i, label) in labels.iter().enumerate() {
        if let Some(group) = groups.get(i)
            && (i == 0 || groups[i - 1] != *group)
        {
            write(area, group, (0, y + ROW / 2), 12, GREY, HPos::Left)?;
            y += ROW;
        }
        write(area, label, (LABELS - 8, y + ROW / 2), 12, BLACK, HPos::Right)?;
        for (c, (_, values)) in columns.iter().enumerate() {
            let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
            let left = LABELS + c as i32 * COLUMN;
            let Some(value) = values.get(i).copied().flatten() else {
                write(area, "–", (left + 4, y + ROW / 2), 12, GREY, HPos::Left)?;
                continue;
            };
            // Room for the number to the right of the longest bar.
            let length = (value / most * f64::from(COLUMN - 70)).max(1.0) as i32;
            let corners = [(left, y + 3), (left + length, y + ROW - 3)];
            area.draw(&Rectangle::new(corners, COLOURS[c % COLOURS.len()].filled()))?;
            write(area, &short(value), (left + length + 5, y + ROW / 2), 12, BLACK, HPos::Left)?;
        }
        y += ROW;
    }
    Ok(())
}

fn lines(area: &Area<'_>, title: &str, axes: [&str; 2], x: &[String], series: &[Series]) -> Drawn {
    let values = series.iter().flat_map(|line| line.values.iter().flatten());
    // A third more than the largest, where the legend stands.
    let most = values.copied().fold(f64::MIN_POSITIVE, f64::max) * 1.35;
    let last = x.len() as i32;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 16))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(-1..last, 0.0..most)?;
    let place = |i: &i32| usize::try_from(*i).ok().and_then(|i| x.get(i)).cloned().unwrap_or_default();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FRAME)
        .axis_style(GREY)
        .x_labels(x.len() + 2)
        .y_labels(6)
        .x_label_formatter(&place)
        .y_label_formatter(&|y| short_axis(*y))
        .x_desc(axes[0])
        .y_desc(axes[1])
        .label_style((FONT, 12))
        .axis_desc_style((FONT, 12))
        .draw()?;
    for (line, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let points = || line.values.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i as i32, v)));
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 12))
        .background_style(WHITE.mix(0.8))
        .draw()
}

/// A number on an axis, without decimals that say nothing.
fn short_axis(number: f64) -> String {
    if number.fract().abs() < 1e-9 { format!("{number:.0}") } else { format!("{number:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panels() -> Vec<Panel> {
        let line = |name: &str, factor: f64| Series {
            name: name.into(),
            values: [1.0, 1.5, 1.8, 1.9, 1.95, 2.0].map(|v| Some(v * factor)).to_vec(),
        };
        let lines = Panel::Lines {
            title: "forward, d 64, f16".into(),
            x_title: "sequence length".into(),
            unit: "TFLOP/s".into(),
            x: [512, 1024, 2048, 4096, 8192, 16384].map(|n: u32| n.to_string()).to_vec(),
            series: vec![line("efficient", 8.0), line("efficient, causal", 6.5)],
        };
        let bars = Panel::Bars {
            title: "kernels".into(),
            groups: vec!["one".into(), "one".into(), "two <&>".into()],
            labels: vec!["forward".into(), "delta".into(), "forward".into()],
            columns: vec![
                ("M / s".into(), vec![Some(300.0), Some(2.0), Some(0.0)]),
                ("per score".into(), vec![None; 3]),
            ],
        };
        vec![bars, lines.clone(), lines.clone(), lines.clone(), lines]
    }

    #[test]
    fn three_line_diagrams_stand_side_by_side() {
        let places = places(&panels());
        assert_eq!(places[1].1, places[3].1);
        assert!(places[1].0 < places[2].0 && places[2].0 < places[3].0);
        assert_eq!((places[4].0, places[4].1), (places[1].0, places[1].1 + 330));
    }

    #[test]
    fn the_picture_holds_every_label_and_escapes_it() {
        let text = svg("a heading", &panels()).unwrap();
        for part in
            ["a heading", "300", "M / s", "two &lt;&amp;&gt;", "16384", "TFLOP/s", "efficient, causal"]
        {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(svg("nothing", &[]).unwrap().contains("nothing"));
        assert!(svg("nothing", &[Panel::bars("none", vec![], vec![("s", vec![])])]).is_ok());
    }
}
