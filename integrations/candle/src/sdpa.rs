//! Scaled dot product attention as an operation of candle's autograd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor};
use flash_attention::{Device, Forward, Gradients};

use crate::convert::{from_attention, named, of_storage, to_storage};
use crate::options::Options;

/// Scaled dot product attention, `softmax(scale * q kᵀ + bias) v`, with gradients of q, k, v and, where candle tracks
/// them, of bias and sinks.
///
/// `q [b, hq, s, d]`, `k [b, hk, sk, d]`, `v [b, hk, sk, dv]` give `[b, hq, s, dv]`, contiguous, in the type of q (f32, f16
/// or bf16; arithmetic is in f32). hq is a multiple of hk: grouped and multi-query heads need no repetition. Tensors of rank 3
/// are `[batch, seq, dim]`, and [`attention.layout`](flash_attention::Options::layout) has the other order of rank 4. Any
/// strides will do.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use flash_attention_candle::flash_attention::Causal;
/// use flash_attention_candle::{Options, sdpa};
///
/// let q = Var::randn(0f32, 1.0, (2, 8, 16, 32), &Device::Cpu)?;
/// let kv = Tensor::randn(0f32, 1.0, (2, 2, 16, 32), &Device::Cpu)?;
/// let out = sdpa(&q, &kv, &kv, &Options::causal(Causal::LowerRight))?;
/// let gradients = out.sqr()?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&q).unwrap().dims(), [2, 8, 16, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// What [`flash_attention::Sdpa::forward`] finds wrong, in its words: they name the argument and the numbers. Where a mask,
/// bias, slopes or sinks are given both as a candle tensor and in `attention`, or the tensors are on no device that this
/// crate knows.
pub fn sdpa(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options) -> Result<Tensor> {
    let call = Arc::new(Call::new(q, options)?);
    // A CUDA storage comes to the host as a whole; a view of it is made contiguous there.
    let whole = |tensor: &Tensor| if q.device().is_cuda() { tensor.contiguous() } else { Ok(tensor.clone()) };
    let inputs = [whole(q)?, whole(k)?, whole(v)?];
    let [q, k, v] = &inputs;
    let mut out = q.apply_op3(k, v, Attention(call.clone()))?;
    let extras = [(Extra::Bias, &options.bias), (Extra::Sinks, &options.sinks)];
    let mut tracked = extras.into_iter().filter_map(|(extra, t)| Some((extra, tracked(t)?))).peekable();
    while let Some((extra, tensor)) = tracked.next() {
        let (call, inputs, outermost) = (call.clone(), inputs.clone(), tracked.peek().is_none());
        out = out.apply_op2(tensor, ExtraGradient { call, inputs, extra, outermost })?;
    }
    Ok(out)
}

