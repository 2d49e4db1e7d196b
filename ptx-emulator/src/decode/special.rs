//! Special registers: `%tid`, `%laneid`, `%clock` and their like.

use super::forms::{Kind, Target};
use super::frame::{Class, Special};
use super::function::{Decoded, FunctionDecoder};
use crate::memory::PARAM_WINDOW;
use crate::ops::{self, pick};

/// Bytes of shared memory that the system reserves from sm_80 on.
pub(crate) const RESERVED: u64 = 1024;
/// Its name among the shared variables of an entry that asks where it lies.
const RESERVED_NAME: &str = "%reserved_smem";

impl FunctionDecoder<'_, '_> {
    /// The register of a 32-bit special register, if the name is one.
    pub(super) fn special(&mut self, name: &str) -> Decoded<Option<u32>> {
        let Some(name) = name.strip_prefix('%') else { return Ok(None) };
        let axis = |prefix: &str| match name.strip_prefix(prefix) {
            Some(".x") => Some(0),
            Some(".y") => Some(1),
            Some(".z") => Some(2),
            _ => None,
        };
        let special = if let Some(k) = axis("tid") {
            Special::Tid(k)
        } else if let Some(k) = axis("ntid") {
            Special::Ntid(k)
        } else if let Some(k) = axis("ctaid") {
            Special::Ctaid(k)
        } else if let Some(k) = axis("nctaid") {
            Special::Nctaid(k)
        } else if let Some(k) = axis("cluster_ctaid") {
            Special::ClusterCtaid(k)
        } else if let Some(k) = axis("cluster_nctaid") {
            Special::ClusterNctaid(k)
        } else if let Some(k) = axis("clusterid") {
            Special::Clusterid(k)
        } else if let Some(k) = axis("nclusterid") {
            Special::Nclusterid(k)
        } else {
            match name {
                "cluster_ctarank" => Special::ClusterRank,
                "cluster_nctarank" => Special::ClusterSize,
                "laneid" => Special::LaneId,
                "warpid" => Special::WarpId,
                "nwarpid" => Special::NumWarps,
                "smid" => Special::SmId,
                "nsmid" => Special::NumSm,
                "gridid" => Special::GridId,
                "lanemask_eq" => Special::MaskEq,
                "lanemask_le" => Special::MaskLe,
                "lanemask_lt" => Special::MaskLt,
                "lanemask_ge" => Special::MaskGe,
                "lanemask_gt" => Special::MaskGt,
                "dynamic_smem_size" => Special::DynamicShared,
                "total_smem_size" => Special::TotalShared { unit: self.shared_unit() },
                "aggr_smem_size" => Special::AggregateShared { unit: self.shared_unit() },
                "reserved_smem_offset_begin" | "reserved_smem_offset_0" => return Ok(Some(self.reserved(0))),
                "reserved_smem_offset_1" => return Ok(Some(self.reserved(RESERVED / 2))),
                "reserved_smem_offset_end" => return Ok(Some(self.reserved(RESERVED))),
                "reserved_smem_offset_cap" => {
                    return Ok(Some(self.context.frame.constant(Class::Word, RESERVED)));
                }
                "clock" | "clock_hi" | "globaltimer_lo" | "globaltimer_hi" => {
                    let register = self.temp(Class::Word);
                    let mut instr = self.blank(pick::<ops::bits::Dynamic>());
                    (instr.d, instr.n) = (register, if name.ends_with("hi") { 2 } else { 0 });
                    self.emit(instr);
                    return Ok(Some(register));
                }
                // `cooperative_groups/details/driver_abi.h` of the CUDA Toolkit.
                "envreg1" => Special::GridWorkspace { high: true },
                "envreg2" => Special::GridWorkspace { high: false },
                _ if name.starts_with("envreg") || name.starts_with("pm") => {
                    return Ok(Some(self.context.frame.constant(Class::Word, 0)));
                }
                _ => return Ok(None),
            }
        };
        Ok(Some(self.context.frame.special(special)))
    }

    /// Bytes in which a block is given shared memory (PTX manual, `%total_smem_size`).
    fn shared_unit(&self) -> u32 {
        let since = Target { capability: 80, kind: Kind::Later };
        if since.is_met_by(&self.context.module.target) { 128 } else { 256 }
    }

    /// An offset in the shared memory that is reserved for the system, which a block has where its kernel asks for it.
    fn reserved(&mut self, offset: u64) -> u32 {
        let context = &mut *self.context;
        let bytes = &mut context.shared_bytes;
        let start = *context.shared.entry(RESERVED_NAME.into()).or_insert_with(|| {
            let start = bytes.next_multiple_of(128);
            *bytes = start + RESERVED;
            start
        });
        context.frame.constant(Class::Word, start + offset)
    }

    /// The register of a 64-bit special register.
    pub(super) fn special64(&mut self, name: &str) -> Option<u32> {
        match name {
            "%clock64" | "%globaltimer" => {
                let register = self.temp(Class::Long);
                let mut instr = self.blank(pick::<ops::bits::Dynamic>());
                (instr.d, instr.e) = (register, 1);
                self.emit(instr);
                Some(register)
            }
            // No launch is a part of a graph on the device.
            "%current_graph_exec" => Some(self.context.frame.constant(Class::Long, 0)),
            "WARP_SZ" => Some(self.context.frame.constant(Class::Long, 32)),
            "%param_window" => Some(self.context.frame.constant(Class::Long, PARAM_WINDOW)),
            _ => None,
        }
    }
}
