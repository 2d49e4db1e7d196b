//! Loads and stores of global memory: plain, read-only, and past the first cache.

use super::GlobalAddr;
use super::shared::{loads, stores};

loads! { "mem::ld_global", GlobalAddr, reg64;
    ld_global_u8: "ld.global.u8" => u32, reg32, 1, "1";
    ld_global_u16: "ld.global.b16" => u16, reg16, 1, "2";
    ld_global_u32: "ld.global.b32" => u32, reg32, 1, "4";
    ld_global_v2_u32: "ld.global.v2.b32" => u32, reg32, 2, "8";
    ld_global_v4_u32: "ld.global.v4.b32" => u32, reg32, 4, "16";
    ld_global_u64: "ld.global.b64" => u64, reg64, 1, "8";
    ld_global_v2_u64: "ld.global.v2.b64" => u64, reg64, 2, "16";
    ld_global_f32: "ld.global.f32" => f32, reg32, 1, "4";
    ld_global_v2_f32: "ld.global.v2.f32" => f32, reg32, 2, "8";
    ld_global_v4_f32: "ld.global.v4.f32" => f32, reg32, 4, "16";
}

// `.nc` promises that nobody writes the memory while the kernel runs; the hardware may then use its read-only path.
loads! { "mem::ld_global_nc", GlobalAddr, reg64;
    ld_global_nc_u8: "ld.global.nc.u8" => u32, reg32, 1, "1";
    ld_global_nc_u16: "ld.global.nc.b16" => u16, reg16, 1, "2";
    ld_global_nc_u32: "ld.global.nc.b32" => u32, reg32, 1, "4";
    ld_global_nc_v2_u32: "ld.global.nc.v2.b32" => u32, reg32, 2, "8";
    ld_global_nc_v4_u32: "ld.global.nc.v4.b32" => u32, reg32, 4, "16";
    ld_global_nc_u64: "ld.global.nc.b64" => u64, reg64, 1, "8";
    ld_global_nc_f32: "ld.global.nc.f32" => f32, reg32, 1, "4";
    ld_global_nc_v2_f32: "ld.global.nc.v2.f32" => f32, reg32, 2, "8";
    ld_global_nc_v4_f32: "ld.global.nc.v4.f32" => f32, reg32, 4, "16";
}

// Data that is read once by this multiprocessor does not push other data out of its first cache.
loads! { "mem::ld_global_nc_no_allocate", GlobalAddr, reg64;
    ld_global_nc_no_allocate_v2_u32: "ld.global.nc.L1::no_allocate.v2.b32" => u32, reg32, 2, "8";
    ld_global_nc_no_allocate_v4_u32: "ld.global.nc.L1::no_allocate.v4.b32" => u32, reg32, 4, "16";
    ld_global_nc_no_allocate_v4_f32: "ld.global.nc.L1::no_allocate.v4.f32" => f32, reg32, 4, "16";
}

stores! { "mem::st_global", GlobalAddr, reg64;
    st_global_u8: "st.global.u8" <= u32, reg32, 1, "1";
    st_global_u16: "st.global.b16" <= u16, reg16, 1, "2";
    st_global_u32: "st.global.b32" <= u32, reg32, 1, "4";
    st_global_v2_u32: "st.global.v2.b32" <= u32, reg32, 2, "8";
    st_global_v4_u32: "st.global.v4.b32" <= u32, reg32, 4, "16";
    st_global_u64: "st.global.b64" <= u64, reg64, 1, "8";
    st_global_v2_u64: "st.global.v2.b64" <= u64, reg64, 2, "16";
    st_global_f32: "st.global.f32" <= f32, reg32, 1, "4";
    st_global_v2_f32: "st.global.v2.f32" <= f32, reg32, 2, "8";
    st_global_v4_f32: "st.global.v4.f32" <= f32, reg32, 4, "16";
}
