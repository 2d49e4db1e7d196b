//! Embeds the kernels' PTX (interim).
fn main() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("modules.rs"), "const MODULES: &[Packed] = &[];").unwrap();
}
