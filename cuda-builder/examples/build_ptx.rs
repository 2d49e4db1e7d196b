//! Builds a device crate from the command line: `cargo run -p cuda_builder --example build_ptx -- CRATE FOLDER [sm_90a]`.

use cuda_builder::{CudaBuilder, NvvmArch};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (krate, folder, arch) = match arguments.as_slice() {
        [krate, folder] => (krate, folder, NvvmArch::default()),
        [krate, folder, arch] if arch == "sm_90a" => (krate, folder, NvvmArch::Compute90a),
        _ => {
            eprintln!("usage: build_ptx CRATE FOLDER [sm_90a]");
            std::process::exit(2);
        }
    };
    match CudaBuilder::new(krate).arch(arch).copy_to(folder).build() {
        Ok(output) => output.modules.iter().for_each(|module| println!("{}", module.path.display())),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    }
}
