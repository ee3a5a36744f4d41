//! The deepest way through the calls.

use std::collections::HashMap;

use super::calls::{Calls, Edge};
use super::frames::Depth;
use super::rules::{Rules, fits};
use crate::program::Program;

/// How deep the stack gets from each function on.
pub struct Depths {
    /// By function; for one in a recursion, by how many more of the recursion may follow as well.
    best: HashMap<(usize, usize), Best>,
    /// The recursion that a function belongs to, if any.
    recursions: HashMap<usize, Bound>,
    /// Recursions without a rule.
    pub doubts: Vec<String>,
}

#[derive(Clone, Copy)]
struct Best {
    depth: Depth,
    /// The call that leads there, and what may follow of the same recursion; `None` where the function itself is deepest.
    next: Option<(Edge, usize)>,
}

/// What bounds a recursion.
#[derive(Clone, Copy)]
struct Bound {
    /// How many of its functions may be on the stack at once.
    chain: usize,
    /// What its seldom functions take together; it is added once, and they count for nothing on the way.
    seldom: Depth,
    /// Whether this function is one of those.
    is_seldom: bool,
}

/// A function on the deepest way, and how much stack it uses there.
pub struct Link {
    /// Its place in the program.
    pub function: usize,
    /// Bytes in use by it when it calls the next; by the seldom functions of its recursion, too, where that is entered.
    pub bytes: Depth,
}

const NO_RECURSION: Bound = Bound {
    chain: 1,
    seldom: 0,
    is_seldom: false,
};

impl Depths {
    /// Finds them all.
    pub fn find(program: &Program, calls: &Calls, rules: &Rules) -> Depths {
        let mut depths = Depths {
            best: HashMap::new(),
            recursions: HashMap::new(),
            doubts: Vec::new(),
        };
        // Each group comes after those that it calls.
        for group in groups(calls) {
            let alone = match group[..] {
                [one] => calls.edges[one].iter().all(|edge| edge.to != one),
                _ => false,
            };
            let chain = if alone {
                1
            } else {
                depths.bound(program, calls, rules, &group)
            };
            for left in 1..=chain {
                for &function in &group {
                    let best = depths.deepest(calls, &group, function, left);
                    depths.best.insert((function, left), best);
                }
            }
        }
        depths
    }

    /// Finds what bounds a recursion; returns how many of its functions may be on the stack at once.
    fn bound(&mut self, program: &Program, calls: &Calls, rules: &Rules, group: &[usize]) -> usize {
        let name = |function: usize| program.functions[function].name.as_str();
        let rule = rules.recursion.iter().find(|rule| {
            group
                .iter()
                .all(|&function| fits(&rule.functions, name(function)))
        });
        let Some(rule) = rule else {
            let mut names: Vec<&str> = group.iter().map(|&function| name(function)).collect();
            names.sort_unstable();
            let count = names.len();
            self.doubts.push(format!(
                "nothing bounds the recursion of these {count}: {}",
                names.join(", ")
            ));
            return 1;
        };
        let is_seldom = |function: usize| {
            rule.seldom
                .as_ref()
                .is_some_and(|seldom| fits(&seldom.functions, name(function)))
        };
        let largest = group
            .iter()
            .filter(|&&function| is_seldom(function))
            .map(|&function| {
                let edges = calls.edges[function].iter().map(|edge| edge.depth);
                edges.chain([calls.frames[function]]).max().unwrap_or(0)
            })
            .max();
        let count = rule.seldom.as_ref().map_or(0, |seldom| seldom.chain);
        for &function in group {
            let bound = Bound {
                chain: rule.chain,
                seldom: count * largest.unwrap_or(0),
                is_seldom: is_seldom(function),
            };
            self.recursions.insert(function, bound);
        }
        rule.chain
    }

