//! Scores bounded by a hyperbolic tangent: `cap * tanh(score / cap)` (Gemma 2, arXiv 2408.00118, section 2).

use super::ScoreMod;
use core::f32::consts::LOG2_E;
use cuda_std::float;
use flash_attention_abi::ProblemParams;

/// Takes raw products `q · k`, and scales them on the way.
#[derive(Clone, Copy)]
pub struct Softcap {
    given: bool,
    /// `scale / cap`.
    inverse: f32,
    /// The cap in units of log2.
    cap: f32,
}

impl Softcap {
    /// The cap of a problem.
    #[inline(always)]
    pub fn new(problem: &ProblemParams) -> Self {
        Softcap {
            given: problem.softcap != 0.0,
            inverse: problem.scale * float::rcp_approx_ftz(problem.softcap),
            cap: problem.softcap * LOG2_E,
        }
    }
}

impl ScoreMod for Softcap {
    #[inline(always)]
    fn given(&self) -> bool {
        self.given
    }

    #[inline(always)]
    unsafe fn apply(&self, score: f32, _query: u32, _key: u32) -> f32 {
        self.cap * tanh(score * self.inverse)
    }

    #[inline(always)]
    fn slope(&self, after: f32) -> f32 {
        let share = after * float::rcp_approx_ftz(self.cap);
        float::fma(-share, share, 1.0)
    }
}

/// Where [`SERIES`] takes over from the exponential, whose result loses digits near 0.
const SMALL: f32 = 0.6;

/// Least-squares fit of `(tanh(x) / x - 1) / x²` in powers of `x²` for |x| to 0.64; tanh is within 1.6e-7 of itself.
const SERIES: [f32; 4] = [-0.333_322_05, 0.133_054_51, -0.051_803_734, 0.014_974_251];

/// The hyperbolic tangent, to a few units in the last place.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    // 1 - 2 / (e^2x + 1): the exponential may become 0 or infinite, and both give the right limit.
    let exponential = float::ex2_approx_ftz(x * (2.0 * LOG2_E));
    let large = float::fma(-2.0, float::rcp_approx_ftz(exponential + 1.0), 1.0);
    let square = x * x;
    let mut series = SERIES[3];
    series = float::fma(series, square, SERIES[2]);
    series = float::fma(series, square, SERIES[1]);
    series = float::fma(series, square, SERIES[0]);
    let small = float::fma(x * square, series, x);
    // A NaN compares false and stays one.
    if float::max(x, -x) < SMALL { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_within_a_few_units_in_the_last_place() {
        for i in -40_000..=40_000 {
            let x = i as f32 / 2000.0;
            let expected = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - expected).abs();
            assert!(error <= 3e-7 * expected.abs().max(1e-30), "{x}: {} for {expected}", tanh(x));
        }
        assert_eq!(
            [tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(1e30), tanh(0.0)],
            [1.0, -1.0, 1.0, 0.0]
        );
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn the_slope_is_the_derivative() {
        let problem = ProblemParams { scale: 0.5, softcap: 20.0, ..ProblemParams::default() };
        let softcap = Softcap::new(&problem);
        // SAFETY: reads no memory.
        let at = |raw: f32| unsafe { softcap.apply(raw, 0, 0) };
        for raw in [-90.0f32, -30.0, -1.0, 0.0, 3.0, 50.0] {
            let expected = f64::from(raw * 0.5 / 20.0).cosh().powi(-2);
            assert!((f64::from(softcap.slope(at(raw))) - expected).abs() < 2e-6);
            assert!(
                (f64::from(at(raw)) - 20.0 * f64::from(raw * 0.5 / 20.0).tanh() * std::f64::consts::LOG2_E)
                    .abs()
                    < 1e-4
            );
        }
    }
}
