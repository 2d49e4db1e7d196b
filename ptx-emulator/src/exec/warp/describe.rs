//! What a warp waits for, in words: for deadlocks, and for what never ends.

use super::{State, Warp};
use crate::decode::Program;
use crate::ops::Cx;

impl Warp {
    /// What the warp waits for, in words; `cx` is at this warp.
    pub(in crate::exec) fn describe(
        &self,
        cx: &mut Cx,
        program: &Program,
        line: impl Fn(u32) -> String,
    ) -> String {
        let mut parts = Vec::new();
        cx.live = self.live;
        for path in &self.paths {
            let what = match path.state {
                State::Ready => "ready".to_string(),
                State::Barrier(id) => format!("waits at barrier {id}"),
                State::Collective(members) => format!("waits for the lanes {members:#010x}"),
                State::Apart => "wait for the warp's other lanes".to_string(),
                State::Waiting => {
                    cx.cluster.explanation = Some(String::new());
                    let i = &program.code[path.pc as usize];
                    // SAFETY: as in `run_path`.
                    unsafe { (i.run)(cx, i, path.mask) };
                    match cx.cluster.explanation.take().unwrap_or_default() {
                        // What it waited for has come.
                        nothing if nothing.is_empty() => "ready".to_string(),
                        what => format!("waits for {what}"),
                    }
                }
            };
            parts.push(format!("lanes {:#010x} {what}, {}", path.mask, line(path.pc)));
        }
        format!("warp {}: {}", self.index, parts.join("; "))
    }
}
