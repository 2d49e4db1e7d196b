//! Pass 5: where diverged lanes meet again, the immediate post-dominators of a function's blocks.

/// A function's blocks as a graph. Block 0 is the entrance.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub successors: Vec<Vec<usize>>,
    /// Blocks that return or exit.
    pub leaves: Vec<bool>,
    /// Blocks that only return or exit: a jump there is an early end of some lanes, after which the others still meet.
    pub trivial: Vec<bool>,
}

impl Graph {
    /// For each block the block where lanes that part at its end meet again, if there is one.
    ///
    /// Paths that end in a trap, or by an early return, do not count: lanes that are gone are not waited for. Any answer is
    /// safe, since the scheduler lets lanes go on when nobody else can; a good one keeps warps together.
    pub(crate) fn meeting_points(&self) -> Vec<Option<usize>> {
        let count = self.successors.len();
        let end = count;
        let mut successors: Vec<Vec<usize>> = self.successors.clone();
        for (block, next) in successors.iter_mut().enumerate() {
            if next.len() > 1 {
                let lasting: Vec<usize> = next.iter().copied().filter(|&s| !self.trivial[s]).collect();
                if !lasting.is_empty()
                    && lasting.len() < next.len()
                    && self.reaches_leaf_without_trivial(block)
                {
                    *next = lasting;
                }
            }
            if self.leaves[block] {
                next.push(end);
            }
        }
        successors.push(Vec::new());
        let mut predecessors = vec![Vec::new(); count + 1];
        for (block, next) in successors.iter().enumerate() {
            for &s in next {
                predecessors[s].push(block);
            }
        }
        // Post-order of the reversed graph from the end.
        let (order, rank) = post_order(&predecessors, end);
        let mut idom: Vec<Option<usize>> = vec![None; count + 1];
        idom[end] = Some(end);
        let mut changed = true;
        while changed {
            changed = false;
            for &block in order.iter().rev().filter(|&&b| b != end) {
                let mut new = None;
                for &s in successors[block].iter().filter(|&&s| idom[s].is_some()) {
                    new = Some(new.map_or(s, |n| intersect(&idom, &rank, n, s)));
                }
                if new.is_some() && idom[block] != new {
                    idom[block] = new;
                    changed = true;
                }
            }
        }
        (0..count).map(|b| idom[b].filter(|&d| d != end)).collect()
    }

    /// Whether dropping the trivial successors of a block leaves it a way to some leaf.
    fn reaches_leaf_without_trivial(&self, from: usize) -> bool {
        let mut seen = vec![false; self.successors.len()];
        let mut stack: Vec<usize> =
            self.successors[from].iter().copied().filter(|&s| !self.trivial[s]).collect();
        while let Some(block) = stack.pop() {
            if std::mem::replace(&mut seen[block], true) {
                continue;
            }
            if self.leaves[block] {
                return true;
            }
            let branches = self.successors[block].len() > 1;
            stack.extend(self.successors[block].iter().filter(|&&s| !(branches && self.trivial[s])));
        }
        false
    }
}

fn post_order(edges: &[Vec<usize>], root: usize) -> (Vec<usize>, Vec<usize>) {
    let mut order = Vec::new();
    let mut rank = vec![usize::MAX; edges.len()];
    let mut seen = vec![false; edges.len()];
    let mut stack = vec![(root, 0)];
    seen[root] = true;
    while let Some((block, next)) = stack.pop() {
        if let Some(&s) = edges[block].get(next) {
            stack.push((block, next + 1));
            if !std::mem::replace(&mut seen[s], true) {
                stack.push((s, 0));
            }
        } else {
            rank[block] = order.len();
            order.push(block);
        }
    }
    (order, rank)
}

fn intersect(idom: &[Option<usize>], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while rank[a] < rank[b] {
            a = idom[a].unwrap_or(b);
        }
        while rank[b] < rank[a] {
            b = idom[b].unwrap_or(a);
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(successors: &[&[usize]], leaves: &[usize], trivial: &[usize]) -> Vec<Option<usize>> {
        let n = successors.len();
        Graph {
            successors: successors.iter().map(|s| s.to_vec()).collect(),
            leaves: (0..n).map(|b| leaves.contains(&b)).collect(),
            trivial: (0..n).map(|b| trivial.contains(&b)).collect(),
        }
        .meeting_points()
    }

    #[test]
    fn a_diamond_meets_below_and_a_loop_at_its_exit() {
        assert_eq!(graph(&[&[1, 2], &[3], &[3], &[]], &[3], &[]), vec![Some(3), Some(3), Some(3), None]);
        assert_eq!(graph(&[&[1], &[1, 2], &[]], &[2], &[]), vec![Some(1), Some(2), None]);
    }

    #[test]
    fn traps_and_early_returns_do_not_keep_lanes_apart() {
        // 0 -> 1 or 2; 1 -> trap(4) or 3; 2 -> 3; 3 leaf.
        assert_eq!(graph(&[&[1, 2], &[4, 3], &[3], &[], &[]], &[3], &[])[0], Some(3));
        // The same with an early return in 4.
        assert_eq!(graph(&[&[1, 2], &[4, 3], &[3], &[], &[]], &[3, 4], &[4])[0], Some(3));
    }
}
