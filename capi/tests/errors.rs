//! Errors of the C interface: each has its code and a message that names the argument, and nothing is written.

mod support;

use std::ptr::{null, null_mut};

use flash_attention_c::call::{
    fa_backward, fa_backward_workspace, fa_forward, fa_forward_workspace, fa_problem_init,
};
use flash_attention_c::device::{
    fa_alloc, fa_device_close, fa_device_cuda, fa_device_emulator, fa_free, fa_read,
};
use flash_attention_c::error::{
    ERROR_ARGUMENT, ERROR_DEVICE, ERROR_REFUSED, ERROR_UNAVAILABLE, ERROR_WORKSPACE, OK,
};
use flash_attention_c::types::{
    BackwardTensors, Execution, ForwardTensors, Problem, Tensor, deterministic, dtype,
};
use support::{Emulator, good, last_error};

struct Calls {
    emulator: Emulator,
    problem: Problem,
    tensors: ForwardTensors,
}

impl Calls {
    fn new() -> Calls {
        let emulator = Emulator::new();
        let tensor = |of| emulator.tensor(&vec![0; 4 * 2048], of, &[2, 2, 16, 32]);
        let (q, out) = (tensor(dtype::F32), tensor(dtype::F32));
        let problem = Problem { q, k: q, v: q, ..Problem::default() };
        Calls { emulator, problem, tensors: ForwardTensors { out, lse: Tensor::default() } }
    }

    /// The code and the message of forward; where it fails, the output is still what it was.
    fn forward(&self, problem: &Problem, tensors: &ForwardTensors, execution: &Execution) -> (i32, String) {
        // SAFETY: the device is open; what is not its memory is refused, here or by the emulator.
        let code = unsafe { fa_forward(self.emulator.0, problem, tensors, execution) };
        let untouched = self.emulator.bytes(&self.tensors.out).iter().all(|&byte| byte == 0);
        assert!(code == OK || untouched, "{}", last_error());
        (code, if code == OK { String::new() } else { last_error() })
    }

