//! How the elements of a tensor lie in memory.

use flash_attention::{Device, Dtype, Result, Tensor};

/// Where the elements of a tensor `[batch, heads, rows, columns]` lie. The columns of a row always lie side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Row-major.
    #[default]
    Contiguous,
    /// As `[batch, rows, heads, columns]`.
    HeadsInside,
    /// As `[rows, heads, batch, columns]`.
    BatchInside,
    /// Cut out of wider rows: rows then start anywhere, which defeats accesses of several elements.
    Columns {
        /// Hidden columns before those that are shown.
        before: usize,
        /// And behind them.
        after: usize,
    },
    /// Cut out of a longer sequence.
    Rows {
        /// Hidden rows before those that are shown.
        before: usize,
        /// And behind them.
        after: usize,
    },
    /// All batch entries are the same elements.
    SharedBatch,
}

impl Memory {
    /// Puts values (row-major) on a device. What the tensor does not show is `hidden`.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub fn place(
        self,
        device: &Device,
        dtype: Dtype,
        values: &[f64],
        shape: [usize; 4],
        hidden: f64,
    ) -> Result<Tensor> {
        let [b, h, r, c] = shape;
        // The shape of the storage, where the first element lies, and the strides of batch entry, head and row.
        let (stored, first, strides) = match self {
            Memory::Contiguous => ([b, h, r, c], 0, [h * r * c, r * c, c]),
            Memory::HeadsInside => ([b, r, h, c], 0, [r * h * c, c, h * c]),
            Memory::BatchInside => ([r, h, b, c], 0, [c, b * c, h * b * c]),
            Memory::Columns { before, after } => {
                let wide = before + c + after;
                ([b, h, r, wide], before, [h * r * wide, r * wide, wide])
            }
            Memory::Rows { before, after } => {
                let long = before + r + after;
                ([b, h, long, c], before * c, [h * long * c, long * c, c])
            }
            Memory::SharedBatch => ([1, h, r, c], 0, [0, r * c, c]),
        };
        let mut storage = vec![hidden; stored.iter().product()];
        for (row, columns) in values.chunks_exact(c.max(1)).enumerate() {
            let start = first + row / r / h * strides[0] + row / r % h * strides[1] + row % r * strides[2];
            storage[start..start + c].copy_from_slice(columns);
        }
        let tensor = Tensor::from_slice(&Device::cpu(), &storage, &stored)?.cast(dtype)?.to_device(device)?;
        match self {
            Memory::Contiguous => Ok(tensor),
            Memory::HeadsInside => tensor.transpose(1, 2),
            Memory::BatchInside => tensor.transpose(0, 2),
            Memory::Columns { before, .. } => tensor.narrow(3, before, c),
            Memory::Rows { before, .. } => tensor.narrow(2, before, r),
            Memory::SharedBatch => tensor.expand(&shape),
        }
    }
}
