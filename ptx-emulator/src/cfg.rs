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
        let reaches = self.reach_a_leaf();
        let mut successors: Vec<Vec<usize>> = self.successors.clone();
        for (block, next) in successors.iter_mut().enumerate() {
            if next.len() > 1 {
                let kept: Vec<usize> = next.iter().copied().filter(|&s| !self.trivial[s]).collect();
                if kept.iter().any(|&s| reaches[s]) {
                    *next = kept;
                }
            }
            if self.leaves[block] {
                next.push(end);
            }
        }
        successors.push(Vec::new());
        let idom = dominators(&reversed(&successors), &successors, end);
        (0..count).map(|b| idom[b].filter(|&d| d != end)).collect()
    }

    /// The blocks that reach some leaf where no branch goes to a trivial block.
    fn reach_a_leaf(&self) -> Vec<bool> {
        let kept = self.successors.iter().map(|next| {
            let branches = next.len() > 1;
            next.iter().copied().filter(|&s| !(branches && self.trivial[s])).collect()
        });
        let predecessors = reversed(&kept.collect::<Vec<Vec<usize>>>());
        let mut reach = self.leaves.clone();
        let mut stack: Vec<usize> = (0..reach.len()).filter(|&block| reach[block]).collect();
        while let Some(block) = stack.pop() {
            for &before in &predecessors[block] {
                if !std::mem::replace(&mut reach[before], true) {
                    stack.push(before);
                }
            }
        }
        reach
    }
}

/// The edges the other way round.
fn reversed(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut back = vec![Vec::new(); edges.len()];
    for (from, next) in edges.iter().enumerate() {
        for &to in next {
            back[to].push(from);
        }
    }
    back
}

/// The immediate dominators of the nodes that `root` reaches by `edges`, of which `back` are the reverse; the root's is itself. In
/// time of edges times the logarithm of nodes, whatever the graph (Lengauer and Tarjan, "A fast algorithm for finding dominators in a
/// flowgraph", TOPLAS 1979, the simple variant).
fn dominators(edges: &[Vec<usize>], back: &[Vec<usize>], root: usize) -> Vec<Option<usize>> {
    let (order, parent, number) = depth_first(edges, root);
    let count = order.len();
    let mut forest = Forest {
        ancestor: vec![NONE; count],
        label: (0..count).collect(),
        semi: (0..count).collect(),
        path: Vec::new(),
    };
    let mut buckets = vec![Vec::new(); count];
    let mut idom = vec![0; count];
    for w in (1..count).rev() {
        for &before in &back[order[w]] {
            if number[before] != NONE {
                let u = forest.least(number[before]);
                forest.semi[w] = forest.semi[w].min(forest.semi[u]);
            }
        }
        buckets[forest.semi[w]].push(w);
        forest.ancestor[w] = parent[w];
        for v in std::mem::take(&mut buckets[parent[w]]) {
            let u = forest.least(v);
            idom[v] = if forest.semi[u] < forest.semi[v] { u } else { parent[w] };
        }
    }
    for w in 1..count {
        if idom[w] != forest.semi[w] {
            idom[w] = idom[idom[w]];
        }
    }
    let mut all = vec![None; edges.len()];
    for (w, &node) in order.iter().enumerate() {
        all[node] = Some(order[idom[w]]);
    }
    all
}

/// No node.
const NONE: usize = usize::MAX;

/// The nodes that `root` reaches, in the order in which a depth-first search meets them; of each the number of its parent in the search; and
/// the numbers of all nodes, [`NONE`] of those that it does not reach.
fn depth_first(edges: &[Vec<usize>], root: usize) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let mut number = vec![NONE; edges.len()];
    let (mut order, mut parent) = (vec![root], vec![0]);
    number[root] = 0;
    let mut stack = vec![(root, 0)];
    while let Some((node, next)) = stack.pop() {
        let Some(&to) = edges[node].get(next) else { continue };
        stack.push((node, next + 1));
        if number[to] == NONE {
            number[to] = order.len();
            order.push(to);
            parent.push(number[node]);
            stack.push((to, 0));
        }
    }
    (order, parent, number)
}

