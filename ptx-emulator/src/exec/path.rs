//! What a warp consists of: paths, the joins where they gather, and what comes of running them.

/// No join.
pub(super) const NONE: u32 = u32::MAX;

/// Lanes at one place of the code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub pc: u32,
    pub mask: u32,
    /// The innermost join that waits for these lanes.
    pub join: u32,
    pub state: State,
}

/// What a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waits at a barrier.
    Barrier(u32),
    /// Waits for the lanes of a member mask.
    Collective(u32),
    /// Tries its instruction again when the warp has its turn.
    Waiting,
}

/// A place where lanes gather: the meeting place of a branch, or the return from a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub pc: u32,
    pub expected: u32,
    pub arrived: u32,
    pub parent: u32,
    pub is_call: bool,
}

/// What came of running a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its share of time is over.
    Slice,
    /// No path can go on.
    Blocked,
    /// All lanes are at, or have passed by, this barrier.
    Barrier(BarrierArrival),
    /// All lanes have ended.
    Done,
    /// A lane failed at this place.
    Fault(u32),
}

/// A whole warp's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarrierArrival {
    pub id: u32,
    pub count: Option<u32>,
    pub votes: u32,
    pub waits: bool,
}

/// What a warp's lanes have said at one barrier so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gathering {
    pub lanes: u32,
    pub votes: u32,
    pub count: Option<u32>,
    pub waits: bool,
    pub reduce: Option<(u32, u32)>,
}
