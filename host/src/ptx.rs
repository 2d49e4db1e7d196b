//! The kernels' PTX, one module an entry point, compressed in the library and unpacked when first asked for.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// A compressed module.
struct Packed {
    /// The name of the module and of its one entry point.
    name: &'static str,
    /// Deflated PTX.
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The PTX of the module with this entry point.
///
/// # Errors
/// In words, where there is none or it is damaged.
pub(crate) fn module(entry: &str) -> Result<String, String> {
    let packed = MODULES.iter().find(|m| m.name == entry).ok_or("the library holds no PTX for it")?;
    let mut text = String::new();
    DeflateDecoder::new(packed.bytes)
        .read_to_string(&mut text)
        .map_err(|error| format!("its PTX in the library is damaged: {error}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use flash_attention_abi::{ENTRY_POINTS, FLASH_ENTRY_POINTS};

    #[test]
    fn every_entry_point_has_its_module() {
        let flash = FLASH_ENTRY_POINTS.iter().map(|entry| entry.name);
        for name in ENTRY_POINTS.iter().map(|entry| entry.name).chain(flash) {
            let text = super::module(name).unwrap();
            let declares = |line: &str| line.contains(".entry") && line.contains(name);
            assert!(text.lines().any(declares), "{name}");
        }
    }
}