/// The part of the search's tree whose nodes are done, by numbers.
struct Forest {
    ancestor: Vec<usize>,
    /// On the way from a node to its ancestor, without that, the node of the least semidominator.
    label: Vec<usize>,
    semi: Vec<usize>,
    path: Vec<usize>,
}

impl Forest {
    /// The node of the least semidominator on the way from `v` to the root of its tree, without that root; of a root itself. Ways are made
    /// shorter for the next time.
    fn least(&mut self, v: usize) -> usize {
        if self.ancestor[v] == NONE {
            return v;
        }
        let mut at = v;
        while self.ancestor[self.ancestor[at]] != NONE {
            self.path.push(at);
            at = self.ancestor[at];
        }
        while let Some(x) = self.path.pop() {
            let above = self.ancestor[x];
            if self.semi[self.label[above]] < self.semi[self.label[x]] {
                self.label[x] = self.label[above];
            }
            self.ancestor[x] = self.ancestor[above];
        }
        self.label[v]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// By the definition: `a` dominates `b` where the root does not reach `b` without it.
    fn by_definition(edges: &[Vec<usize>], root: usize) -> Vec<Option<usize>> {
        let reached = |without: usize| {
            let mut seen = vec![false; edges.len()];
            let mut stack = if root == without { vec![] } else { vec![root] };
            while let Some(node) = stack.pop() {
                if !std::mem::replace(&mut seen[node], true) {
                    stack.extend(edges[node].iter().filter(|&&to| to != without));
                }
            }
            seen
        };
        let all = reached(NONE);
        let without: Vec<_> = (0..edges.len()).map(reached).collect();
        let dominates = |a: usize, b: usize| !without[a][b];
        (0..edges.len())
            .map(|b| {
                if !all[b] {
                    return None;
                }
                let strict: Vec<_> =
                    (0..edges.len()).filter(|&a| a != b && all[a] && dominates(a, b)).collect();
                // The nearest: all others dominate it.
                Some(strict.iter().copied().find(|&a| strict.iter().all(|&c| dominates(c, a))).unwrap_or(b))
            })
            .collect()
    }

    /// The edges of each node of a graph of up to 12 nodes.
    fn any_edges() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1usize..=12).prop_flat_map(|count| {
            let next = proptest::collection::vec(0..count, 0..=4);
            proptest::collection::vec(next, count)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn dominators_of_any_graph_are_those_of_the_definition(
            (edges, root) in any_edges().prop_flat_map(|edges| (Just(edges.clone()), 0..edges.len()))
        ) {
            prop_assert_eq!(dominators(&edges, &reversed(&edges), root), by_definition(&edges, root));
        }
    }

    /// Rungs: what a search by repeated passes, or one of each branch, takes the square of the blocks for.
    #[test]
    fn large_graphs_take_no_square_of_their_size() {
        let count = 400_000;
        let forward: Vec<Vec<usize>> = (0..2 * count)
            .map(|b| match b {
                b if b < count => vec![(b + 1).min(count), 2 * count - 1 - b],
                b if b + 1 < 2 * count => vec![b + 1, count],
                _ => vec![],
            })
            .collect();
        let mut graph = Graph {
            leaves: forward.iter().map(Vec::is_empty).collect(),
            trivial: vec![false; forward.len()],
            successors: forward,
        };
        assert_eq!(graph.meeting_points()[2 * count - 2], Some(2 * count - 1));
        // Guards, each with a jump to the one return.
        graph.successors = (0..2 * count)
            .map(|b| if b + 2 < 2 * count { vec![b + 1, 2 * count - 1] } else { vec![] })
            .collect();
        graph.trivial[2 * count - 1] = true;
        graph.leaves[2 * count - 2] = true;
        assert_eq!(graph.meeting_points()[7], Some(8));
    }
}
