//! The picture of one head: its weights as a heat map, and the entropy of its rows as a histogram.

use flash_attention::analysis::HeadPicture;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Failure;
use bitmap::Bitmap;

mod bitmap;

/// How a picture is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pixels.
    Png,
    /// Shapes and text.
    Svg,
}

/// At most so many rows and columns of cells: more could not be told apart.
pub const CELLS: usize = 128;

/// The longer side of the heat map, in pixels.
const MAP: i32 = 512;
/// The shorter side of the heat map is at least this.
const THIN: i32 = 128;
const MARGIN: i32 = 20;
/// Left of the heat map: the numbers of the queries.
const LABELS: i32 = 64;
/// Above the diagrams: title, and what they are.
const TOP: i32 = 96;
/// Below the diagrams: numbers and the name of the axis.
const BOTTOM: i32 = 56;
/// The colour bar with its numbers.
const BAR: i32 = 16;
const BAR_SPACE: i32 = 96;
const HISTOGRAM: i32 = 360;
/// Bars of the histogram.
const BINS: usize = 24;
/// Sides of small matrices: a cell is not larger.
const CELL: i32 = 64;

const FONT: &str = "sans-serif";
const TITLE: i32 = 16;
const TEXT: i32 = 13;
const GREY: RGBColor = RGBColor(110, 110, 110);
const FRAME: RGBColor = RGBColor(225, 225, 225);
/// Where no query sees a key.
const HIDDEN: RGBColor = RGBColor(232, 232, 232);
const BLUE: RGBColor = RGBColor(0, 114, 178);

/// Colours from nothing to most (viridis), equally spaced.
const COLOURS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

/// The picture as a file.
pub fn file(picture: &HeadPicture, title: &str, format: Format) -> Result<Vec<u8>, Failure> {
    let layout = Layout::new(picture, title);
    let size = (layout.width as u32, layout.height as u32);
    let failed = |error: &dyn std::fmt::Display| format!("the picture cannot be drawn: {error}");
    match format {
        Format::Svg => {
            let mut text = String::new();
            draw(SVGBackend::with_string(&mut text, size), picture, title, &layout)
                .map_err(|error| failed(&error))?;
            Ok((text.trim_end().to_string() + "\n").into_bytes())
        }
        Format::Png => {
            let mut pixels = vec![];
            draw(Bitmap::new(&mut pixels, size), picture, title, &layout).map_err(|error| failed(&error))?;
            bitmap::png(&pixels, size).map_err(|error| failed(&error))
        }
    }
}

/// Where everything is, in pixels.
struct Layout {
    width: i32,
    height: i32,
    /// Left, top, right and bottom of the heat map.
    map: [i32; 4],
    /// The same of the histogram.
    histogram: [i32; 4],
}

impl Layout {
    fn new(picture: &HeadPicture, title: &str) -> Layout {
        let most = picture.queries.max(picture.keys).max(1) as f64;
        let longer = MAP.min(CELL * most as i32);
        let side = |entries: usize| ((entries as f64 / most * f64::from(longer)) as i32).max(THIN);
        let (left, top) = (MARGIN + LABELS, TOP);
        let map = [left, top, left + side(picture.keys), top + side(picture.queries)];
        let right = map[2] + BAR_SPACE + MARGIN + LABELS;
        let histogram = [right, top, right + HISTOGRAM, top + (map[3] - top).max(THIN * 2)];
        // The title may be longer than the diagrams are wide; about 10 pixels a letter.
        let width = (histogram[2] + MARGIN).max(title.chars().count() as i32 * 10 + 2 * MARGIN);
        Layout { width, height: histogram[3].max(map[3]) + BOTTOM, map, histogram }
    }
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;
type Area<B> = DrawingArea<B, Shift>;

fn draw<B: DrawingBackend>(backend: B, picture: &HeadPicture, title: &str, layout: &Layout) -> Drawn<B> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    write(&area, title, (MARGIN, MARGIN + 8), TITLE, BLACK, HPos::Left)?;
    heat_map(&area, picture, layout.map)?;
    histogram(&area, picture, layout.histogram)?;
    area.present()
}

