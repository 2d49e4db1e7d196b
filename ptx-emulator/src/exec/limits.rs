//! What a launch may ask for.

use crate::checks::PARTIES;
use crate::decode::Program;
use crate::error::LaunchError;
use crate::module::Entry;
use crate::ops::LANES;
use crate::{Config, LaunchConfig, LaunchOptions};

/// Checks what the caller asks against what the kernel can take.
pub(crate) fn check(
    entry: &Entry,
    limits: &Config,
    capability: Option<u32>,
    config: &LaunchConfig,
    options: &LaunchOptions,
    args: &[&[u8]],
) -> Result<(), LaunchError> {
    let wrong = |what: String| Err(LaunchError::Invalid { kernel: entry.name().into(), what });
    let params = entry.params();
    if args.len() != params.len() {
        return wrong(format!(
            "{} arguments are given, the kernel has {} parameters",
            args.len(),
            params.len()
        ));
    }
    for (k, (arg, param)) in args.iter().zip(params).enumerate() {
        if arg.len() as u64 != param.size {
            return wrong(format!(
                "argument {k} (`{}`) has {} bytes, {} are wanted",
                param.name,
                arg.len(),
                param.size
            ));
        }
    }
    let [gx, gy, gz] = config.grid;
    let [x, y, z] = config.block;
    if gx == 0 || gy == 0 || gz == 0 || x == 0 || y == 0 || z == 0 {
        return wrong(format!(
            "grid ({gx}, {gy}, {gz}) and block ({x}, {y}, {z}) must be at least 1 in each dimension"
        ));
    }
    if gx > 0x7fff_ffff || gy > 65535 || gz > 65535 {
        return wrong(format!("grid ({gx}, {gy}, {gz}) is larger than (2147483647, 65535, 65535)"));
    }
    let threads = count(config.block);
    if threads > 1024 || x > 1024 || y > 1024 || z > 64 {
        return wrong(format!(
            "block ({x}, {y}, {z}) has {threads} threads; the limits are 1024, and (1024, 1024, 64)"
        ));
    }
    if let Some(required) = entry.required_threads()
        && required != config.block
    {
        return wrong(format!("block ({x}, {y}, {z}), but `.reqntid` is {required:?}"));
    }
    if let Some(allowed) = entry.max_threads()
        && threads > count(allowed)
    {
        let ([mx, my, mz], most) = (allowed, count(allowed));
        return wrong(format!(
            "block ({x}, {y}, {z}) has {threads} threads, but `.maxntid` ({mx}, {my}, {mz}) allows {most}"
        ));
    }
    check_cluster(entry, config, options).or_else(wrong)?;
    check_shared(entry, limits, capability, config).or_else(wrong)?;
    if options.cooperative {
        check_resident(entry, limits, config, options).or_else(wrong)?;
    }
    Ok(())
}

/// The product of sizes in x, y and z, or `u64::MAX` where it is more.
pub(super) fn count(sizes: [u32; 3]) -> u64 {
    sizes.iter().fold(1, |all, &size| all.saturating_mul(size.into()))
}

/// Warps of a block.
pub(super) fn warps_of(config: &LaunchConfig) -> u64 {
    count(config.block).div_ceil(LANES as u64)
}

/// Bytes of shared memory of a block.
pub(super) fn shared_bytes(program: &Program, config: &LaunchConfig) -> u64 {
    match config.dynamic_shared_bytes {
        0 => program.static_shared,
        bytes => program.dynamic_shared + u64::from(bytes),
    }
}

/// The same without what the system reserves.
pub(super) fn own_shared_bytes(program: &Program, config: &LaunchConfig) -> u64 {
    match config.dynamic_shared_bytes {
        0 => program.own_static,
        bytes => program.own_dynamic + u64::from(bytes),
    }
}

/// Bytes of the host's memory that the blocks of a launch take at most which are resident together. An H200 has 64 MiB of registers and
/// shared memory; PTX has several registers for one of the GPU, and the checks some twelve bytes for one of shared memory.
const MOST_RESIDENT_BYTES: u64 = 2 << 30;

/// All blocks of a cooperative launch must be resident together.
fn check_resident(
    entry: &Entry,
    limits: &Config,
    config: &LaunchConfig,
    options: &LaunchOptions,
) -> Result<(), String> {
    let cluster = count(cluster_of(entry, options.cluster));
    let resident = resident_clusters(entry, limits, config, options).saturating_mul(cluster);
    let blocks = count(config.grid);
    if blocks > resident {
        return Err(format!(
            "a cooperative launch of {blocks} blocks, of which {resident} can be resident together"
        ));
    }
    Ok(())
}