/// The tensor, if there is one and candle tracks its gradient.
fn tracked(tensor: &Option<Tensor>) -> Option<&Tensor> {
    tensor.as_ref().filter(|tensor| tensor.track_op())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the operations of one call share.
struct Call {
    attention: flash_attention::Options,
    device: Device,
    recompute: bool,
    /// The forward pass, which candle does not hand to backward.
    forward: Mutex<Option<Forward>>,
    /// The gradients that an [`ExtraGradient`] has computed, for the operations whose backward follows on the same thread.
    computed: Mutex<Option<(ThreadId, Gradients)>>,
}

impl Call {
    fn new(q: &Tensor, options: &Options) -> Result<Call> {
        let device = options.device_for(q.device().location())?;
        let mut attention = options.attention.clone();
        let given = [
            ("mask", &options.mask, &mut attention.mask),
            ("bias", &options.bias, &mut attention.bias),
            ("alibi", &options.alibi, &mut attention.alibi),
            ("sinks", &options.sinks, &mut attention.sinks),
        ];
        for (argument, theirs, ours) in given {
            let Some(tensor) = theirs else { continue };
            if ours.is_some() {
                candle_core::bail!("{argument} is given twice, in Options and in Options::attention");
            }
            *ours = Some(named(tensor, argument, &device)?);
        }
        attention.bias_gradient = tracked(&options.bias).is_some();
        let recompute = options.recompute;
        Ok(Call { attention, device, recompute, forward: Mutex::default(), computed: Mutex::default() })
    }

    fn attend(&self, [q, k, v]: [flash_attention::Tensor; 3]) -> Result<Forward> {
        flash_attention::sdpa(&q, &k, &v).options(self.attention.clone()).forward().map_err(Error::wrap)
    }

    /// The forward pass of an operation: its output, after keeping what backward needs.
    fn forward(&self, [q, k, v]: [(&CpuStorage, &Layout); 3]) -> Result<(CpuStorage, Shape)> {
        let ours = |name, (storage, layout)| of_storage(storage, layout, name, &self.device);
        let forward = self.attend([ours("q", q)?, ours("k", k)?, ours("v", v)?])?;
        let out = to_storage(forward.output())?;
        let shape = forward.output().shape().into();
        if !self.recompute {
            *lock(&self.forward) = Some(forward);
        }
        Ok((out, shape))
    }

    /// The gradients for `dout`, computed.
    fn compute(&self, [q, k, v]: [&Tensor; 3], dout: &Tensor) -> Result<Gradients> {
        let kept = lock(&self.forward).clone();
        let forward = match kept {
            Some(forward) => forward,
            None => {
                let ours = |name, tensor| named(tensor, name, &self.device);
                self.attend([ours("q", q)?, ours("k", k)?, ours("v", v)?])?
            }
        };
        // A gradient may come with any strides; attention wants the last dimension contiguous, and `named` makes it so.
        forward.backward(&named(dout, "dout", &self.device)?).map_err(Error::wrap)
    }

    /// What an operation further out has computed in this backward pass.
    fn computed(&self) -> Option<Gradients> {
        let computed = lock(&self.computed).take();
        computed.and_then(|(thread, gradients)| (thread == thread::current().id()).then_some(gradients))
    }
}

/// Attention of q, k and v.
struct Attention(Arc<Call>);

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "flash-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward([(q, q_layout), (k, k_layout), (v, v_layout)])
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        q_layout: &Layout,
        k: &CudaStorage,
        k_layout: &Layout,
        v: &CudaStorage,
        v_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let [on_host_q, on_host_k, on_host_v] = [q, k, v].map(BackendStorage::to_cpu_storage);
        let inputs = [(&on_host_q?, q_layout), (&on_host_k?, k_layout), (&on_host_v?, v_layout)];
        let (out, shape) = self.0.forward(inputs)?;
        Ok((q.device().storage_from_cpu_storage_owned(out)?, shape))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradients = match self.0.computed() {
            Some(gradients) => gradients,
            None => self.0.compute([q, k, v], dout)?,
        };
        let theirs = |gradient| from_attention(gradient, q.device()).map(Some);
        Ok((theirs(&gradients.dq)?, theirs(&gradients.dk)?, theirs(&gradients.dv)?))
    }
}

/// A tensor that gets a gradient beside those of q, k and v.
#[derive(Clone, Copy)]
enum Extra {
    Bias,
    Sinks,
}

/// Hands attention's output on and ties one more tensor to it, for which a [`CustomOp3`] has no room.
struct ExtraGradient {
    call: Arc<Call>,
    inputs: [Tensor; 3],
    extra: Extra,
    /// Whether it is the last of its call, so that its backward comes first.
    outermost: bool,
}

impl CustomOp2 for ExtraGradient {
    fn name(&self) -> &'static str {
        "flash-attention-extra"
    }

    fn cpu_fwd(
        &self,
        out: &CpuStorage,
        layout: &Layout,
        _extra: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((out.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        out: &CudaStorage,
        layout: &Layout,
        _extra: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((out.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        _out: &Tensor,
        extra: &Tensor,
        _res: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // What an earlier backward pass may have left is no one's.
        let computed = self.call.computed().filter(|_| !self.outermost);
        let gradients = match computed {
            Some(gradients) => gradients,
            None => self.call.compute(self.inputs.each_ref(), dout)?,
        };
        let gradient = match self.extra {
            Extra::Bias => &gradients.dbias,
            Extra::Sinks => &gradients.dsinks,
        };
        let gradient =
            gradient.as_ref().map(|gradient| from_attention(gradient, extra.device())).transpose()?;
        *lock(&self.call.computed) = Some((thread::current().id(), gradients));
        Ok((Some(dout.clone()), gradient))
    }
}