    #[track_caller]
    fn refuses(&self, change: impl FnOnce(&mut Problem, &mut ForwardTensors), code: i32, words: &str) {
        let (mut problem, mut tensors) = (self.problem, self.tensors);
        change(&mut problem, &mut tensors);
        let (given, message) = self.forward(&problem, &tensors, &self.emulator.execution(4096));
        assert_eq!(given, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn wrong_arguments_are_named_with_what_was_given() {
    let calls = Calls::new();
    let argument = |change: fn(&mut Problem, &mut ForwardTensors), words| {
        calls.refuses(change, ERROR_ARGUMENT, words);
    };
    argument(|p, _| p.q.rank = 5, "q.rank is 5; it must be 0 to 4");
    argument(|p, _| p.k.rank = 0, "k is not given");
    argument(|p, _| p.v.dtype = 9, "v.dtype is 9");
    argument(|p, _| p.q.shape[1] = -2, "q.shape[1] is -2; it must be at least 0");
    argument(|p, _| p.q.strides[0] = -1, "q.strides[0] is -1");
    argument(|p, _| p.q.strides[3] = 2, "q has a stride of 2 elements in its last dimension");
    argument(|p, _| p.q.data = 0, "the address of q is 0x0");
    argument(|p, _| p.k.shape[3] = 16, "k has 16 columns, but q has 32");
    argument(|p, _| p.k.dtype = dtype::F16, "k is f16, but q is f32");
    argument(|p, _| p.causal = 7, "causal is 7");
    argument(|p, _| p.layout = 2, "layout is 2");
    argument(|p, _| p.backend = 3, "backend is 3");
    argument(|p, _| p.splits = -1, "splits is -1; it must be at least 1, or 0");
    argument(|p, _| p.splits = 129, "splits is 129; it must be 1 to 128, or 0");
    argument(|p, _| p.deterministic = 3, "deterministic is 3; it must be 0 (default), 1 (yes) or 2 (no)");
    argument(|p, _| p.reserved = 7, "reserved is 7; it must be 0");
    argument(|p, _| p.window_left = -2, "window_left is -2; it must be -1 (no bound) or at least 0");
    argument(|p, _| p.scale = f32::NAN, "scale is NaN");
    argument(|p, _| p.softcap = -1.0, "softcap is -1");
    argument(|p, _| p.dropout_p = 1.0, "dropout");
    argument(|_, t| t.out.shape[2] = 15, "out has the shape [2, 2, 15, 32]; it must be [2, 2, 16, 32]");
    argument(|_, t| t.out.strides[1] = 0, "the list of strides of out is [1024, 0, 32, 1]");
    argument(|_, t| t.lse = Tensor { dtype: dtype::F16, ..t.out }, "lse has the shape");
    argument(|p, t| t.out.data = p.q.data + 8188, "it must be apart from that of q, 0x");
}

#[test]
fn lists_are_checked() {
    let calls = Calls::new();
    let list = |lengths: &'static [i32], words| {
        let change = |p: &mut Problem, _: &mut ForwardTensors| {
            (p.key_lengths, p.batch) = (lengths.as_ptr(), lengths.len() as i64);
        };
        calls.refuses(change, ERROR_ARGUMENT, words);
    };
    list(&[16, -1], "key_lengths[1] is -1; it must be at least 0");
    list(&[16, 17], "key_lengths[1] is 17; it must be at most 16");
    list(&[16], "the length of key_lengths is 1; it must be 2");
    let offsets: &'static [i32] = &[0, 16];
    calls.refuses(
        |p, _| (p.query_offsets, p.batch) = (offsets.as_ptr(), 1),
        ERROR_ARGUMENT,
        "key_offsets is null; it must be given together with query_offsets",
    );
    calls.refuses(
        |p, _| (p.key_lengths, p.batch) = (offsets.as_ptr(), -1),
        ERROR_ARGUMENT,
        "batch is negative",
    );
}

#[test]
fn what_no_kernel_can_do_is_refused_with_the_reasons() {
    let calls = Calls::new();
    calls.refuses(
        |p, _| p.backend = 2,
        ERROR_REFUSED,
        "flash cannot run this: tensor cores multiply f16 and bf16",
    );
    let wide = calls.emulator.blank(dtype::F32, &[1, 1, 2, 300]);
    calls.refuses(
        |p, t| (p.q, p.k, p.v, t.out) = (wide, wide, wide, wide),
        ERROR_REFUSED,
        "efficient: head dim 300 is above 256",
    );
    let mut one = calls.problem;
    one.k.shape[0] = 1;
    let lse = calls.emulator.blank(dtype::F32, &[2, 2, 16]);
    let (out, k) = (calls.tensors.out, one.k);
    let tensors =
        BackwardTensors { out, lse, dout: out, dq: out, dk: k, dv: out, ..BackwardTensors::default() };
    // SAFETY: the device is open, and its tensors are allocated.
    let code = unsafe { fa_backward(calls.emulator.0, &one, &tensors, null()) };
    assert_eq!(code, ERROR_REFUSED, "{}", last_error());
    assert!(last_error().contains("k of shape [1, 2, 16, 32] is repeated to [2, 2, 16, 32]"));
}

#[test]
fn a_workspace_that_is_too_small_is_an_error_with_both_numbers() {
    let calls = Calls::new();
    let mut needed = 0;
    // SAFETY: the device is open, and nothing is touched.
    let code = unsafe { fa_forward_workspace(calls.emulator.0, &calls.problem, &calls.tensors, &mut needed) };
    assert_eq!((code, needed), (OK, 256));
    let short = calls.emulator.execution(255);
    assert_eq!(
        calls.forward(&calls.problem, &calls.tensors, &short),
        (ERROR_WORKSPACE, "the workspace has 255 bytes; this call needs 256".into())
    );
    // SAFETY: as above.
    let code = unsafe { fa_forward(calls.emulator.0, &calls.problem, &calls.tensors, null()) };
    assert_eq!(
        (code, last_error()),
        (ERROR_WORKSPACE, "the workspace has 0 bytes; this call needs 256".into())
    );
    let odd = Execution { workspace: short.workspace + 16, ..calls.emulator.execution(256) };
    let (code, message) = calls.forward(&calls.problem, &calls.tensors, &odd);
    assert_eq!(code, ERROR_ARGUMENT);
    assert!(message.starts_with("the address of the workspace is 0x"), "{message}");
    let lse = calls.emulator.blank(dtype::F32, &[2, 2, 16]);
    let with_lse = ForwardTensors { lse, ..calls.tensors };
    // SAFETY: as above. With a place for the log-sum-exp it needs no workspace at all.
    assert_eq!(unsafe { fa_forward(calls.emulator.0, &calls.problem, &with_lse, null()) }, OK);
}

/// Calls with every workspace below the one that is needed, in steps of the pieces that it is taken in, and then with that one.
fn refuse_all_smaller(
    emulator: &Emulator,
    outputs: &[&Tensor],
    needed: u64,
    call: impl Fn(&Execution) -> i32,
) {
    const PATTERN: u8 = 0x5a;
    let whole = emulator.execution(needed);
    emulator.write(whole.workspace, &vec![PATTERN; needed as usize]);
    for workspace_bytes in (0..needed).step_by(256).chain([needed - 1]) {
        let code = call(&Execution { workspace_bytes, ..whole });
        let words = format!("the workspace has {workspace_bytes} bytes; this call needs {needed}");
        assert_eq!((code, last_error()), (ERROR_WORKSPACE, words));
        let kept = emulator.read(whole.workspace, needed as usize);
        assert!(kept.iter().all(|&byte| byte == PATTERN), "the workspace, of {workspace_bytes} bytes");
        for output in outputs {
            assert!(emulator.bytes(output).iter().all(|&byte| byte == 0xff), "outputs");
        }
    }
    good(call(&whole));
    for output in outputs {
        assert!(emulator.bytes(output).iter().any(|&byte| byte != 0xff), "outputs are written");
    }
}

#[test]
fn a_call_whose_workspace_is_too_small_has_touched_no_memory() {
    let (emulator, lengths, offsets) = (Emulator::new(), [70, 17], [0, 5, 9]);
    let input =
        |shape: &[usize]| emulator.tensor(&vec![0; 2 * shape.iter().product::<usize>()], dtype::F16, shape);
    let (q, k) = (input(&[2, 4, 3, 64]), input(&[2, 2, 70, 64]));
    let padded = Problem { q, k, v: k, key_lengths: lengths.as_ptr(), batch: 2, ..Problem::default() };
    let packed = input(&[9, 2, 64]);
    let (query_offsets, key_offsets) = (offsets.as_ptr(), offsets.as_ptr());
    let ragged = Problem {
        q: packed,
        k: packed,
        v: packed,
        query_offsets,
        key_offsets,
        batch: 2,
        ..Problem::default()
    };
    // Lists, and what is left by parts of the keys or the sums of dq, which begin as zeros.
    let splits = Problem { splits: 3, ..padded };
    for (problem, shape, lse) in
        [(splits, &[2, 4, 3, 64][..], &[2, 4, 3][..]), (ragged, &[9, 2, 64], &[2, 9])]
    {
        let (out, none) = (emulator.blank(dtype::F16, shape), Tensor::default());
        let (tensors, mut needed) = (ForwardTensors { out, lse: none }, 0);
        // SAFETY: the device is open, and its tensors are allocated.
        good(unsafe { fa_forward_workspace(emulator.0, &problem, &tensors, &mut needed) });
        // SAFETY: as above.
        let call = |execution: &Execution| unsafe { fa_forward(emulator.0, &problem, &tensors, execution) };
        refuse_all_smaller(&emulator, &[&out], needed, call);

        let problem = Problem { splits: 0, deterministic: deterministic::NO, ..problem };
        let [dq, dk, dv] = [&problem.q, &problem.k, &problem.v].map(|tensor| {
            let sizes = tensor.shape[..tensor.rank as usize].iter().map(|&n| n as usize);
            emulator.blank(dtype::F16, &sizes.collect::<Vec<_>>())
        });
        let (lse, dout) = (
            emulator.tensor(&[0; 4 * 24][..4 * lse.iter().product::<usize>()], dtype::F32, lse),
            input(shape),
        );
        let tensors = BackwardTensors { out, lse, dout, dq, dk, dv, ..BackwardTensors::default() };
        // SAFETY: as above.
        good(unsafe { fa_backward_workspace(emulator.0, &problem, &tensors, &mut needed) });
        // SAFETY: as above.
        let call = |execution: &Execution| unsafe { fa_backward(emulator.0, &problem, &tensors, execution) };
        refuse_all_smaller(&emulator, &[&dq, &dk, &dv], needed, call);
    }
}

#[test]
fn streams_and_foreign_memory_are_errors_on_the_emulator() {
    let calls = Calls::new();
    let execution = Execution { stream: 8 as *mut _, ..calls.emulator.execution(256) };
    let (code, message) = calls.forward(&calls.problem, &calls.tensors, &execution);
    assert_eq!(
        (code, message.as_str()),
        (ERROR_ARGUMENT, "stream is 0x8; it must be null on the emulator, which has no streams")
    );
    calls.refuses(|p, _| p.q.data = 1 << 60, ERROR_DEVICE, "the kernel forward_f32_d32 failed on emulator");
}

#[test]
fn null_pointers_are_named() {
    let calls = Calls::new();
    let (problem, tensors) = (&calls.problem, &calls.tensors);
    let named = |code: i32, argument: &str| {
        assert_eq!((code, last_error()), (ERROR_ARGUMENT, format!("{argument} is a null pointer")));
    };
    let device = calls.emulator.0;
    // SAFETY: null pointers are what is tested; the others are live.
    unsafe {
        named(fa_forward(null(), problem, tensors, null()), "device");
        named(fa_forward(device, null(), tensors, null()), "problem");
        named(fa_forward(device, problem, null(), null()), "tensors");
        named(fa_forward_workspace(device, problem, tensors, null_mut()), "bytes");
        named(fa_device_emulator(0, null_mut()), "device");
        named(fa_alloc(device, 1, null_mut()), "address");
        named(fa_read(device, tensors.out.data, null_mut(), 1), "to");
        named(fa_problem_init(null_mut()), "problem");
        assert_eq!(fa_device_close(null_mut()), OK);
    }
}

#[test]
fn memory_is_freed_once_and_only_where_it_came_from() {
    let (one, other) = (Emulator::new(), Emulator::new());
    let address = one.alloc(100);
    // SAFETY: the devices are open; what is not theirs is refused.
    unsafe {
        assert_eq!(fa_free(other.0, address), ERROR_ARGUMENT);
        assert_eq!(fa_free(one.0, address), OK);
        assert_eq!(fa_free(one.0, address), ERROR_ARGUMENT);
        assert!(last_error().ends_with("which fa_alloc of this device did not give"));
        let mut byte = 0;
        assert_eq!(fa_read(one.0, address, &mut byte, 1), ERROR_DEVICE);
        assert_eq!(fa_alloc(one.0, u64::MAX, &mut 0), ERROR_ARGUMENT);
    }
}

#[test]
fn a_gpu_that_no_machine_has_is_unavailable() {
    let mut device = null_mut();
    // SAFETY: a place for the pointer.
    assert_eq!(unsafe { fa_device_cuda(4_000_000_000, &mut device) }, ERROR_UNAVAILABLE);
    assert!(device.is_null() && last_error().starts_with("cuda:4000000000 is not available: "));
}
