//! Attention on the memory and the stream of another program: what the C interface stands on.
//!
//! A [`Loan`] is a device for one call: its work goes onto a stream that the program gives, and all memory that it takes comes
//! from a workspace that the program gives. [`Loan::tensor`] shows the program's memory as tensors, [`Sdpa::run_into`] and
//! [`Sdpa::backward_into`] write results there. A loan that counts ([`Loan::counting`]) runs the same calls, does nothing, and
//! tells how large the workspace has to be. Unlike those of the library's own, the elements of such tensors change: with what is written
//! to their memory.
//!
//! ```
//! use flash_attention::{Device, Dtype, Tensor, ffi, sdpa};
//!
//! let device = Device::emulator();
//! let call = |loan: &ffi::Loan, address| {
//!     // SAFETY: nothing is read or written on a loan that counts.
//!     let tensor = unsafe { loan.tensor("q", Dtype::F16, address, &[1, 2, 64, 32], &[4096, 2048, 32, 1]) }?;
//!     sdpa(&tensor, &tensor, &tensor).key_lengths(&[50]).run_into(&tensor, None)
//! };
//! let loan = ffi::Loan::counting(&device)?;
//! call(&loan, 0)?;
//! // The log-sum-exp, which is not asked for, and the one length.
//! assert_eq!(loan.used(), 512 + 256);
//! # Ok::<(), flash_attention::Error>(())
//! ```

use std::ffi::c_void;
use std::sync::Arc;

use crate::attention::Sdpa;
use crate::autograd::Gradients;
use crate::choice::Explanation;
use crate::device::accelerator::Accelerator;
use crate::device::lent::{ALIGNMENT, Lent};
use crate::device::{Device, KeepContext};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Backend;
use crate::problem::Problem;
use crate::problem::written::check_contiguous;
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::view::{View, checked_count};
use crate::{backend, efficient, empty, plan};

mod overlap;

/// What the address of a workspace must be a multiple of, and what every part of one is rounded up to, in bytes.
pub const WORKSPACE_ALIGNMENT: usize = ALIGNMENT;

/// A device for one call of another program. Work is put onto the program's stream and not waited for.
#[derive(Debug)]
pub struct Loan {
    lent: Arc<Lent>,
    device: Device,
    counting: bool,
}

fn wrong(argument: impl Into<String>, given: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Value { argument: argument.into(), given: given.to_string(), allowed: allowed.into() }
}

fn accelerator(device: &Device) -> Result<&Arc<dyn Accelerator>> {
    device.accelerator().ok_or_else(|| wrong("device", device, "a CUDA device or an emulator"))
}

impl Loan {
    fn of(lent: Lent, counting: bool) -> Loan {
        let lent = Arc::new(lent);
        Loan { device: Device::new(lent.clone()), lent, counting }
    }

    /// A loan on which calls do nothing, and the memory that they would take is counted.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU, where no kernel runs.
    pub fn counting(device: &Device) -> Result<Loan> {
        Ok(Loan::of(Lent::counting(accelerator(device)?.clone()), true))
    }

    /// A loan whose work goes onto `stream` (null: the device's default stream; on the emulator always) and whose memory is the
    /// `bytes` bytes at `workspace`.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU, for a stream on the emulator, and where the workspace does not begin at a multiple of
    /// [`WORKSPACE_ALIGNMENT`].
    ///
    /// # Safety
    /// `stream` is null or a stream of the device, and lives until all work of the loan is done. So does the workspace, which is
    /// memory of the device that nothing else uses meanwhile.
    pub unsafe fn new(device: &Device, stream: *mut c_void, workspace: u64, bytes: usize) -> Result<Loan> {
        if !workspace.is_multiple_of(ALIGNMENT as u64) {
            let allowed = format!("a multiple of {ALIGNMENT}");
            return Err(wrong("the address of the workspace", format!("{workspace:#x}"), allowed));
        }
        if bytes > 0 && workspace.checked_add(bytes as u64).is_none_or(|_| workspace == 0) {
            let given = format!("{workspace:#x} for {bytes} bytes");
            return Err(wrong("the address of the workspace", given, "that of memory"));
        }
        // SAFETY: the caller's promise about the stream.
        let inner = unsafe { accelerator(device)?.clone().on_stream(stream) }?;
        Ok(Loan::of(Lent::new(inner, workspace, bytes), false))
    }

