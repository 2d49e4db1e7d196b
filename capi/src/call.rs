//! Forward, backward, the size of their workspaces, and the backend that runs.

use flash_attention::ffi::{CurrentContext, Loan, Saved, Targets};
use flash_attention::{Backend, Device, sdpa};

use crate::convert::{needed, optional, options};
use crate::device::{FaDevice, given, put};
use crate::error::{ERROR_WORKSPACE, Failure, guarded};
use crate::types::{BackwardTensors, Execution, ForwardTensors, Problem, backend};

/// Fills in plain attention: no tensor given, no option set.
///
/// # Safety
/// `problem` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_problem_init(problem: *mut Problem) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { put(problem, "problem", Problem::default()) })
}

/// What a pass does on a loan.
///
/// # Safety
/// As [`Loan::tensor`] for its tensors; the lists of the problem are null or of the length that its batch says.
trait Pass {
    unsafe fn run(&self, loan: &Loan, problem: &Problem) -> Result<(), Failure>;
}

impl Pass for ForwardTensors {
    unsafe fn run(&self, loan: &Loan, problem: &Problem) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        unsafe {
            let (q, k, v) = inputs(loan, problem)?;
            let (out, lse) = (needed(loan, "out", &self.out)?, optional(loan, "lse", &self.lse)?);
            sdpa(&q, &k, &v).options(options(loan, problem)?).run_into(&out, lse.as_ref())?;
        }
        Ok(())
    }
}

impl Pass for BackwardTensors {
    unsafe fn run(&self, loan: &Loan, problem: &Problem) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        unsafe {
            let (q, k, v) = inputs(loan, problem)?;
            let (out, lse) = (needed(loan, "out", &self.out)?, needed(loan, "lse", &self.lse)?);
            let (dout, dlse) = (needed(loan, "dout", &self.dout)?, optional(loan, "dlse", &self.dlse)?);
            let (dq, dk) = (needed(loan, "dq", &self.dq)?, needed(loan, "dk", &self.dk)?);
            let (dv, dbias) = (needed(loan, "dv", &self.dv)?, optional(loan, "dbias", &self.dbias)?);
            let dsinks = optional(loan, "dsinks", &self.dsinks)?;
            let saved = Saved { out: &out, lse: &lse, dout: &dout, dlse: dlse.as_ref() };
            let targets =
                Targets { dq: &dq, dk: &dk, dv: &dv, dbias: dbias.as_ref(), dsinks: dsinks.as_ref() };
            sdpa(&q, &k, &v).options(options(loan, problem)?).backward_into(&saved, &targets)?;
        }
        Ok(())
    }
}

type Inputs = (flash_attention::Tensor, flash_attention::Tensor, flash_attention::Tensor);

/// # Safety
/// As [`Loan::tensor`].
unsafe fn inputs(loan: &Loan, problem: &Problem) -> Result<Inputs, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        Ok((needed(loan, "q", &problem.q)?, needed(loan, "k", &problem.k)?, needed(loan, "v", &problem.v)?))
    }
}

/// The bytes that a pass takes from its workspace.
///
/// # Safety
/// As [`Pass::run`], but the tensors' memory is not touched.
unsafe fn count(device: &Device, problem: &Problem, pass: &impl Pass) -> Result<u64, Failure> {
    let loan = Loan::counting(device)?;
    // SAFETY: the caller's promise; nothing runs on a loan that counts.
    unsafe { pass.run(&loan, problem) }?;
    Ok(loan.used() as u64)
}

/// # Safety
/// The pointers are null or to live values; otherwise as [`count`].
unsafe fn workspace<P: Pass>(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const P,
    bytes: *mut u64,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let (device, problem) = (given(device, "device")?, given(problem, "problem")?);
        let tensors = given(tensors, "tensors")?;
        put(bytes, "bytes", count(&device.device, problem, tensors)?)
    }
}

/// # Safety
/// The pointers are null or to live values; the stream is null or one of the device, and the workspace memory of the device;
/// otherwise as [`Pass::run`].
unsafe fn execute<P: Pass>(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const P,
    execution: *const Execution,
) -> Result<(), Failure> {
    let _context = CurrentContext::keep();
    // SAFETY: the caller's promise.
    unsafe {
        let (device, problem) = (given(device, "device")?, given(problem, "problem")?);
        let tensors = given(tensors, "tensors")?;
        let Execution { stream, workspace, workspace_bytes } =
            execution.as_ref().copied().unwrap_or_default();
        let bytes = usize::try_from(workspace_bytes).unwrap_or(usize::MAX);
        let loan = Loan::new(&device.device, stream, workspace, bytes)?;
        tensors.run(&loan, problem).or_else(|failure| {
            if !loan.exceeded() {
                return Err(failure);
            }
            let needed = count(&device.device, problem, tensors)?;
            let message = format!("the workspace has {workspace_bytes} bytes; this call needs {needed}");
            Err(Failure { code: ERROR_WORKSPACE, message })
        })
    }
}

/// The bytes of workspace that `fa_forward` needs for the same arguments. Addresses count by their alignment alone.
///
/// # Safety
/// The pointers are null or to live values, and so are the problem's lists, of the length that its batch says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_forward_workspace(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const ForwardTensors,
    bytes: *mut u64,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { workspace(device, problem, tensors, bytes) })
}

/// The backend that `fa_forward` takes for the same arguments.
///
/// # Safety
/// As [`fa_forward_workspace`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_forward_backend(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const ForwardTensors,
    chosen: *mut i32,
) -> i32 {
    // SAFETY: the caller's promise; nothing runs on a loan that counts.
    guarded(|| unsafe {
        let (device, problem) = (given(device, "device")?, given(problem, "problem")?);
        let loan = Loan::counting(&device.device)?;
        let (q, k, v) = inputs(&loan, problem)?;
        let out = needed(&loan, "out", &given(tensors, "tensors")?.out)?;
        let taken = sdpa(&q, &k, &v).options(options(&loan, problem)?).backend_into(&out)?;
        let number = if taken == Backend::Flash { backend::FLASH } else { backend::EFFICIENT };
        put(chosen, "chosen", number)
    })
}

/// Computes the output, and the log-sum-exp where there is a place for it, in the order of the stream.
///
/// # Safety
/// The pointers are null or to live values, and so are the problem's lists, of the length that its batch says. Every tensor that
/// is given is memory of the device, and so is the workspace; until the work is done they live, and nothing else writes them. The
/// stream is null or a stream of the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_forward(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const ForwardTensors,
    execution: *const Execution,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { execute(device, problem, tensors, execution) })
}

/// The bytes of workspace that `fa_backward` needs for the same arguments. Addresses count by their alignment alone.
///
/// # Safety
/// As [`fa_forward_workspace`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_backward_workspace(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const BackwardTensors,
    bytes: *mut u64,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { workspace(device, problem, tensors, bytes) })
}

/// Computes the gradients, in the order of the stream.
///
/// # Safety
/// As [`fa_forward`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_backward(
    device: *const FaDevice,
    problem: *const Problem,
    tensors: *const BackwardTensors,
    execution: *const Execution,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { execute(device, problem, tensors, execution) })
}
