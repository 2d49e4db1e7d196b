//! The backends that calls in a scope use.
//!
//! ```
//! use flash_attention::{Backend, Device, Tensor, backend, sdpa};
//!
//! let q = Tensor::from_slice(&Device::cpu(), &[0.5f32; 2 * 8], &[1, 2, 8])?;
//! let scope = backend::scope(&[Backend::Flash, Backend::Math]);
//! assert_eq!(sdpa(&q, &q, &q).run()?.backend, Backend::Math);
//! drop(scope);
//! # Ok::<(), flash_attention::Error>(())
//! ```

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use crate::attention::Sdpa;
use crate::choice::Explanation;
use crate::error::Result;
use crate::options::{Backend, Options};

thread_local! {
    /// The open scopes of this thread, the innermost last, each with its number.
    static SCOPES: RefCell<Vec<(u64, Vec<Backend>)>> = const { RefCell::new(vec![]) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// While it lives, calls of its thread that name no backend use those of the scope. See [`scope`].
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Scope {
    number: u64,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

/// Opens a scope: until the returned guard is dropped, calls of this thread that name no backend use the first of these that
/// can run them. No backends mean [`Backend::Auto`]. Scopes nest, and the innermost counts.
pub fn scope(backends: &[Backend]) -> Scope {
    let number = NEXT.replace(NEXT.get() + 1);
    SCOPES.with_borrow_mut(|scopes| scopes.push((number, backends.to_vec())));
    Scope { number, thread: PhantomData }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // A guard that outlives its thread's scopes has nothing to end.
        let _ = SCOPES.try_with(|scopes| scopes.borrow_mut().retain(|(number, _)| *number != self.number));
    }
}

/// The backends that a call asks for, in its order: its own, else those of the innermost scope.
pub(crate) fn asked(options: &Options) -> Vec<Backend> {
    if !options.backends.is_empty() {
        return options.backends.clone();
    }
    SCOPES.with_borrow(|scopes| scopes.last().map(|(_, backends)| backends.clone()).unwrap_or_default())
}

impl Backend {
    /// What every backend says to a call: as [`Sdpa::explain`].
    ///
    /// # Errors
    /// Where the problem is wrong in itself, whatever the backend.
    pub fn explain(call: &Sdpa<'_>) -> Result<Explanation> {
        call.explain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Vec<Backend> {
        asked(&Options::default())
    }

    #[test]
    fn the_innermost_scope_counts_and_the_outer_one_comes_back() {
        assert!(now().is_empty());
        let outer = scope(&[Backend::Math]);
        {
            let _inner = scope(&[Backend::Flash, Backend::Efficient]);
            assert_eq!(now(), [Backend::Flash, Backend::Efficient]);
        }
        assert_eq!(now(), [Backend::Math]);
        drop(outer);
        assert!(now().is_empty());
    }

    #[test]
    fn scopes_that_end_out_of_order_leave_the_others() {
        let first = scope(&[Backend::Math]);
        let second = scope(&[Backend::Efficient]);
        drop(first);
        assert_eq!(now(), [Backend::Efficient]);
        drop(second);
        assert!(now().is_empty());
    }

    #[test]
    fn a_call_that_names_its_backends_does_not_ask_the_scope() {
        let _scope = scope(&[Backend::Math]);
        let options = Options { backends: vec![Backend::Auto], ..Options::default() };
        assert_eq!(asked(&options), [Backend::Auto]);
    }

    #[test]
    fn a_scope_decides_which_backend_runs_unless_the_call_does() {
        let device = crate::Device::emulator();
        let q = crate::Tensor::from_slice(&device, &[0.5f32; 16], &[1, 2, 8]).unwrap();
        let _scope = scope(&[Backend::Flash, Backend::Math]);
        assert_eq!(crate::sdpa(&q, &q, &q).run().unwrap().backend, Backend::Math);
        assert_eq!(crate::sdpa(&q, &q, &q).backend(Backend::Auto).run().unwrap().backend, Backend::Efficient);
        let _scope = scope(&[Backend::Flash]);
        let error = crate::sdpa(&q, &q, &q).run().unwrap_err().to_string();
        let reason = "tensor cores multiply f16 and bf16, and the tensors are f32";
        assert_eq!(error, format!("flash cannot run this: {reason}"));
        assert!(Backend::explain(&crate::sdpa(&q, &q, &q)).unwrap().verdicts[1].can());
    }

    #[test]
    fn a_scope_is_its_threads_alone() {
        let _scope = scope(&[Backend::Math]);
        assert!(std::thread::scope(|s| s.spawn(now).join().unwrap()).is_empty());
    }
}
