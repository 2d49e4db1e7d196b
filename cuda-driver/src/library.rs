//! Opening `libcuda.so.1`, and the macro that turns a row of `functions` into a forwarder.

use std::ffi::CStr;
use std::sync::OnceLock;

use libloading::Library;

use crate::DriverError;

/// The file that the NVIDIA driver installs.
pub(crate) const FILE: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// `CUDA_ERROR_STUB_LIBRARY`: the driver that the application has loaded is a stub.
pub(crate) const STUB_LIBRARY: u32 = 34;

/// `CUDA_ERROR_UNKNOWN`.
const UNKNOWN: u32 = 999;

/// The code itself where `cust` knows it (CUDA 11.4), else [`UNKNOWN`]: `cust` reads the answer as a Rust enum, for which
/// a code of a newer driver would be undefined behaviour.
pub(crate) fn known(code: u32) -> u32 {
    match code {
        0..=8
        | 34
        | 100..=102
        | 200..=202
        | 205..=224
        | 300..=304
        | 400..=401
        | 500
        | 600
        | 700..=705
        | 708..=720
        | 800..=809
        | 900..=911 => code,
        _ => UNKNOWN,
    }
}

/// The driver's library, opened on first use and never closed.
pub(crate) fn library() -> Result<&'static Library, DriverError> {
    static LIBRARY: OnceLock<Result<Library, DriverError>> = OnceLock::new();
    let opened = LIBRARY.get_or_init(|| {
        // SAFETY: the driver's initialisers have no precondition; every CUDA program runs them.
        let library = unsafe { Library::new(FILE) };
        library.map_err(|error| DriverError::NotOpened { file: FILE, reason: error.to_string() })
    });
    opened.as_ref().map_err(Clone::clone)
}

/// The address of a driver function, or `None` where there is no driver or it lacks the function.
pub(crate) fn symbol(name: &CStr) -> Option<*const ()> {
    // SAFETY: the symbol is only turned into an address here; the caller gives it its type.
    let symbol = unsafe { library().ok()?.get::<*const ()>(name.to_bytes_with_nul()) };
    symbol.ok().map(|s| *s).filter(|address| !address.is_null())
}

/// A function's address, looked up at the first call.
pub(crate) struct Lazy {
    name: &'static CStr,
    address: OnceLock<Option<usize>>,
}

impl Lazy {
    /// For the function of this name.
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Lazy { name, address: OnceLock::new() }
    }

    /// The address, if the driver has it.
    pub(crate) fn get(&self) -> Option<*const ()> {
        self.address.get_or_init(|| symbol(self.name).map(|a| a as usize)).map(|a| a as *const ())
    }
}

/// Defines one exported function a row, which calls the driver's function of the same name, and `NAMES`.
macro_rules! forward {
    ($($(#[$attribute:meta])* $name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            #[doc = concat!("Forwards to the driver's `", stringify!($name), "`; 34 where there is none.")]
            ///
            /// # Safety
            /// As the driver's function.
            #[allow(non_snake_case, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                static FUNCTION: $crate::library::Lazy = $crate::library::Lazy::new(
                    match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a nul in a name"),
                    },
                );
                let Some(address) = FUNCTION.get() else { return $crate::library::STUB_LIBRARY };
                // SAFETY: the driver's function of this name has this signature (cuda.h).
                let function: unsafe extern "C" fn($($type),*) -> u32 = unsafe { std::mem::transmute(address) };
                // SAFETY: the caller keeps the contract of the driver's function.
                $crate::library::known(unsafe { function($($argument),*) })
            }
        )*

        /// The name of every function that is forwarded.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
pub(crate) use forward;
