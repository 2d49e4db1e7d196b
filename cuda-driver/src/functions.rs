//! The driver functions, one row each: name and parameters as in `cuda.h`, pointers and handles as `c_void` pointers, enums
//! as `c_uint`. `cust` 0.3.2 links to all of them except `cuFuncSetAttribute`, which the launch of kernels with much shared
//! memory adds, and `cuStreamIsCapturing`.

use std::ffi::{c_int, c_uchar, c_uint, c_ushort, c_void};

use crate::library::forward;

forward! {
    // Initialisation
    cuDriverGetVersion(driver_version: *mut c_void);
    cuInit(flags: c_uint);
    // Devices
    cuDeviceGet(device: *mut c_void, ordinal: c_int);
    cuDeviceGetAttribute(pi: *mut c_void, attrib: c_uint, dev: c_int);
    cuDeviceGetCount(count: *mut c_void);
    cuDeviceGetName(name: *mut c_void, len: c_int, dev: c_int);
    cuDevicePrimaryCtxRelease_v2(dev: c_int);
    cuDevicePrimaryCtxReset_v2(dev: c_int);
    cuDevicePrimaryCtxRetain(pctx: *mut c_void, dev: c_int);
    cuDevicePrimaryCtxSetFlags_v2(dev: c_int, flags: c_uint);
    cuDeviceTotalMem_v2(bytes: *mut c_void, dev: c_int);
    // Contexts
    cuCtxCreate_v2(pctx: *mut c_void, flags: c_uint, dev: c_int);
    cuCtxDestroy_v2(ctx: *mut c_void);
    cuCtxGetApiVersion(ctx: *mut c_void, version: *mut c_void);
    cuCtxGetCacheConfig(pconfig: *mut c_void);
    cuCtxGetCurrent(pctx: *mut c_void);
    cuCtxGetDevice(device: *mut c_void);
    cuCtxGetFlags(flags: *mut c_void);
    cuCtxGetLimit(pvalue: *mut c_void, limit: c_uint);
    cuCtxGetSharedMemConfig(p_config: *mut c_void);
    cuCtxGetStreamPriorityRange(least_priority: *mut c_void, greatest_priority: *mut c_void);
    cuCtxPopCurrent_v2(pctx: *mut c_void);
    cuCtxPushCurrent_v2(ctx: *mut c_void);
    cuCtxSetCacheConfig(config: c_uint);
    cuCtxSetCurrent(ctx: *mut c_void);
    cuCtxSetLimit(limit: c_uint, value: usize);
    cuCtxSetSharedMemConfig(config: c_uint);
    cuCtxSynchronize();
    // Modules
    cuModuleGetFunction(hfunc: *mut c_void, hmod: *mut c_void, name: *const c_void);
    cuModuleGetGlobal_v2(dptr: *mut c_void, bytes: *mut c_void, hmod: *mut c_void, name: *const c_void);
    cuModuleLoad(module: *mut c_void, fname: *const c_void);
    cuModuleLoadData(module: *mut c_void, image: *const c_void);
    cuModuleLoadDataEx(module: *mut c_void, image: *const c_void, num_options: c_uint, options: *mut c_void, option_values: *mut c_void);
    cuModuleUnload(hmod: *mut c_void);
    // Linker
    cuLinkAddData_v2(state: *mut c_void, kind: c_uint, data: *mut c_void, size: usize, name: *const c_void, num_options: c_uint, options: *mut c_void, option_values: *mut c_void);
    cuLinkComplete(state: *mut c_void, cubin_out: *mut c_void, size_out: *mut c_void);
    cuLinkCreate_v2(num_options: c_uint, options: *mut c_void, option_values: *mut c_void, state_out: *mut c_void);
    cuLinkDestroy(state: *mut c_void);
    // Functions and launches
    cuFuncGetAttribute(pi: *mut c_void, attrib: c_uint, hfunc: *mut c_void);
    cuFuncSetAttribute(hfunc: *mut c_void, attrib: c_uint, value: c_int);
    cuFuncSetCacheConfig(hfunc: *mut c_void, config: c_uint);
    cuFuncSetSharedMemConfig(hfunc: *mut c_void, config: c_uint);
    cuLaunchHostFunc(h_stream: *mut c_void, function: *mut c_void, user_data: *mut c_void);
    cuLaunchKernel(function: *mut c_void, grid_dim_x: c_uint, grid_dim_y: c_uint, grid_dim_z: c_uint, block_dim_x: c_uint, block_dim_y: c_uint, block_dim_z: c_uint, shared_mem_bytes: c_uint, h_stream: *mut c_void, kernel_params: *mut c_void, extra: *mut c_void);
    cuOccupancyAvailableDynamicSMemPerBlock(dynamic_smem_size: *mut c_void, func: *mut c_void, num_blocks: c_int, block_size: c_int);
    cuOccupancyMaxActiveBlocksPerMultiprocessor(num_blocks: *mut c_void, func: *mut c_void, block_size: c_int, dynamic_smem_size: usize);
    cuOccupancyMaxPotentialBlockSize(min_grid_size: *mut c_void, block_size: *mut c_void, func: *mut c_void, block_size_to_dynamic_smem_size: *mut c_void, dynamic_smem_size: usize, block_size_limit: c_int);
    // Streams
    cuStreamCreateWithPriority(ph_stream: *mut c_void, flags: c_uint, priority: c_int);
    cuStreamDestroy_v2(h_stream: *mut c_void);
    cuStreamGetFlags(h_stream: *mut c_void, flags: *mut c_void);
    cuStreamIsCapturing(h_stream: *mut c_void, capture_status: *mut c_void);
    cuStreamGetPriority(h_stream: *mut c_void, priority: *mut c_void);
    cuStreamSynchronize(h_stream: *mut c_void);
    cuStreamWaitEvent(h_stream: *mut c_void, h_event: *mut c_void, flags: c_uint);
    // Events
    cuEventCreate(ph_event: *mut c_void, flags: c_uint);
    cuEventDestroy_v2(h_event: *mut c_void);
    cuEventElapsedTime(p_milliseconds: *mut c_void, h_start: *mut c_void, h_end: *mut c_void);
    cuEventQuery(h_event: *mut c_void);
    cuEventRecord(h_event: *mut c_void, h_stream: *mut c_void);
    cuEventSynchronize(h_event: *mut c_void);
    // Memory
    cuMemAdvise(dev_ptr: u64, count: usize, advice: c_uint, device: c_int);
    cuMemAllocAsync(dptr: *mut c_void, bytesize: usize, h_stream: *mut c_void);
    cuMemAllocHost_v2(pp: *mut c_void, bytesize: usize);
    cuMemAllocManaged(dptr: *mut c_void, bytesize: usize, flags: c_uint);
    cuMemAlloc_v2(dptr: *mut c_void, bytesize: usize);
    cuMemFreeAsync(dptr: u64, h_stream: *mut c_void);
    cuMemFreeHost(p: *mut c_void);
    cuMemFree_v2(dptr: u64);
    cuMemGetInfo_v2(free: *mut c_void, total: *mut c_void);
    cuMemPrefetchAsync(dev_ptr: u64, count: usize, dst_device: c_int, h_stream: *mut c_void);
    cuMemcpy2D_v2(p_copy: *const c_void);
    cuMemcpyAtoH_v2(dst_host: *mut c_void, src_array: *mut c_void, src_offset: usize, byte_count: usize);
    cuMemcpyDtoDAsync_v2(dst_device: u64, src_device: u64, byte_count: usize, h_stream: *mut c_void);
    cuMemcpyDtoD_v2(dst_device: u64, src_device: u64, byte_count: usize);
    cuMemcpyDtoHAsync_v2(dst_host: *mut c_void, src_device: u64, byte_count: usize, h_stream: *mut c_void);
    cuMemcpyDtoH_v2(dst_host: *mut c_void, src_device: u64, byte_count: usize);
    cuMemcpyHtoA_v2(dst_array: *mut c_void, dst_offset: usize, src_host: *const c_void, byte_count: usize);
    cuMemcpyHtoDAsync_v2(dst_device: u64, src_host: *const c_void, byte_count: usize, h_stream: *mut c_void);
    cuMemcpyHtoD_v2(dst_device: u64, src_host: *const c_void, byte_count: usize);
    cuMemsetD16Async(dst_device: u64, us: c_ushort, n: usize, h_stream: *mut c_void);
    cuMemsetD16_v2(dst_device: u64, us: c_ushort, n: usize);
    cuMemsetD32Async(dst_device: u64, ui: c_uint, n: usize, h_stream: *mut c_void);
    cuMemsetD32_v2(dst_device: u64, ui: c_uint, n: usize);
    cuMemsetD8Async(dst_device: u64, uc: c_uchar, n: usize, h_stream: *mut c_void);
    cuMemsetD8_v2(dst_device: u64, uc: c_uchar, n: usize);
    // Arrays, textures, surfaces
    cuArray3DCreate_v2(p_handle: *mut c_void, p_allocate_array: *const c_void);
    cuArray3DGetDescriptor_v2(p_array_descriptor: *mut c_void, h_array: *mut c_void);
    cuArrayDestroy(h_array: *mut c_void);
    cuSurfObjectCreate(p_surf_object: *mut c_void, p_res_desc: *const c_void);
    cuSurfObjectDestroy(surf_object: u64);
    cuSurfObjectGetResourceDesc(p_res_desc: *mut c_void, surf_object: u64);
    cuTexObjectCreate(p_tex_object: *mut c_void, p_res_desc: *const c_void, p_tex_desc: *const c_void, p_res_view_desc: *const c_void);
    cuTexObjectDestroy(tex_object: u64);
    cuTexObjectGetResourceDesc(p_res_desc: *mut c_void, tex_object: u64);
    cuTexObjectGetResourceViewDesc(p_res_view_desc: *mut c_void, tex_object: u64);
    // External memory
    cuDestroyExternalMemory(ext_mem: *mut c_void);
    cuExternalMemoryGetMappedBuffer(dev_ptr: *mut c_void, ext_mem: *mut c_void, buffer_desc: *const c_void);
    cuImportExternalMemory(ext_mem_out: *mut c_void, mem_handle_desc: *const c_void);
    // Graphs
    cuGraphAddKernelNode(ph_graph_node: *mut c_void, h_graph: *mut c_void, dependencies: *const c_void, num_dependencies: usize, node_params: *const c_void);
    cuGraphCreate(ph_graph: *mut c_void, flags: c_uint);
    cuGraphDebugDotPrint(h_graph: *mut c_void, path: *const c_void, flags: c_uint);
    cuGraphDestroy(h_graph: *mut c_void);
    cuGraphGetEdges(h_graph: *mut c_void, from: *mut c_void, to: *mut c_void, num_edges: *mut c_void);
    cuGraphGetNodes(h_graph: *mut c_void, nodes: *mut c_void, num_nodes: *mut c_void);
    cuGraphKernelNodeGetParams(h_node: *mut c_void, node_params: *mut c_void);
    cuGraphNodeGetType(h_node: *mut c_void, kind: *mut c_void);
}
