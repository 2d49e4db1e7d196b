//! Runs PTX on the CPU, checks it like a sanitizer and counts like a profiler.
//!
//! ```
//! use ptx_emulator::{Config, Emulator, LaunchConfig, Module};
//!
//! let module = Module::parse(
//!     ".version 8.0
//!      .target sm_80
//!      .address_size 64
//!      .visible .entry twice(.param .u64 data) {
//!          .reg .b64 %rd<4>;
//!          .reg .b32 %r<3>;
//!          ld.param.u64 %rd1, [data];
//!          mov.u32 %r1, %tid.x;
//!          mul.wide.u32 %rd2, %r1, 4;
//!          add.s64 %rd3, %rd1, %rd2;
//!          ld.global.u32 %r2, [%rd3];
//!          shl.b32 %r2, %r2, 1;
//!          st.global.u32 [%rd3], %r2;
//!          ret;
//!      }",
//! )?;
//! let emulator = Emulator::new(Config::default());
//! let data = emulator.alloc(16)?;
//! emulator.write(data, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])?;
//! let config = LaunchConfig { grid: [1, 1, 1], block: [4, 1, 1], dynamic_shared_bytes: 0 };
//! emulator.launch(&module, "twice", config, &[&data.to_le_bytes()])?;
//! let mut out = [0; 16];
//! emulator.read(data, &mut out)?;
//! assert_eq!(out, [2, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The passes
//! 1. `syntax::lexer`: text to tokens.
//! 2. `syntax::parser`: tokens to directives and statements, with no knowledge of any instruction.
//! 3. `decode::scope`, `decode::function`: names to registers and addresses.
//! 4. `decode::{arith, bit, convert, data, matrix, wgmma, mbarrier, bulk, cluster, warp, control}`: statements to handlers with register offsets.
//! 5. `cfg`: where diverged lanes meet again.
//! 6. `decode::layout`: an entry's functions as one run of instructions.
//! 7. `exec`: grids to blocks, blocks to warps, warps to paths; `ops`: what each instruction does to 32 lanes;
//!    `checks`: what it may not do.

mod cfg;
mod checks;
mod decode;
mod emulator;
mod error;
mod exec;
mod heap;
mod memory;
mod module;
mod numeric;
mod ops;
pub mod profile;
mod source;
mod stats;
mod syntax;
mod tensor_map;

pub use emulator::{Config, Emulator, LaunchConfig, LaunchOptions};
pub use error::{LaunchError, MemoryError, ParseError, Place, Problem};
pub use exec::Schedule;
pub use module::{Entry, Module, Param};
pub use stats::{LaunchStats, LineCounters, MnemonicCount};
pub use tensor_map::{Swizzle, TensorMap, TensorMapError, TensorMapType};
