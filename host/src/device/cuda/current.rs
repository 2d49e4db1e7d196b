//! The calling thread's current context, given back as it was found.

use std::marker::PhantomData;

use cust::sys;

use super::status::check;

/// While it lives, the device's context may become the calling thread's; when dropped, the one from before is again.
pub(in crate::device) struct Current {
    /// Null where the thread had none; `None` where the driver did not say.
    before: Option<sys::CUcontext>,
    /// A current context belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Current {
    /// Remembers it. Without a driver there is nothing to remember.
    pub(in crate::device) fn keep() -> Current {
        let mut context = std::ptr::null_mut();
        let known = flash_attention_cuda_driver::available().is_ok()
            // SAFETY: the driver writes a handle; one that is not initialised says so and writes nothing.
            && check(unsafe { sys::cuCtxGetCurrent(&mut context) }).is_ok();
        Current { before: known.then_some(context), thread: PhantomData }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: null, or a context that was this thread's current one; a context that was destroyed since is refused.
            let _ = check(unsafe { sys::cuCtxSetCurrent(before) });
        }
    }
}
