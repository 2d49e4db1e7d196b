//! Codes, and the message of the last failure.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use flash_attention::Error;

/// It worked.
pub const OK: i32 = 0;
/// An argument is wrong, or arguments do not fit together.
pub const ERROR_ARGUMENT: i32 = 1;
/// No backend that may run can run this.
pub const ERROR_REFUSED: i32 = 2;
/// There is no such device.
pub const ERROR_UNAVAILABLE: i32 = 3;
/// The device failed: at a copy, at a launch, or for lack of memory.
pub const ERROR_DEVICE: i32 = 4;
/// The workspace is too small.
pub const ERROR_WORKSPACE: i32 = 5;
/// A defect of this library.
pub const ERROR_INTERNAL: i32 = 6;

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// A code and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn argument(message: impl Into<String>) -> Failure {
        Failure { code: ERROR_ARGUMENT, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error {
            Error::Refused { .. } => ERROR_REFUSED,
            Error::Unavailable { .. } => ERROR_UNAVAILABLE,
            Error::Device { .. } | Error::Kernel { .. } => ERROR_DEVICE,
            _ => ERROR_ARGUMENT,
        };
        Failure { code, message: error.to_string() }
    }
}

/// Runs the body of a function of the interface: its code, with the message kept where it fails.
pub(crate) fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let internal =
        || Failure { code: ERROR_INTERNAL, message: "the library panicked; this is a defect of it".into() };
    // What a body changes outside of itself is locked, or the caller's.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(internal()));
    let Err(Failure { code, message }) = result else { return OK };
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending keeps no message.
    let _ = LAST.try_with(|last| *last.borrow_mut() = message);
    code
}

/// The message of the calling thread's last failure, empty where there was none; valid until the thread's next failure.
#[unsafe(no_mangle)]
pub extern "C" fn fa_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The library's version, as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn fa_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> String {
        // SAFETY: a text that ends with 0, which this thread does not replace meanwhile.
        unsafe { CStr::from_ptr(fa_last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn messages_stay_until_the_next_failure_of_their_thread() {
        assert_eq!(last(), "");
        assert_eq!(guarded(|| Err(Failure::argument("one"))), ERROR_ARGUMENT);
        assert_eq!((guarded(|| Ok(())), last()), (OK, "one".into()));
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(last(), "")).join().unwrap());
        let refused = Error::Refused { verdict: "no".into(), reasons: "a\0b".into() };
        assert_eq!((guarded(|| Err(refused.into())), last()), (ERROR_REFUSED, "no: a b".into()));
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        assert_eq!(guarded(|| Err(Failure::argument(["none"][last().len() + 1]))), ERROR_INTERNAL);
        assert!(last().contains("defect"));
    }
}
