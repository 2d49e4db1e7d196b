//! Builds a device crate from the command line: `build-ptx CRATE FOLDER [sm_90a]`.

use std::process::ExitCode;

use cuda_builder::{CudaBuilder, NvvmArch};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (krate, folder, arch) = match arguments.as_slice() {
        [krate, folder] => (krate, folder, Some(NvvmArch::default())),
        [krate, folder, arch] => (krate, folder, NvvmArch::from_target_cpu(arch)),
        _ => {
            eprintln!("usage: build-ptx CRATE FOLDER [ARCH, sm_70 by default]");
            return ExitCode::from(2);
        }
    };
    let Some(arch) = arch else {
        let known: Vec<_> = NvvmArch::ALL.iter().map(|arch| arch.target_cpu()).collect();
        eprintln!("error: `{}` is none of {}", arguments[2], known.join(", "));
        return ExitCode::from(2);
    };
    match CudaBuilder::new(krate).arch(arch).copy_to(folder).build() {
        Ok(output) => {
            for module in output.modules {
                println!("{}", module.path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