    /// The device of the loan's tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of the workspace that were taken so far. What is taken stays taken: one loan is for one call.
    pub fn used(&self) -> usize {
        self.lent.used()
    }

    /// Whether a call failed because the workspace is too small.
    pub fn exceeded(&self) -> bool {
        self.lent.exceeded()
    }

    /// The program's memory as a tensor: its first element is at `address`, strides count elements. `argument` is what errors
    /// call it. On a loan that counts the address may be 0.
    ///
    /// # Errors
    /// [`Error::Value`] where the address is 0 or no multiple of the element's size, or the memory would end behind the last
    /// address; [`Error::Rank`] where there are not as many strides as dimensions; [`Error::TooLarge`] where the shape overflows.
    ///
    /// # Safety
    /// Until all work of the loan is done, every element is memory of the device that is used by this loan alone where a call
    /// writes to it, and not written by anything where a call reads it. On a loan that counts nothing is touched.
    pub unsafe fn tensor(
        &self,
        argument: &'static str,
        dtype: Dtype,
        address: u64,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Tensor> {
        if strides.len() != shape.len() {
            let allowed = format!("{}, as many as it has strides", strides.len());
            return Err(Error::Rank { argument, rank: shape.len(), allowed });
        }
        let limit = isize::MAX as u128;
        let count = checked_count(shape).ok_or_else(|| {
            let given = shape.iter().fold(1u128, |n, &s| n.saturating_mul(s as u128));
            Error::TooLarge { argument, what: "elements", given, limit: limit / dtype.size() as u128 }
        })?;
        let steps =
            shape.iter().zip(strides).map(|(&n, &s)| (n.max(1) as u128 - 1).saturating_mul(s as u128));
        let reach = steps.fold(1u128, u128::saturating_add).saturating_mul(dtype.size() as u128);
        if count > 0 && (reach > limit || u128::from(address) + reach > u128::from(u64::MAX)) {
            return Err(Error::TooLarge {
                argument,
                what: "bytes from its first to its last element",
                given: reach,
                limit,
            });
        }
        let null = address == 0 && count > 0 && !self.counting;
        if null || !address.is_multiple_of(dtype.size() as u64) {
            let allowed = format!("that of memory, a multiple of the {} bytes of {dtype}", dtype.size());
            return Err(wrong(format!("the address of {argument}"), format!("{address:#x}"), allowed));
        }
        let storage = Storage::Foreign { accelerator: self.lent.clone(), address };
        let view = View { shape: shape.to_vec(), strides: strides.to_vec(), offset: 0 };
        Ok(Tensor::of(&self.device, dtype, storage, view))
    }
}

/// While it lives, calls may make another CUDA context the calling thread's current one; when it is dropped, the one from before
/// is back. For programs that have contexts of their own. It belongs to its thread.
#[must_use = "the context is put back when this is dropped"]
pub struct CurrentContext {
    _kept: KeepContext,
}

impl CurrentContext {
    /// Remembers the calling thread's context, where there is a driver.
    pub fn keep() -> CurrentContext {
        CurrentContext { _kept: KeepContext::new() }
    }
}

/// Device memory for a program without an allocator of its own.
impl Device {
    /// The address of `bytes` (0 counts as 1) uninitialised bytes on the device, at a multiple of 256, for work on any stream. Freed by
    /// [`Device::free_bytes`] alone.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU; [`Error::Device`] where there is no memory left.
    pub fn allocate_bytes(&self, bytes: usize) -> Result<u64> {
        accelerator(self)?.allocate_shared(bytes.max(1))
    }

