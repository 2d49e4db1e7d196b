//! What can go wrong, in one type whose messages name the argument, what was given and what is allowed.

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
///
/// Everything a caller can get wrong is found before anything is allocated or launched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has a number of dimensions that is not allowed.
    #[error("{argument} has {rank} dimensions; allowed are {allowed}")]
    Rank {
        /// The argument.
        argument: &'static str,
        /// Its dimensions.
        rank: usize,
        /// What is allowed, in words.
        allowed: String,
    },
    /// Two tensors must agree in a size, or one of them be repeated along it, and neither is so.
    #[error(
        "{argument} has {given} {what}, but {other} has {expected}; they must be equal, or one of them 1"
    )]
    NotBroadcastable {
        /// The argument.
        argument: &'static str,
        /// What is counted: "heads" or "batch entries".
        what: &'static str,
        /// How many the argument has.
        given: usize,
        /// The argument it is compared with.
        other: &'static str,
        /// How many that one has.
        expected: usize,
    },
    /// Two tensors must agree in a size and do not.
    #[error("{argument} has {given} {what}, but {other} has {expected}; they must be equal")]
    Sizes {
        /// The argument.
        argument: &'static str,
        /// What is counted: "heads", "keys", "batch entries", "columns".
        what: &'static str,
        /// How many the argument has.
        given: usize,
        /// The argument it is compared with.
        other: &'static str,
        /// How many that one has.
        expected: usize,
    },
    /// A tensor must have one certain shape.
    #[error("{argument} has the shape {given:?}; it must be {expected:?}")]
    Shape {
        /// The argument.
        argument: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The shape that it must have.
        expected: Vec<usize>,
    },
    /// A mask or bias cannot be repeated to the shape of the scores.
    #[error(
        "{argument} has the shape {given:?}; it must have {keys} keys in its last dimension and each size before that must \
         be 1 or that of the scores {scores:?} [batch, heads, queries, keys]"
    )]
    Broadcast {
        /// The argument.
        argument: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The keys that its last dimension must have.
        keys: usize,
        /// The shape of the scores.
        scores: Vec<usize>,
    },
    /// The query heads are not a multiple of the key heads.
    #[error("q has {query_heads} heads, which is not a multiple of the {key_heads} heads of k")]
    HeadRatio {
        /// Heads of q.
        query_heads: usize,
        /// Heads of k and v.
        key_heads: usize,
    },
    /// A tensor has a storage type that is not allowed.
    #[error("{argument} is {given}; allowed are {allowed}")]
    Dtype {
        /// The argument.
        argument: &'static str,
        /// Its storage type.
        given: &'static str,
        /// What is allowed, in words.
        allowed: String,
    },
    /// Two tensors must have the same storage type and do not.
    #[error("{argument} is {given}, but {other} is {expected}; they must have the same type")]
    MixedDtypes {
        /// The argument.
        argument: &'static str,
        /// Its storage type.
        given: &'static str,
        /// The argument it is compared with.
        other: &'static str,
        /// That one's storage type.
        expected: &'static str,
    },
    /// Two tensors must be on the same device and are not.
    #[error("{argument} is on {given}, but {other} is on {expected}; they must be on the same device")]
    MixedDevices {
        /// The argument.
        argument: &'static str,
        /// Its device.
        given: String,
        /// The argument it is compared with.
        other: &'static str,
        /// That one's device.
        expected: String,
    },
    /// The elements of a row do not lie side by side.
    #[error(
        "{argument} has a stride of {stride} elements in its last dimension; it must be 1 (contiguous() makes a copy that is)"
    )]
    LastStride {
        /// The argument.
        argument: &'static str,
        /// The stride, in elements.
        stride: usize,
    },
    /// The scale is zero or not finite.
    #[error("scale is {given}; it must be finite and not 0")]
    Scale {
        /// What was given.
        given: f32,
    },
    /// A number, or a list of them, is not one of those that are allowed.
    #[error("{argument} is {given}; it must be {allowed}")]
    Value {
        /// The argument; an entry of a list with its index, as `key_lengths[2]`.
        argument: String,
        /// What was given.
        given: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// A tensor has no heads or no columns.
    #[error(
        "{argument} has the shape {shape:?}, of which dimension {dimension} is 0; only batch, queries and keys may be"
    )]
    Empty {
        /// The argument.
        argument: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// The dimension that is 0.
        dimension: usize,
    },
    /// A size is above what can be addressed.
    #[error("{argument} has {given} {what}; at most {limit} are allowed")]
    TooLarge {
        /// The argument.
        argument: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many there are ([`u128::MAX`] where even that overflows).
        given: u128,
        /// The most that is allowed.
        limit: u128,
    },
    /// The number of elements given does not fill the shape.
    #[error("{given} {what} were given for the shape {shape:?}, which holds {expected}")]
    Length {
        /// What is counted: "elements" or "bytes".
        what: &'static str,
        /// How many were given.
        given: usize,
        /// The shape.
        shape: Vec<usize>,
        /// How many it holds.
        expected: usize,
    },
    /// A view that the tensor does not have.
    #[error("{operation} of a tensor of shape {shape:?}: {reason}")]
    View {
        /// The operation.
        operation: &'static str,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// Why it is not possible.
        reason: String,
    },
    /// The backend that was asked for cannot run this problem, or none can.
    #[error("{verdict}: {reasons}")]
    Refused {
        /// "efficient cannot run this" or "no backend can run this".
        verdict: String,
        /// Every reason.
        reasons: String,
    },
    /// There is no such device.
    #[error("{device} is not available: {reason}")]
    Unavailable {
        /// The device.
        device: String,
        /// Why not.
        reason: String,
    },
    /// A device's name cannot be understood.
    #[error("'{given}' is not a device; allowed are auto, cuda, cuda:N, emulator and cpu")]
    DeviceName {
        /// What was given.
        given: String,
    },
    /// A device failed at something other than a launch.
    #[error("{device} failed to {action}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What it was to do.
        action: String,
        /// What it says.
        reason: String,
    },
    /// A kernel did not run to its end.
    #[error("the kernel {kernel} failed on {device}: {reason}")]
    Kernel {
        /// The kernel's entry point.
        kernel: &'static str,
        /// The device.
        device: String,
        /// What it says.
        reason: String,
    },
    /// A file cannot be read or does not hold a problem.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}
