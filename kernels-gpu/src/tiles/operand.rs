//! A matrix in global memory: the rows of one head of one batch entry of a tensor.

use crate::element::Element;
use core::marker::PhantomData;
use cuda_std::mem::GlobalAddr;
use flash_attention_abi::TensorParam;

/// A view `[rows, columns]` with contiguous columns. Elements outside it read as 0.
#[derive(Clone, Copy)]
pub struct Operand<E> {
    base: GlobalAddr,
    row_bytes: i64,
    /// Rows of the view.
    pub rows: u32,
    /// Columns of the view.
    pub columns: u32,
    /// Whether rows start at multiples of 16 bytes and consist of whole 16-byte pieces.
    pub aligned: bool,
    element: PhantomData<E>,
}

impl<E: Element> Operand<E> {
    /// The matrix that begins `offset` bytes into a tensor.
    #[inline(always)]
    pub fn new(tensor: &TensorParam, offset: i64, rows: u32, columns: u32, aligned: bool) -> Self {
        Operand {
            base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(offset)),
            row_bytes: tensor.row_stride,
            rows,
            columns,
            aligned,
            element: PhantomData,
        }
    }

    /// The matrix that begins at an address, with the rows' distance of a tensor.
    #[inline(always)]
    pub fn at_address(
        base: GlobalAddr,
        tensor: &TensorParam,
        rows: u32,
        columns: u32,
        aligned: bool,
    ) -> Self {
        Operand { base, row_bytes: tensor.row_stride, rows, columns, aligned, element: PhantomData }
    }

    /// Address of the first element.
    #[inline(always)]
    pub fn base(&self) -> GlobalAddr {
        self.base
    }

    /// Address of an element.
    #[inline(always)]
    pub fn at(&self, row: u32, column: u32) -> GlobalAddr {
        self.base.offset_signed(i64::from(row) * self.row_bytes + i64::from(column * E::BYTES))
    }

    /// Bytes from one row to the next.
    #[inline(always)]
    pub fn row_bytes(&self) -> i64 {
        self.row_bytes
    }

    /// Whether an element lies inside.
    #[inline(always)]
    pub fn contains(&self, row: u32, column: u32) -> bool {
        row < self.rows && column < self.columns
    }

    /// Rounds and writes four elements side by side, those of them that lie inside.
    ///
    /// # Safety
    /// The tensor is writable and no other thread writes these elements.
    #[inline(always)]
    pub unsafe fn store4(&self, row: u32, column: u32, values: [f32; 4]) {
        if self.aligned {
            if self.contains(row, column) {
                // SAFETY: inside; aligned rows are made of whole pieces, so the other three are inside too.
                unsafe { E::store4(self.at(row, column), values) }
            }
        } else {
            for e in 0..4 {
                if self.contains(row, column + e as u32) {
                    // SAFETY: inside.
                    unsafe { E::store(self.at(row, column + e as u32), values[e]) }
                }
            }
        }
    }
}