    /// Gives memory back to the driver, for which CUDA waits for the device.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU; what went wrong on the device.
    ///
    /// # Safety
    /// [`Device::allocate_bytes`] of this device gave the address for as many bytes, and nothing uses it any more.
    pub unsafe fn free_bytes(&self, address: u64, bytes: usize) -> Result<()> {
        accelerator(self)?.free_shared(address, bytes.max(1))
    }

    /// Copies to the device's memory, after what was launched on the default stream and on the device's own; done when this returns,
    /// so that work on any stream sees it.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU; what goes wrong on the device.
    ///
    /// # Safety
    /// The range at `address` is memory of the device that nothing else uses meanwhile.
    pub unsafe fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let accelerator = accelerator(self)?;
        if bytes.is_empty() { Ok(()) } else { accelerator.write(address, bytes) }
    }

    /// Copies from the device's memory, after what was launched on the default stream and on the device's own; done when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Value`] on the CPU; what goes wrong on the device.
    ///
    /// # Safety
    /// The range at `address` is memory of the device that nothing writes meanwhile.
    pub unsafe fn read_bytes(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let accelerator = accelerator(self)?;
        if bytes.is_empty() { Ok(()) } else { accelerator.read(address, bytes) }
    }
}

/// What backward reads beside q, k and v.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// What forward wrote.
    pub out: &'a Tensor,
    /// What forward wrote; contiguous.
    pub lse: &'a Tensor,
    /// The gradient of the output, in its shape and type.
    pub dout: &'a Tensor,
    /// The gradient of the log-sum-exp, f32 in its shape, contiguous; where it is used.
    pub dlse: Option<&'a Tensor>,
}

/// Where backward writes, each of the shape and type of its tensor.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The gradient of q.
    pub dq: &'a Tensor,
    /// The gradient of k.
    pub dk: &'a Tensor,
    /// The gradient of v.
    pub dv: &'a Tensor,
    /// The gradient of the bias, if it is wanted.
    pub dbias: Option<&'a Tensor>,
    /// The gradient of the sinks, if it is wanted; contiguous.
    pub dsinks: Option<&'a Tensor>,
}

