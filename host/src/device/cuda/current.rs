//! The calling thread's current context, given back as it was found.

use std::marker::PhantomData;

use cust::sys;

use super::status::check;

/// While it lives, the device's context may become the calling thread's; when dropped, the one from before is again.
pub(in crate::device) struct Current {
    /// Null where the thread had none; `None` where there is no driver.
    before: Option<sys::CUcontext>,
    /// A current context belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Current {
    /// Remembers it. Without a driver there is nothing to remember.
    pub(in crate::device) fn keep() -> Current {
        let mut context = std::ptr::null_mut();
        let before = flash_attention_cuda_driver::available().is_ok().then(|| {
            // SAFETY: the driver writes a handle. One that is not initialised writes none: there is no context then.
            let _ = check(unsafe { sys::cuCtxGetCurrent(&mut context) });
            context
        });
        Current { before, thread: PhantomData }
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
