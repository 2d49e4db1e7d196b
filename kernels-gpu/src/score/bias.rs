//! A bias added to each score.

use super::ScoreMod;
use super::per_score::PerScore;
use crate::element::Element;
use core::f32::consts::LOG2_E;
use core::marker::PhantomData;
use cuda_std::float;

/// Adds a tensor's element.
pub struct Bias<E> {
    /// Where it lies.
    pub tensor: PerScore,
    element: PhantomData<E>,
}

impl<E> Clone for Bias<E> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Bias<E> {}

impl<E: Element> Bias<E> {
    /// The bias that lies in a tensor.
    #[inline(always)]
    pub fn new(tensor: PerScore) -> Self {
        Bias { tensor, element: PhantomData }
    }
}

impl<E: Element> ScoreMod for Bias<E> {
    #[inline(always)]
    fn given(&self) -> bool {
        self.tensor.given
    }

    #[inline(always)]
    unsafe fn apply(&self, score: f32, query: u32, key: u32) -> f32 {
        // SAFETY: given, and (query, key) lies inside: the caller's.
        float::fma(unsafe { E::load(self.tensor.at(query, key)) }, LOG2_E, score)
    }
}