/// Calls that write into given tensors. They run on the kernels alone: `Math`, which computes in the host's memory, is never
/// taken, and [`Backend::Auto`] means `Flash`, then `Efficient`.
impl Sdpa<'_> {
    /// The backend that [`Sdpa::run_into`] would take for this output.
    ///
    /// # Errors
    /// As [`Sdpa::run_into`].
    pub fn backend_into(&self, out: &Tensor) -> Result<Backend> {
        let problem = self.problem()?;
        problem.check_written("out", out, problem.dtype(), &problem.out_shape())?;
        choose(&problem, &[("out", &problem.heads_first(out)?)])
    }

    /// Computes the output into `out`, of any strides with 1 in the last dimension, and the log-sum-exp into `lse`, contiguous,
    /// if it is given. Says which backend ran.
    ///
    /// # Errors
    /// As [`Sdpa::run`], and where a tensor has not the shape, type and device of what is written to it, or lies where another tensor
    /// does (found where neither has gaps); all but what goes wrong on the device before anything is launched.
    pub fn run_into(self, out: &Tensor, lse: Option<&Tensor>) -> Result<Backend> {
        let problem = self.problem()?;
        problem.check_written("out", out, problem.dtype(), &problem.out_shape())?;
        lse.map(|lse| problem.check_per_query("lse", lse)).transpose()?;
        let backend = choose(&problem, &[("out", &problem.heads_first(out)?)])?;
        if problem.is_empty() {
            clear(out)?;
            return lse
                .map_or(Ok(()), |lse| copy(&empty::lse(&problem, &Device::cpu())?, lse))
                .map(|()| backend);
        }
        self.check_apart(&[("out", Some(out)), ("lse", lse)], &[])?;
        let own = match lse {
            Some(lse) => lse.clone(),
            None => Tensor::uninitialized(problem.device(), Dtype::F32, &problem.lse_shape())?,
        };
        efficient::forward_into(&problem, backend, out, &own)?;
        Ok(backend)
    }

    /// Checks that what is written lies apart from q, k, v, the tensors of the options, and what else is read, where that can be
    /// told. On a loan that counts addresses mean nothing.
    fn check_apart(
        &self,
        written: &[(&str, Option<&Tensor>)],
        read: &[(&str, Option<&Tensor>)],
    ) -> Result<()> {
        if accelerator(self.q.device())?.counts() {
            return Ok(());
        }
        let options = &self.options;
        let inputs = [
            ("q", Some(self.q)),
            ("k", Some(self.k)),
            ("v", Some(self.v)),
            ("mask", options.mask.as_ref()),
            ("bias", options.bias.as_ref()),
            ("alibi", options.alibi.as_ref()),
            ("sinks", options.sinks.as_ref()),
        ];
        overlap::check(written, &[&inputs, read].concat())
    }

    /// Computes the gradients into given tensors. Says which backend ran.
    ///
    /// # Errors
    /// As [`Sdpa::run_into`]; [`Error::Refused`] where q, k or v is repeated to the batch or heads of another, so that its gradient
    /// would have to be summed.
    pub fn backward_into(self, saved: &Saved<'_>, into: &Targets<'_>) -> Result<Backend> {
        let problem = self.problem()?;
        let Saved { out, lse, dout, dlse } = *saved;
        problem.check_written("out", out, problem.dtype(), &problem.out_shape())?;
        problem.check_per_query("lse", lse)?;
        let dout = problem.check_output_gradient(dout)?;
        dlse.map(|dlse| problem.check_per_query("dlse", dlse)).transpose()?;
        check_gradients(&problem, into)?;
        let shown = [("out", out), ("dq", into.dq), ("dk", into.dk), ("dv", into.dv)]
            .map(|(name, tensor)| problem.heads_first(tensor).map(|tensor| (name, tensor)));
        let shown = shown.into_iter().collect::<Result<Vec<_>>>()?;
        let mut aligned: Vec<(&str, &Tensor)> = shown.iter().map(|(name, tensor)| (*name, tensor)).collect();
        aligned.push(("dout", &dout));
        let backend = choose(&problem, &aligned)?;
        if problem.is_empty() {
            return empty_gradients(&problem, dlse, into).map(|()| backend);
        }
        let targets = [
            ("dq", Some(into.dq)),
            ("dk", Some(into.dk)),
            ("dv", Some(into.dv)),
            ("dbias", into.dbias),
            ("dsinks", into.dsinks),
        ];
        let read = [("out", Some(out)), ("lse", Some(lse)), ("dout", Some(saved.dout)), ("dlse", dlse)];
        self.check_apart(&targets, &read)?;
        let gradients = Gradients {
            dq: into.dq.clone(),
            dk: into.dk.clone(),
            dv: into.dv.clone(),
            dbias: into.dbias.cloned(),
            dsinks: into.dsinks.cloned(),
        };
        efficient::backward_into(&problem, out, lse, &dout, dlse, &gradients, backend)?;
        Ok(backend)
    }
}