fn write<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    to: HPos,
) -> Drawn<B> {
    let style = (FONT, size).into_font().color(&colour).pos(Pos::new(to, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style))
}

fn fill<B: DrawingBackend>(area: &Area<B>, corners: [(i32, i32); 2], colour: RGBColor) -> Drawn<B> {
    area.draw(&Rectangle::new(corners, colour.filled()))
}

fn line<B: DrawingBackend>(area: &Area<B>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Drawn<B> {
    area.draw(&PathElement::new(vec![from, to], colour))
}

/// The colour of a part of the most, 0 to 1: by its square root, so that small weights are told apart too.
fn colour(part: f64) -> RGBColor {
    let part = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
    let at = part.sqrt() * (COLOURS.len() - 1) as f64;
    let below = (at as usize).min(COLOURS.len() - 2);
    let mix = |c: usize| {
        let (a, b) = (f64::from(COLOURS[below][c]), f64::from(COLOURS[below + 1][c]));
        (a + (b - a) * (at - below as f64)).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

fn heat_map<B: DrawingBackend>(
    area: &Area<B>,
    picture: &HeadPicture,
    [left, top, right, bottom]: [i32; 4],
) -> Drawn<B> {
    let HeadPicture { queries, keys, rows, columns, ref cells, .. } = *picture;
    let most = cells.iter().flatten().copied().filter(|weight| !weight.is_nan()).fold(0.0, f64::max);
    let shown = if (rows, columns) == (queries, keys) {
        "weights".to_string()
    } else {
        let [high, wide] = [queries.div_ceil(rows.max(1)), keys.div_ceil(columns.max(1))];
        format!("largest weights of up to {high} x {wide} pairs")
    };
    write(area, &format!("{shown}; grey: not seen"), (left, top - 44), TEXT, GREY, HPos::Left)?;
    fill(area, [(left, top), (right, bottom)], HIDDEN)?;
    // Where a cell begins; the last one ends with the map.
    let x = |column: usize| left + ((right - left) as usize * column / columns.max(1)) as i32;
    let y = |row: usize| top + ((bottom - top) as usize * row / rows.max(1)) as i32;
    for (row, cells) in cells.chunks(columns.max(1)).enumerate() {
        let colours: Vec<Option<RGBColor>> = cells
            .iter()
            .map(|cell| cell.map(|weight| if weight.is_nan() { RED } else { colour(weight / most) }))
            .collect();
        let mut column = 0;
        // Neighbours of the same colour are one rectangle.
        for run in colours.chunk_by(|a, b| a == b) {
            let end = column + run.len();
            if let Some(colour) = run[0] {
                fill(area, [(x(column), y(row)), (x(end), y(row + 1))], colour)?;
            }
            column = end;
        }
    }
    frame(area, [left, top, right, bottom])?;
    write(area, "query", (left - 8, top - 20), TEXT, BLACK, HPos::Right)?;
    write(area, "key", ((left + right) / 2, bottom + 40), TEXT, BLACK, HPos::Center)?;
    for (index, at) in ticks(queries, bottom - top) {
        line(area, (left - 5, top + at), (left, top + at), GREY)?;
        write(area, &index.to_string(), (left - 8, top + at), TEXT, BLACK, HPos::Right)?;
    }
    for (index, at) in ticks(keys, right - left) {
        line(area, (left + at, bottom), (left + at, bottom + 5), GREY)?;
        write(area, &index.to_string(), (left + at, bottom + 16), TEXT, BLACK, HPos::Center)?;
    }
    colour_bar(area, most, [right + 20, top, right + 20 + BAR, bottom])
}

fn colour_bar<B: DrawingBackend>(
    area: &Area<B>,
    most: f64,
    [left, top, right, bottom]: [i32; 4],
) -> Drawn<B> {
    for y in top..bottom {
        let part = f64::from(bottom - 1 - y) / f64::from((bottom - 1 - top).max(1));
        fill(area, [(left, y), (right, y + 1)], colour(part * part))?;
    }
    frame(area, [left, top, right, bottom])?;
    for quarter in 0..=4 {
        let y = bottom - (bottom - top) * quarter / 4;
        line(area, (right, y), (right + 5, y), GREY)?;
        let weight = most * (f64::from(quarter) / 4.0).powi(2);
        let text =
            if most >= 0.1 || weight == 0.0 { format!("{weight:.3}") } else { format!("{weight:.1e}") };
        write(area, &text, (right + 8, y), TEXT, BLACK, HPos::Left)?;
    }
    Ok(())
}

fn frame<B: DrawingBackend>(area: &Area<B>, [left, top, right, bottom]: [i32; 4]) -> Drawn<B> {
    area.draw(&Rectangle::new([(left, top), (right, bottom)], GREY))
}

/// Numbers on an axis of entries, each at the middle of its entry, in pixels from the axis' start.
fn ticks(entries: usize, length: i32) -> Vec<(usize, i32)> {
    // Room for a number of five digits.
    let most = (length as usize / 48).max(1);
    let step = steps().find(|step| entries.div_ceil(*step) <= most).unwrap_or(entries.max(1));
    let middle = |index: usize| ((index as f64 + 0.5) / entries as f64 * f64::from(length)) as i32;
    (0..entries).step_by(step).map(|index| (index, middle(index))).collect()
}

/// 1, 2, 5, 10, 20, 50, …
fn steps() -> impl Iterator<Item = usize> {
    (0..18).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)))
}

