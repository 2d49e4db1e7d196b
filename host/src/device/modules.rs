//! What a device loads once for each entry point.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// Loaded modules by entry point. A thread that loads one holds up those alone that want the same.
#[derive(Debug)]
pub(super) struct Modules<T> {
    slots: Mutex<HashMap<&'static str, Arc<Slot<T>>>>,
}

type Slot<T> = Mutex<Option<Arc<T>>>;

impl<T> Default for Modules<T> {
    fn default() -> Modules<T> {
        Modules { slots: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Modules<T> {
    /// The module of an entry point; made by `load` where it is not there. What fails is tried again by the next caller.
    pub(super) fn get(&self, entry: &'static str, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let slot = lock(&self.slots).entry(entry).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(module) = &*slot {
            return Ok(module.clone());
        }
        let module = Arc::new(load()?);
        *slot = Some(module.clone());
        Ok(module)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    #[test]
    fn loading_one_module_does_not_hold_up_another() {
        let (modules, both) = (Modules::default(), Barrier::new(2));
        // Neither load ends before the other has begun.
        let load = |entry| modules.get(entry, || Ok(both.wait().is_leader())).map(drop);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| load("one"));
            load("two").unwrap();
            other.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_module_is_loaded_once_whoever_asks() {
        let (modules, loads) = (Modules::default(), AtomicUsize::new(0));
        let load = || modules.get("one", || Ok(loads.fetch_add(1, Ordering::Relaxed))).unwrap();
        let seen = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| *thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!((seen, loads.load(Ordering::Relaxed)), (vec![0; 4], 1));
    }

    #[test]
    fn what_failed_is_tried_again() {
        let modules = Modules::default();
        let failed = modules.get("one", || Err(Error::DeviceName { given: "x".into() }));
        assert!(failed.is_err());
        assert_eq!(*modules.get("one", || Ok(7)).unwrap(), 7);
    }
}