/// How many clusters may be resident together, at least one.
pub(super) fn resident_clusters(
    entry: &Entry,
    limits: &Config,
    config: &LaunchConfig,
    options: &LaunchOptions,
) -> u64 {
    let program = &entry.program;
    let (blocks, warps) = (count(cluster_of(entry, options.cluster)), warps_of(config));
    let shared = shared_bytes(program, config);
    let each = (u64::from(program.frame.bytes) + program.local_bytes * LANES as u64 + 1024) * warps + shared;
    // `Checks::new`: the state of each word and of each party, and a bit for each byte of local memory.
    let checked = if options.checks { 12 * shared + 4 * program.local_bytes * warps + (64 << 10) } else { 0 };
    (limits.resident_blocks / blocks).min(MOST_RESIDENT_BYTES / ((each + checked) * blocks)).max(1)
}

/// Bytes of static shared memory that a block may have, whatever the target: more must be dynamic (CUDA Programming Guide 13,
/// section 5.1.3, footnote 3 of table 31; `ptxas` refuses more).
const MOST_STATIC: u64 = 48 << 10;

/// The most shared memory of a block of a GPU of this compute capability (CUDA Programming Guide 13, section 5.1.3, table 31; before
/// 7.5 the same table of the CUDA C++ Programming Guide 12). Capabilities that are not listed have what the next lower one has.
pub(crate) fn most_shared(capability: u32) -> u32 {
    const KIB: [(u32, u32); 10] = [
        (0, 48),
        (70, 96),
        (75, 64),
        (80, 163),
        (86, 99),
        (87, 163),
        (89, 99),
        (90, 227),
        (107, 327),
        (110, 227),
    ];
    let listed = KIB.iter().rev().find(|(from, _)| *from <= capability);
    if capability >= 120 { 99 << 10 } else { listed.map_or(48, |(_, kib)| *kib) << 10 }
}

/// Checks the shared memory of a block against what the device has.
fn check_shared(
    entry: &Entry,
    limits: &Config,
    capability: Option<u32>,
    config: &LaunchConfig,
) -> Result<(), String> {
    let (fixed, dynamic) = (entry.static_shared_bytes() as u64, config.dynamic_shared_bytes);
    let (limit, of) = match (limits.shared_limit, capability) {
        (Some(limit), _) => (limit, String::new()),
        (None, Some(capability)) => (most_shared(capability), format!(" of compute capability {capability}")),
        (None, None) => (MOST_SHARED, String::new()),
    };
    if limits.shared_limit.is_none() && fixed > MOST_STATIC {
        return Err(format!("{fixed} bytes of static shared memory, the limit is {MOST_STATIC}"));
    }
    if entry.program.own_dynamic + u64::from(dynamic) > u64::from(limit) {
        return Err(format!(
            "{fixed} static and {dynamic} dynamic bytes of shared memory, the limit{of} is {limit}"
        ));
    }
    Ok(())
}

/// Where the target says nothing.
const MOST_SHARED: u32 = 227 << 10;

/// The most blocks of a cluster, where a device is asked for more than the portable 8.
const MOST_BLOCKS: u32 = 16;

/// The most warps of a cluster with checks: some parties are left for bulk copies.
const CHECKED_WARPS: u64 = PARTIES as u64 - 8;

/// Checks the size of the clusters, which the launch or `.reqnctapercluster` gives.
fn check_cluster(entry: &Entry, config: &LaunchConfig, options: &LaunchOptions) -> Result<(), String> {
    let asked = options.cluster;
    if asked.is_none() && entry.required_cluster().is_none() && entry.explicit_cluster() {
        return Err("no cluster is given, but the kernel is `.explicitcluster`".into());
    }
    if let (Some(asked), Some(required)) = (asked, entry.required_cluster())
        && asked != required
    {
        return Err(format!("clusters of {asked:?} blocks, but `.reqnctapercluster` is {required:?}"));
    }
    let cluster = cluster_of(entry, asked);
    let blocks = count(cluster);
    let most = entry.max_cluster_blocks().unwrap_or(MOST_BLOCKS).min(MOST_BLOCKS);
    if blocks == 0 || blocks > u64::from(most) {
        return Err(format!("clusters of {cluster:?} blocks; 1 to {most} are possible"));
    }
    let warps = blocks * warps_of(config);
    if options.checks && warps > CHECKED_WARPS {
        return Err(format!("a cluster of {warps} warps; the checks take {CHECKED_WARPS}"));
    }
    if config.grid.iter().zip(&cluster).any(|(g, c)| g % c != 0) {
        return Err(format!("grid {:?} is no multiple of the clusters of {cluster:?} blocks", config.grid));
    }
    Ok(())
}

pub(super) fn cluster_of(entry: &Entry, asked: Option<[u32; 3]>) -> [u32; 3] {
    asked.or(entry.required_cluster()).unwrap_or([1; 3])
}

/// Registers of a multiprocessor.
const REGISTERS: u32 = 65536;

/// Registers that a thread has when the kernel begins: `.maxnreg`, or as many as let the promised blocks fit, as an assembler
/// takes it.
pub(super) fn registers_of(entry: &Entry, threads: u32) -> u32 {
    let threads =
        threads.next_multiple_of(LANES as u32) * entry.min_blocks_per_multiprocessor().unwrap_or(1).max(1);
    entry.max_registers().unwrap_or((REGISTERS / threads / 8 * 8).min(256))
}
