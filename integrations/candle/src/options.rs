//! What a caller can choose.

use candle_core::{DeviceLocation, Error, Result, Tensor};
use flash_attention::{Causal, Device};

/// Everything but q, k and v, with defaults that mean plain attention.
///
/// ```
/// use flash_attention_candle::Options;
/// use flash_attention_candle::flash_attention::{Causal, Device};
///
/// let mut options = Options::causal(Causal::UpperLeft);
/// options.attention.scale = Some(0.125);
/// options.device = Some(Device::emulator());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The options that are not tensors of candle: order of dimensions, causal mask, scale, backend, …
    /// Default: those of [`flash_attention::Options`].
    pub attention: flash_attention::Options,
    /// Which keys a query may see: u8, 0 = may not; `[batch, heads, queries, keys]`, where all but the keys may be 1 or,
    /// from the left, missing. Default: all.
    pub mask: Option<Tensor>,
    /// Added to the scaled scores; in the type of q, shaped as a mask. Its gradient is computed where candle tracks it.
    /// Default: nothing.
    pub bias: Option<Tensor>,
    /// ALiBi's slopes, f32 `[heads]` or `[batch, heads]` (heads of q). They get no gradient. Default: none.
    pub alibi: Option<Tensor>,
    /// One logit a head of q, f32 `[heads]`, that takes part in the softmax and has no value. Its gradient is computed where
    /// candle tracks it. Default: none.
    pub sinks: Option<Tensor>,
    /// Where it is computed. Default: candle's CPU on [`Device::cpu`], candle's CUDA device N on CUDA device N.
    pub device: Option<Device>,
    /// Whether backward computes the forward pass again, instead of keeping copies of q, k, v and out until then.
    /// Default: no.
    pub recompute: bool,
}

impl Options {
    /// Plain attention in which queries see keys by position.
    pub fn causal(causal: Causal) -> Options {
        let mut options = Options::default();
        options.attention.causal = causal;
        options
    }

    /// The device that computes for tensors of candle's `location`.
    pub(crate) fn device_for(&self, location: DeviceLocation) -> Result<Device> {
        match (&self.device, location) {
            (Some(device), _) => Ok(device.clone()),
            (None, DeviceLocation::Cpu) => Ok(Device::cpu()),
            (None, DeviceLocation::Cuda { gpu_id }) => {
                let ordinal = u32::try_from(gpu_id).map_err(Error::wrap)?;
                Device::cuda(ordinal).map_err(Error::wrap)
            }
            (None, DeviceLocation::Metal { .. }) => {
                candle_core::bail!("q is on a Metal device; allowed are the CPU and CUDA devices")
            }
        }
    }
}
