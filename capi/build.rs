//! Keeps the shared library's names to those of the header: the crates inside define the driver's functions under their own names,
//! and a program that loads this library beside the driver must not see those.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
}