fn histogram<B: DrawingBackend>(
    area: &Area<B>,
    picture: &HeadPicture,
    [left, top, right, bottom]: [i32; 4],
) -> Drawn<B> {
    let entropies = &picture.entropies;
    // A sink counts as a key, so that an entropy can be a little above the logarithm of the keys.
    let uniform = (picture.keys.max(1) as f64).ln();
    let end = entropies.iter().copied().fold(uniform, f64::max).max(1e-3);
    let bins = bins(entropies, end);
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    write(area, "entropy of the rows", (left, top - 44), TEXT, GREY, HPos::Left)?;
    write(area, "rows", (left - 8, top - 20), TEXT, BLACK, HPos::Right)?;
    write(area, "nats", ((left + right) / 2, bottom + 40), TEXT, BLACK, HPos::Center)?;
    let step = steps().find(|step| most / step <= 6).unwrap_or(most);
    for count in (0..=most).step_by(step) {
        let y = bottom - (f64::from(bottom - top) * 0.95 * count as f64 / most as f64) as i32;
        line(area, (left, y), (right, y), FRAME)?;
        write(area, &count.to_string(), (left - 8, y), TEXT, BLACK, HPos::Right)?;
    }
    let x = |nats: f64| left + (nats / end * f64::from(right - left)) as i32;
    for (i, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let [from, to] = [i, i + 1].map(|bin| x(end * bin as f64 / BINS as f64));
        let height = (f64::from(bottom - top) * 0.95 * count as f64 / most as f64) as i32;
        fill(area, [(from + 1, bottom - height.max(1)), (to - 1, bottom)], BLUE)?;
    }
    line(area, (left, bottom), (right, bottom), GREY)?;
    for quarter in 0..=4 {
        let nats = end * f64::from(quarter) / 4.0;
        line(area, (x(nats), bottom), (x(nats), bottom + 5), GREY)?;
        write(area, &format!("{nats:.2}"), (x(nats), bottom + 16), TEXT, BLACK, HPos::Center)?;
    }
    let text = format!("all {} keys equal: {uniform:.2}", picture.keys);
    line(area, (x(uniform), top), (x(uniform), bottom), GREY)?;
    write(area, &text, (x(uniform), top - 20), TEXT, GREY, HPos::Right)
}

