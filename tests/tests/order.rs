//! Blocks with the most work begin first, so that short ones fill what is left at the end of a causal grid: observed on the emulator,
//! which names the block that reads what nobody wrote.

use flash_attention::ffi::{Loan, Saved, Targets};
use flash_attention::{Backend, Causal, Device, Dtype, EmulatorOptions, Error, Result, Tensor, sdpa};
use flash_attention_abi::FlashKernel;
use flash_attention_abi::tile::{backward_tile, forward_tile};
use half::f16;
use rstest::rstest;

/// Columns of every tensor.
const COLUMNS: usize = 32;

/// Blocks of the grid.
const BLOCKS: usize = 5;

/// Bytes of what the calls take beside their tensors, and more.
const WORKSPACE: usize = 1 << 20;

/// A kernel, and the rows that a block of it owns.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    backend: Backend,
    softcap: Option<f32>,
    name: &'static str,
    rows: usize,
}

fn efficient(name: &'static str, rows: u32) -> Kernel {
    Kernel { backend: Backend::Efficient, softcap: None, name, rows: rows as usize }
}

fn flash(name: &'static str, softcap: Option<f32>, rows: u32) -> Kernel {
    Kernel { backend: Backend::Flash, softcap, name, rows: rows as usize }
}

/// One causal head on an emulator. What it allocates goes with it.
struct Head {
    device: Device,
    kernel: Kernel,
    window: Option<usize>,
    out: u64,
    lse: u64,
    workspace: u64,
}

impl Head {
    fn new(kernel: Kernel, window: Option<usize>) -> Result<Head> {
        let device = Device::emulator_with(EmulatorOptions::default().checks(true));
        let bytes = BLOCKS * kernel.rows * COLUMNS * 2;
        let [out, lse, workspace] = [bytes, bytes, WORKSPACE].map(|bytes| device.allocate_bytes(bytes));
        Ok(Head { kernel, window, out: out?, lse: lse?, workspace: workspace?, device })
    }

    /// A tensor of ones that lacks the rows of one block, if one is named: nobody writes them.
    fn ones(&self, lacking: Option<usize>) -> Result<u64> {
        let block = vec![f16::ONE; self.kernel.rows * COLUMNS];
        let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
        let address = self.device.allocate_bytes(BLOCKS * bytes.len())?;
        for n in (0..BLOCKS).filter(|n| Some(*n) != lacking) {
            // SAFETY: block `n` of what was just allocated, which nothing else uses.
            unsafe { self.device.write_bytes(address + (n * bytes.len()) as u64, &bytes) }?;
        }
        Ok(address)
    }

    fn call(&self, [q, k, out]: [u64; 3], into: Option<[u64; 4]>) -> Result<()> {
        // SAFETY: the emulator has no streams, and nothing else uses its memory.
        let loan = unsafe { Loan::new(&self.device, std::ptr::null_mut(), self.workspace, WORKSPACE) }?;
        let rows = BLOCKS * self.kernel.rows;
        let tensor = |address: u64| -> Result<Tensor> {
            let (shape, strides) = ([1, 1, rows, COLUMNS], [0, 0, COLUMNS, 1]);
            // SAFETY: memory of this size, which nothing else uses meanwhile.
            unsafe { loan.tensor("a tensor", Dtype::F16, address, &shape, &strides) }
        };
        // SAFETY: as above.
        let lse = unsafe { loan.tensor("lse", Dtype::F32, self.lse, &[1, 1, rows], &[0, 0, 1]) }?;
        let (q, k, out) = (tensor(q)?, tensor(k)?, tensor(out)?);
        let mut call = sdpa(&q, &k, &k).causal(Causal::UpperLeft).window(self.window, None).splits(1);
        if let Some(softcap) = self.kernel.softcap {
            call = call.softcap(softcap);
        }
        let call = call.deterministic(true).backend(self.kernel.backend);
        let Some([dout, dq, dk, dv]) = into else { return call.run_into(&out, Some(&lse)).map(|_| ()) };
        let (dout, dq, dk, dv) = (tensor(dout)?, tensor(dq)?, tensor(dk)?, tensor(dv)?);
        let saved = Saved { out: &out, lse: &lse, dout: &dout, dlse: None };
        let targets = Targets { dq: &dq, dk: &dk, dv: &dv, dbias: None, dsinks: None };
        call.backward_into(&saved, &targets).map(|_| ())
    }
}

/// The block that read what nobody wrote is this one, of this kernel.
fn stopped_at(block: usize, kernel: &Kernel, outcome: Result<()>) {
    let message = outcome.map_err(|error: Error| error.to_string()).unwrap_err();
    for words in [format!("`{}`", kernel.name), format!("block ({block}, 0, 0)"), "never written".into()] {
        assert!(message.contains(&words), "'{words}' is not in: {message}");
    }
}

#[rstest]
#[case::efficient(efficient("forward_f16_d32", forward_tile(32).block_rows()))]
#[case::flash(flash("flash_forward_f16_d32", None, FlashKernel::Forward.tile(32, 32).block_rows()))]
#[case::general(flash("flash_general_f16_d32", Some(9.0), FlashKernel::General.tile(32, 32).block_rows()))]
fn the_last_queries_which_see_the_most_keys_begin_first(#[case] kernel: Kernel) {
    for queries in 0..BLOCKS {
        let head = Head::new(kernel, None).unwrap();
        let (whole, lacking) = (head.ones(None).unwrap(), head.ones(Some(queries)).unwrap());
        head.call([whole, whole, head.out], None).unwrap();
        stopped_at(BLOCKS - 1 - queries, &kernel, head.call([lacking, whole, head.out], None));
    }
}

/// Each block of keys meets, through a window of one key, the queries beside it alone.
#[rstest]
#[case::efficient(efficient("grad_key_value_f16_d32", backward_tile(32).block_rows()))]
#[case::flash(flash(
    "flash_grad_key_value_f16_d32",
    None,
    FlashKernel::GradKeyValue.grad_tile(32, 32).block_rows()
))]
#[case::general(flash(
    "flash_general_grad_key_value_f16_d32",
    Some(9.0),
    FlashKernel::GeneralGradKeyValue.grad_tile(32, 32).block_rows()
))]
fn the_first_keys_which_most_queries_see_begin_first(#[case] kernel: Kernel) {
    for keys in 0..BLOCKS {
        let head = Head::new(kernel, Some(0)).unwrap();
        let (whole, lacking) = (head.ones(None).unwrap(), head.ones(Some(keys)).unwrap());
        head.call([whole, whole, head.out], None).unwrap();
        let gradients = [whole; 3].map(|_| head.ones(None).unwrap());
        let [dq, dk, dv] = gradients;
        head.call([whole, whole, head.out], Some([whole, dq, dk, dv])).unwrap();
        stopped_at(keys, &kernel, head.call([lacking, whole, head.out], Some([whole, dq, dk, dv])));
    }
}
