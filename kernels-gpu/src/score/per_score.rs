//! A tensor that has an element for each score.

use cuda_std::mem::GlobalAddr;
use flash_attention_abi::TensorParam;

/// The `[queries, keys]` part of one head of one batch entry: of a boolean mask, or of a bias.
#[derive(Clone, Copy)]
pub struct PerScore {
    /// Whether there is such a tensor.
    pub given: bool,
    /// Address of its first element.
    pub base: GlobalAddr,
    query_bytes: i64,
    key_bytes: u32,
}

impl PerScore {
    /// The part of a tensor whose elements have this many bytes.
    #[inline(always)]
    pub fn new(tensor: &TensorParam, batch: u32, head: u32, element_bytes: u32) -> Self {
        let offset = i64::from(batch) * tensor.batch_stride + i64::from(head) * tensor.head_stride;
        PerScore {
            given: tensor.address != 0,
            base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(offset)),
            query_bytes: tensor.row_stride,
            key_bytes: element_bytes,
        }
    }

    /// The part of a tensor that begins at an address.
    #[inline(always)]
    pub fn at_address(base: GlobalAddr, tensor: &TensorParam, element_bytes: u32) -> Self {
        PerScore {
            given: tensor.address != 0,
            base,
            query_bytes: tensor.row_stride,
            key_bytes: element_bytes,
        }
    }

    /// The address of an element.
    #[inline(always)]
    pub fn at(&self, query: u32, key: u32) -> GlobalAddr {
        self.base.offset_signed(i64::from(query) * self.query_bytes + i64::from(key * self.key_bytes))
    }
}