    fn deepest(&self, calls: &Calls, group: &[usize], function: usize, left: usize) -> Best {
        let own = |depth: Depth| {
            if self.recursion(function).is_seldom {
                0
            } else {
                depth
            }
        };
        let mut best = Best {
            depth: own(calls.frames[function]),
            next: None,
        };
        for &edge in &calls.edges[function] {
            let inside = group.binary_search(&edge.to).is_ok();
            let (left, seldom) = if inside {
                (left - 1, 0)
            } else {
                let bound = self.recursion(edge.to);
                (bound.chain, bound.seldom)
            };
            let Some(callee) = self.best.get(&(edge.to, left)) else {
                continue;
            };
            let edge = Edge {
                depth: own(edge.depth) + seldom,
                ..edge
            };
            if edge.depth + callee.depth > best.depth {
                best = Best {
                    depth: edge.depth + callee.depth,
                    next: Some((edge, left)),
                };
            }
        }
        best
    }

    fn recursion(&self, function: usize) -> Bound {
        self.recursions.get(&function).copied().unwrap_or(NO_RECURSION)
    }

    fn whole(&self, function: usize) -> usize {
        self.recursion(function).chain
    }

    /// How deep the stack gets when this function is called.
    pub fn of(&self, function: usize) -> Depth {
        self.best
            .get(&(function, self.whole(function)))
            .map_or(0, |best| best.depth)
    }

    /// The calls that lead there.
    pub fn way(&self, function: usize) -> Vec<Link> {
        let mut way = Vec::new();
        let mut at = Some((function, self.whole(function)));
        while let Some((function, left)) = at {
            let Some(best) = self.best.get(&(function, left)) else {
                break;
            };
            let bytes = best.next.map_or(best.depth, |(edge, _)| edge.depth);
            way.push(Link { function, bytes });
            at = best.next.map(|(edge, left)| (edge.to, left));
        }
        way
    }
}

/// Functions in groups that call each other (Tarjan's algorithm), each group after those that it calls, each sorted.
fn groups(calls: &Calls) -> Vec<Vec<usize>> {
    struct Search<'a> {
        calls: &'a Calls,
        number: Vec<Option<usize>>,
        low: Vec<usize>,
        open: Vec<usize>,
        is_open: Vec<bool>,
        count: usize,
        found: Vec<Vec<usize>>,
    }
    impl Search<'_> {
        fn visit(&mut self, function: usize) {
            self.number[function] = Some(self.count);
            self.low[function] = self.count;
            self.count += 1;
            self.open.push(function);
            self.is_open[function] = true;
            for index in 0..self.calls.edges[function].len() {
                let to = self.calls.edges[function][index].to;
                match self.number[to] {
                    None => {
                        self.visit(to);
                        self.low[function] = self.low[function].min(self.low[to]);
                    }
                    Some(number) if self.is_open[to] => {
                        self.low[function] = self.low[function].min(number);
                    }
                    Some(_) => {}
                }
            }
            if Some(self.low[function]) == self.number[function] {
                let at = self
                    .open
                    .iter()
                    .rposition(|&other| other == function)
                    .unwrap_or(0);
                let mut group = self.open.split_off(at);
                group.iter().for_each(|&member| self.is_open[member] = false);
                group.sort_unstable();
                self.found.push(group);
            }
        }
    }
    let count = calls.edges.len();
    let mut search = Search {
        calls,
        number: vec![None; count],
        low: vec![0; count],
        open: Vec::new(),
        is_open: vec![false; count],
        count: 0,
        found: Vec::new(),
    };
    for function in 0..count {
        if search.number[function].is_none() {
            search.visit(function);
        }
    }
    search.found
}

#[cfg(test)]
mod tests {
    use super::{Calls, Edge, groups};

    #[test]
    fn groups_come_after_those_that_they_call() {
        let edge = |to| Edge { to, depth: 8 };
        let calls = Calls {
            frames: vec![0; 5],
            edges: vec![
                vec![edge(1)],
                vec![edge(2), edge(4)],
                vec![edge(3)],
                vec![edge(1)],
                vec![],
            ],
            doubts: Vec::new(),
        };
        assert_eq!(groups(&calls), [vec![4], vec![1, 2, 3], vec![0]]);
    }
}
