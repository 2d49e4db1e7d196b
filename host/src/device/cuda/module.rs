//! PTX loaded into a context, and what the driver's compiler says when it refuses.

use std::ffi::{CString, c_void};
use std::sync::{Mutex, PoisonError};

use cust::module::Module;
use cust::sys;

use super::status::{Failure, check};
use crate::ptx;

/// Dynamic shared memory that a kernel may use without asking.
const SHARED_WITHOUT_ASKING: u32 = 48 * 1024;

/// One module in the context that was current when it was loaded.
pub(super) struct Loaded {
    function: Function,
    /// Bytes of dynamic shared memory that it may use.
    allowed: Mutex<u32>,
    _module: Module,
}

/// A handle that lives as long as its module.
struct Function(sys::CUfunction);

// SAFETY: a handle that is only ever given to the driver, which takes it from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Loaded {
    /// Loads the module of an entry point; the driver compiles it for the GPU.
    ///
    /// # Errors
    /// In words, with the compiler's log.
    pub(super) fn new(entry: &str) -> Result<Loaded, String> {
        let text = CString::new(ptx::module(entry)?).map_err(|_| "its PTX holds a 0 byte".to_string())?;
        match Module::from_ptx_cstr(&text, &[]) {
            Ok(module) => {
                let function =
                    module.get_function(entry).map_err(|error| Failure::from(error).to_string())?;
                let function = Function(function.to_raw());
                Ok(Loaded { function, allowed: Mutex::new(SHARED_WITHOUT_ASKING), _module: module })
            }
            Err(error) => Err(format!("the driver refuses its PTX: {error}{}", compiler_log(&text))),
        }
    }

    /// The function, allowed to use this much dynamic shared memory. It lives as long as the module.
    pub(super) fn function(&self, shared_bytes: u32) -> Result<sys::CUfunction, Failure> {
        let Function(function) = self.function;
        // Asked for once, and never for less than another thread's launch needs.
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if shared_bytes > *allowed {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that is loaded.
            check(unsafe { sys::cuFuncSetAttribute(function, attribute, shared_bytes as i32) })?;
            *allowed = shared_bytes;
        }
        Ok(function)
    }
}

/// Loads the PTX once more, for the compiler's words, which `cust` does not ask for.
fn compiler_log(text: &CString) -> String {
    let mut log = vec![0u8; 16 * 1024];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The driver takes values that fit into a pointer in its place.
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: the text ends with 0, and the two options come with the buffer and its length.
    let result = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if check(result).is_ok() {
        // SAFETY: it was loaded just now, and nothing uses it.
        let _ = check(unsafe { sys::cuModuleUnload(module) });
        return String::new();
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    match String::from_utf8_lossy(&log[..end]).trim() {
        "" => String::new(),
        words => format!("\n{words}"),
    }
}