/// How many entropies are in each of equal parts of `0..=end`.
fn bins(entropies: &[f64], end: f64) -> [usize; BINS] {
    let mut bins = [0; BINS];
    for entropy in entropies {
        bins[((entropy / end * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_with_room_between_them() {
        assert_eq!(ticks(3, 192), [(0, 32), (1, 96), (2, 160)]);
        assert_eq!(
            ticks(1000, 512).iter().map(|t| t.0).collect::<Vec<_>>(),
            [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]
        );
        assert!(ticks(0, 128).is_empty());
        for entries in [1, 7, 96, 4096, 1 << 30] {
            let ticks = ticks(entries, 512);
            assert!(ticks.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 40), "{entries}: {ticks:?}");
        }
    }

    #[test]
    fn every_entropy_is_in_a_bar() {
        let bins = bins(&[0.0, 0.01, 1.0, 2.0], 2.0);
        assert_eq!((bins[0], bins[BINS / 2], bins[BINS - 1]), (2, 1, 1));
    }

    #[test]
    fn cells_fill_the_map_in_both_formats() {
        let picture = triangle();
        let layout = Layout::new(&picture, "");
        let mut pixels = vec![];
        let size = (layout.width as u32, layout.height as u32);
        draw(Bitmap::new(&mut pixels, size), &picture, "", &layout).unwrap();
        let pixel = |x: i32, y: i32| {
            let at = (y * layout.width + x) as usize * 3;
            RGBColor(pixels[at], pixels[at + 1], pixels[at + 2])
        };
        let [left, top, right, bottom] = layout.map;
        let known = [HIDDEN, colour(1.0), colour(1.0 / 2.0), colour(1.0 / 3.0)];
        let seen: Vec<RGBColor> = (top + 1..bottom)
            .flat_map(|y| (left + 1..right).map(move |x| (x, y)))
            .map(|(x, y)| pixel(x, y))
            .collect();
        assert!(seen.iter().all(|colour| known.contains(colour)));
        assert!(known.iter().all(|colour| seen.contains(colour)));
        assert_eq!((pixel(left + 5, top + 5), pixel(right - 5, top + 5)), (colour(1.0), HIDDEN));

        let svg = String::from_utf8(file(&picture, "a <title>", Format::Svg).unwrap()).unwrap();
        for words in ["a &lt;title&gt;", "query", "key", "nats", "all 3 keys equal: 1.10", "#FDE725"] {
            assert!(svg.contains(words), "{words}");
        }
    }

    /// Three queries, each with equal weights for the keys that it sees: one, two and three of them.
    fn triangle() -> HeadPicture {
        use flash_attention::{Causal, Device, Options, Tensor, analysis};
        let of = |values: &[f32]| Tensor::from_slice(&Device::cpu(), values, &[1, values.len(), 1]).unwrap();
        let (q, k) = (of(&[1.0, 1.0, 1.0]), of(&[0.0; 3]));
        let mut options = Options::default();
        options.causal = Causal::UpperLeft;
        analysis::picture(&q, &k, &k, &options, [0, 0], CELLS).unwrap()
    }

    #[test]
    fn a_head_without_rows_is_an_empty_picture() {
        use flash_attention::{Device, Dtype, Options, Tensor, analysis};
        let none = Tensor::zeros(&Device::cpu(), Dtype::F32, &[1, 0, 4]).unwrap();
        let picture = analysis::picture(&none, &none, &none, &Options::default(), [0, 0], CELLS).unwrap();
        assert!(file(&picture, "nothing", Format::Png).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn colours_begin_and_end_with_those_of_the_table() {
        assert_eq!(colour(0.0), RGBColor(68, 1, 84));
        assert_eq!(colour(0.25), RGBColor(33, 144, 141));
        assert_eq!(colour(1.0), RGBColor(253, 231, 37));
        // Where every weight is 0, there is no part.
        assert_eq!(colour(f64::NAN), RGBColor(68, 1, 84));
    }
}
