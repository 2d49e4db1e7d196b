//! The roofline as a picture.

use super::{Demand, Gpu, MatrixKind, Roofline, Unit};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A kernel on a GPU: one diagram of the picture.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// What the kernel is called.
    pub name: &'a str,
    /// What it asks.
    pub demand: &'a Demand,
    /// The GPU that it is held against.
    pub gpu: &'static Gpu,
}

const WIDTH: u32 = 470;
const HEIGHT: u32 = 350;
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
const FRAME: RGBColor = RGBColor(225, 225, 225);

/// Colours that those who see few can tell apart (Okabe and Ito, and one of Tol), one a unit.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(136, 34, 85),
    RGBColor(86, 180, 233),
    RGBColor(153, 153, 51),
    RGBColor(0, 0, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

/// The diagrams, so many side by side: operations a second over operations a byte, both logarithmic. The black roof is what the
/// GPU's memory and its arithmetic allow; a dashed line is what another unit allows this kernel; the dot is the kernel with its
/// least traffic, the ring with that of all its sectors.
///
/// # Errors
/// Where a kernel has no operations in which throughput could be measured, or the picture cannot be drawn.
pub fn svg(all: &[Shown], columns: usize) -> Result<String, String> {
    if let Some(kernel) = all.iter().find(|kernel| kernel.demand.flops <= 0.0) {
        return Err(format!(
            "`{}` has no floating-point operations, in which a roofline is drawn",
            kernel.name
        ));
    }
    let mut text = String::new();
    {
        let columns = columns.min(all.len()).max(1);
        let rows = all.len().div_ceil(columns).max(1);
        let size = (WIDTH * columns as u32, HEIGHT * rows as u32);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let draw = || {
            area.fill(&WHITE)?;
            for (part, shown) in area.split_evenly((rows, columns)).iter().zip(all) {
                panel(part, shown)?;
            }
            area.present()
        };
        draw().map_err(|error| format!("the picture cannot be drawn: {error}"))?;
    }
    Ok(text + "\n")
}

/// What the GPU's arithmetic allows at most: that of the kernel's kind of matrix products, or of f32.
fn peak(gpu: &Gpu, demand: &Demand) -> f64 {
    let kinds = demand.mma.keys().chain(demand.matrix.keys());
    let rates = kinds.filter_map(|&kind: &MatrixKind| gpu.matrix_flops(kind));
    rates.reduce(f64::max).unwrap_or_else(|| gpu.float_flops())
}

fn panel(area: &Area<'_>, shown: &Shown) -> Drawn {
    let Shown { name, demand, gpu } = *shown;
    let roofline = Roofline::new(gpu, demand);
    let peak = peak(gpu, demand);
    // Without traffic a kernel lies far to the right.
    let ridge = peak / gpu.memory_bandwidth;
    let intensity = |bytes: u64| if bytes > 0 { demand.flops / bytes as f64 } else { 64.0 * ridge };
    let (least, all) = (intensity(demand.memory_bytes()), intensity(demand.sector_bytes));
    let bound = demand.flops / roofline.seconds();
    let uncached = demand.flops / roofline.seconds().max(roofline.uncached_seconds);
    let x = all.min(least).min(ridge) / 8.0..least.max(all).max(ridge) * 8.0;
    let y = uncached.min(bound).min(peak) / 12.0 / 1e12..peak * 3.0 / 1e12;

    let mut chart = ChartBuilder::on(area)
        .caption(format!("{name} on {}", gpu.name), (FONT, 15))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(50)
        .build_cartesian_2d((x.start..x.end).log_scale(), (y.start..y.end).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FRAME)
        .axis_style(GREY)
        .x_desc("operations for each byte of the GPU's memory")
        .y_desc("TFLOP/s")
        .x_label_formatter(&|x| axis(*x))
        .y_label_formatter(&|y| axis(*y))
        .label_style((FONT, 11))
        .draw()?;
    let roof = [x.start, ridge, x.end].map(|x| (x, (gpu.memory_bandwidth * x).min(peak) / 1e12));
    chart.draw_series(LineSeries::new(roof, BLACK.stroke_width(2)))?;
    for unit in Unit::ALL {
        let Some(allowed) = roofline.throughput(roofline.limit(unit).seconds).map(|f| f / 1e12) else {
            continue;
        };
        let colour = COLOURS[unit as usize];
        let ends = [(x.start, allowed), (x.end, allowed)];
        // A level above the roof tells nothing; the legend has its number.
        let visible = allowed < y.end && unit != Unit::Memory;
        let dashes = visible.then(|| DashedLineSeries::new(ends, 10, 6, colour.stroke_width(1)));
        chart
            .draw_series(dashes.into_iter().flatten())?
            .label(format!("{} {}", unit.name(), axis(allowed)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
    }
    chart.draw_series([Circle::new((all, uncached / 1e12), 4, GREY.stroke_width(2))])?;
    chart.draw_series([Circle::new((least, bound / 1e12), 4, BLACK.filled())])?;
    let style = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Bottom));
    let label = format!("{} {}", roofline.bound().unit.name(), axis(bound / 1e12));
    chart.draw_series([Text::new(label, (least * 0.9, bound / 1e12 * 1.12), style)])?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font((FONT, 11))
        .background_style(WHITE.mix(0.8))
        .draw()
}

/// A number of any size in few characters.
fn axis(number: f64) -> String {
    match number.abs() {
        n if n >= 99.5 => format!("{number:.0}"),
        n if n >= 9.95 => format!("{number:.1}"),
        n if n >= 0.01 => format!("{number:.2}"),
        _ => format!("{number:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::GPUS;

    #[test]
    fn every_kernel_is_drawn_on_every_gpu() {
        let mut demand = Demand::of([("fma.rn.f32", 1000), ("ex2.approx.f32", 10)]);
        (demand.sector_bytes, demand.shared_wavefronts) = (6400, 300);
        let pairs =
            ["first <&>", "second"].into_iter().flat_map(|name| GPUS.iter().map(move |gpu| (name, gpu)));
        let all: Vec<Shown> = pairs.map(|(name, gpu)| Shown { name, demand: &demand, gpu }).collect();
        let text = svg(&all, 3).unwrap();
        for gpu in &GPUS {
            assert!(text.contains(&format!("first &lt;&amp;&gt; on {}", gpu.name)), "{text}");
            assert!(text.contains(&format!("second on {}", gpu.name)));
        }
        assert!(text.contains(&format!("width=\"{}\" height=\"{}\"", 3 * WIDTH, 4 * HEIGHT)));
        assert!(text.contains("special functions") && !text.contains("matrix units"));
        // No traffic at all is drawn too.
        demand.sector_bytes = 0;
        assert!(svg(&[Shown { name: "k", demand: &demand, gpu: &GPUS[0] }], 3).is_ok());
    }

    #[test]
    fn a_kernel_without_operations_is_refused() {
        let demand = Demand::of([("ret", 1)]);
        let error = svg(&[Shown { name: "k", demand: &demand, gpu: &GPUS[0] }], 3).unwrap_err();
        assert!(error.starts_with("`k` has no floating-point operations"), "{error}");
    }
}