fn check_gradients(problem: &Problem, into: &Targets<'_>) -> Result<()> {
    let sizes = problem.sizes;
    let (queries, keys) = (problem.query_rows(), problem.key_rows());
    let full = [
        problem.outer_shape(sizes.query_heads, queries, sizes.head_dim),
        problem.outer_shape(sizes.key_heads, keys, sizes.head_dim),
        problem.outer_shape(sizes.key_heads, keys, sizes.value_dim),
    ];
    let names = [("q", "dq", into.dq), ("k", "dk", into.dk), ("v", "dv", into.dv)];
    for ((name, argument, tensor), (given, full)) in names.into_iter().zip(problem.given.iter().zip(full)) {
        if *given != full {
            return Err(Error::Refused {
                verdict: "backward cannot write this gradient".into(),
                reasons: format!(
                    "{name} of shape {given:?} is repeated to {full:?}, and nothing sums over that"
                ),
            });
        }
        problem.check_written(argument, tensor, problem.dtype(), given)?;
    }
    let missing = |argument, of| wrong(argument, "given", format!("left out where there are no {of}"));
    if let Some(dbias) = into.dbias {
        let bias = problem.options.bias.as_ref().ok_or_else(|| missing("dbias", "biases"))?;
        problem.check_written("dbias", dbias, problem.dtype(), bias.shape())?;
    }
    if let Some(dsinks) = into.dsinks {
        let sinks = problem.sinks.as_ref().ok_or_else(|| missing("dsinks", "sinks"))?;
        problem.check_written("dsinks", dsinks, Dtype::F32, sinks.shape())?;
        check_contiguous("dsinks", dsinks)?;
    }
    Ok(())
}

/// The first of the backends that are asked for that can, given tensors of four dimensions that it reads and writes beside q,
/// k and v.
fn choose(problem: &Problem, tensors: &[(&str, &Tensor)]) -> Result<Backend> {
    const ALL: [Backend; 2] = [Backend::Flash, Backend::Efficient];
    let asked = backend::asked(&problem.options);
    let mut wanted: Vec<Backend> = vec![];
    for backend in if asked.is_empty() { vec![Backend::Auto] } else { asked } {
        match backend {
            Backend::Auto => wanted.extend(ALL),
            Backend::Math => {
                return Err(Error::Refused {
                    verdict: "math cannot run this".into(),
                    reasons: "it computes in the host's memory, and this call stays on the device's".into(),
                });
            }
            other => wanted.push(other),
        }
    }
    let mut explanation = Explanation::new(problem);
    let flash = explanation.verdicts.iter_mut().filter(|verdict| verdict.backend == Backend::Flash);
    for verdict in flash {
        let unaligned = tensors.iter().filter(|(_, tensor)| !plan::is_aligned(tensor));
        verdict.reasons.extend(unaligned.map(|(name, _)| {
            format!(
                "it copies 16 bytes at a time, and the rows of {name} do not all begin and end at multiples of 16"
            )
        }));
    }
    explanation.choose(&wanted)
}

/// The address and bytes of a tensor's runs of elements; one where it is contiguous.
fn runs(tensor: &Tensor, mut each: impl FnMut(u64, usize) -> Result<()>) -> Result<()> {
    let size = tensor.dtype().size();
    if tensor.is_contiguous() {
        return if tensor.count() == 0 { Ok(()) } else { each(tensor.address(), tensor.count() * size) };
    }
    let mut done = Ok(());
    let begin = tensor.address();
    tensor.view().runs(|start, length, _| {
        if done.is_ok() {
            done = each(begin + (start * size) as u64, length * size);
        }
    });
    done
}

/// Fills a tensor with zeros. Its last dimension is contiguous.
fn clear(tensor: &Tensor) -> Result<()> {
    let accelerator = accelerator(tensor.device())?;
    runs(tensor, |address, bytes| accelerator.zero(address, bytes))
}

/// Copies a tensor of the host's memory to a contiguous one of the same shape.
fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let (accelerator, bytes) = (accelerator(to.device())?, from.to_bytes()?);
    if bytes.is_empty() { Ok(()) } else { accelerator.upload(to.address(), &bytes) }
}

/// The gradients of a problem without queries or keys.
fn empty_gradients(problem: &Problem, dlse: Option<&Tensor>, into: &Targets<'_>) -> Result<()> {
    for tensor in [Some(into.dq), Some(into.dk), Some(into.dv), into.dbias].into_iter().flatten() {
        clear(tensor)?;
    }
    match (into.dsinks, &problem.sinks) {
        (Some(dsinks), Some(sinks)) => {
            copy(&empty::sink_gradient(problem, sinks, dlse, &Device::cpu())?, dsinks)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
