//! A drawing surface of pixels with letters of its own: it needs no font on the machine.

use std::convert::Infallible;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Red, green and blue.
const CHANNELS: usize = 3;

/// White pixels to draw on.
pub struct Bitmap<'a> {
    pixels: &'a mut Vec<u8>,
    size: (u32, u32),
}

impl<'a> Bitmap<'a> {
    /// Makes `pixels` that many white ones, row by row, three bytes each.
    pub fn new(pixels: &'a mut Vec<u8>, size: (u32, u32)) -> Bitmap<'a> {
        pixels.clear();
        pixels.resize(size.0 as usize * size.1 as usize * CHANNELS, u8::MAX);
        Bitmap { pixels, size }
    }

    /// Lays a colour over a pixel.
    fn blend(&mut self, x: i32, y: i32, colour: BackendColor) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x >= self.size.0 || y >= self.size.1 {
            return;
        }
        let at = (y as usize * self.size.0 as usize + x as usize) * CHANNELS;
        let (r, g, b) = colour.rgb;
        for (pixel, new) in self.pixels[at..at + CHANNELS].iter_mut().zip([r, g, b]) {
            let mixed = f64::from(*pixel) * (1.0 - colour.alpha) + f64::from(new) * colour.alpha;
            *pixel = mixed.round() as u8;
        }
    }
}

impl DrawingBackend for Bitmap<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        (x, y): BackendCoord,
        colour: BackendColor,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.blend(x, y, colour);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let height = if style.size() > 14.0 { RasterHeight::Size20 } else { RasterHeight::Size16 };
        let width = get_raster_width(FontWeight::Regular, height);
        let letters: Vec<char> = text.chars().collect();
        let (wide, high) = ((letters.len() * width) as i32, height.val() as i32);
        let left = match style.anchor().h_pos {
            HPos::Left => x,
            HPos::Center => x - wide / 2,
            HPos::Right => x - wide,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => y,
            VPos::Center => y - high / 2,
            VPos::Bottom => y - high,
        };
        let colour = style.color();
        for (i, letter) in letters.into_iter().enumerate() {
            // Letters that the font lacks are question marks.
            let glyph = [letter, '?'].into_iter().find_map(|c| get_raster(c, FontWeight::Regular, height));
            let rows = glyph.iter().flat_map(|glyph| glyph.rows()).enumerate();
            for (row, pixels) in rows {
                for (column, &cover) in pixels.iter().enumerate() {
                    let alpha = colour.alpha * f64::from(cover) / f64::from(u8::MAX);
                    let at = left + (i * width + column) as i32;
                    self.blend(at, top + row as i32, BackendColor { alpha, ..colour });
                }
            }
        }
        Ok(())
    }
}

/// Pixels of a [`Bitmap`] as a PNG file.
pub fn png(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = vec![];
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}
