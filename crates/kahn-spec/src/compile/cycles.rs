//! Finds dependency cycles, reports short ones and suggests how to break them.
//!
//! Works on the tasks of the file, not on their instances: a cycle among instances is also a cycle
//! among their tasks. Nothing here is recursive, and the number of steps is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::groups::Groups;
use super::needs::Needs;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::span::Span;

/// Maximum number of steps for finding the shortest cycle of one component.
const STEPS_MAX: usize = 20_000_000;
/// Maximum number of tasks of a cycle that are named in a message.
const SHOWN_MAX: usize = 12;
/// Maximum number of edges that are shown.
const EDGES_SHOWN_MAX: usize = 10;

/// Reports every strongly connected component that contains a cycle.
pub(super) fn report(groups: &Groups<'_>, needs: &Needs, sink: &mut Sink) {
    let targets = |at: usize| needs[at].iter().map(|need| need.target.group());
    if !has_cycle(needs) {
        return;
    }
    let mut graph = DiGraph::<(), (), u32>::with_capacity(needs.len(), 0);
    let index = |at: usize| NodeIndex::new(at);
    (0..needs.len()).for_each(|_| _ = graph.add_node(()));
    for from in 0..needs.len() {
        for to in targets(from) {
            graph.add_edge(index(from), index(to), ());
        }
    }
    let mut components: Vec<Vec<usize>> = kosaraju_scc(&graph)
        .into_iter()
        .map(|component| component.into_iter().map(NodeIndex::index).collect())
        .filter(|component: &Vec<usize>| {
            component.len() > 1 || targets(component[0]).any(|to| to == component[0])
        })
        .collect();
    components.iter_mut().for_each(|component| component.sort_unstable());
    components.sort_unstable();
    for component in components {
        if sink.is_full() {
            return;
        }
        sink.push(describe(groups, needs, &component));
    }
}

/// Detects cycles with Kahn's algorithm on the tasks of the file.
fn has_cycle(needs: &Needs) -> bool {
    let mut n_dependents = vec![0u32; needs.len()];
    for need in needs.iter().flatten() {
        n_dependents[need.target.group()] += 1;
    }
    let mut free: Vec<usize> = (0..needs.len()).filter(|at| n_dependents[*at] == 0).collect();
    let mut n_free = 0;
    while let Some(at) = free.pop() {
        n_free += 1;
        for need in &needs[at] {
            let to = need.target.group();
            n_dependents[to] -= 1;
            if n_dependents[to] == 0 {
                free.push(to);
            }
        }
    }
    n_free < needs.len()
}

type Edge = (usize, usize);

/// A strongly connected component. Tasks are numbered within it.
struct Scc {
    /// The sorted positions of its tasks in the file.
    members: Vec<usize>,
    /// The sorted dependencies of each task within the component.
    needs: Vec<Vec<usize>>,
}

const NOWHERE: usize = usize::MAX;

impl Scc {
    fn new(needs: &Needs, component: &[usize]) -> Self {
        let members = component.to_vec();
        let inside = |at: &usize| {
            let all = needs[*at].iter().map(|need| need.target.group());
            let mut all: Vec<usize> =
                all.filter_map(|to| members.binary_search(&to).ok()).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let needs = members.iter().map(inside).collect();
        Self { members, needs }
    }

    fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        self.needs.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, *to)))
    }

    /// Returns whether the component is a single cycle without other edges.
    fn is_single(&self) -> bool {
        self.edges().count() == self.members.len()
    }

    /// Converts an edge to positions in the file.
    fn outside(&self, (from, to): Edge) -> Edge {
        (self.members[from], self.members[to])
    }

    /// Returns the shortest cycle found within the step limit, as positions in the file. Each task
    /// needs the next, the last needs the first.
    fn shortest(&self) -> Vec<usize> {
        let n_steps = self.edges().count() + self.members.len();
        let n_starts = if self.is_single() { 1 } else { (STEPS_MAX / n_steps).max(1) };
        let mut best: Option<Vec<usize>> = None;
        for start in 0..self.members.len().min(n_starts) {
            let limit = best.as_ref().map_or(usize::MAX, Vec::len);
            if limit <= 2 {
                break;
            }
            best = self.around(start, limit).or(best);
        }
        best.unwrap_or_default().into_iter().map(|at| self.members[at]).collect()
    }

    /// Returns the shortest cycle through `start`, if shorter than `limit`.
    fn around(&self, start: usize, limit: usize) -> Option<Vec<usize>> {
        let mut came_from = vec![NOWHERE; self.members.len()];
        let mut queue = VecDeque::from([(start, 1usize)]);
        while let Some((at, length)) = queue.pop_front() {
            if length >= limit {
                return None;
            }
            for to in &self.needs[at] {
                if *to == start {
                    let mut path = vec![at];
                    let mut back = at;
                    while back != start {
                        back = came_from[back];
                        path.push(back);
                    }
                    path.reverse();
                    return Some(path);
                }
                if came_from[*to] == NOWHERE {
                    came_from[*to] = at;
                    queue.push_back((*to, length + 1));
                }
            }
        }
        None
    }

    /// Returns edges whose removal breaks all cycles: those that point backwards in the order
    /// computed by the heuristic of Eades, Lin and Smyth ("A fast and effective heuristic for the
    /// feedback arc set problem", IPL 1993).
    fn feedback_arcs(&self) -> Vec<Edge> {
        let n = self.members.len();
        let mut into: Vec<Vec<usize>> = vec![Vec::new(); n];
        let mut degrees: Vec<(i64, i64)> = vec![(0, 0); n];
        for (from, to) in self.edges() {
            into[to].push(from);
            degrees[from].0 += 1;
            degrees[to].1 += 1;
        }
        let rank = |(n_out, n_in): (i64, i64)| match (n_out, n_in) {
            (0, _) => (0, 0),
            (_, 0) => (1, 0),
            _ => (2, n_in - n_out),
        };
        let mut open: BTreeSet<((i64, i64), usize)> =
            degrees.iter().enumerate().map(|(at, degrees)| (rank(*degrees), at)).collect();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        while let Some((key, at)) = open.pop_first() {
            if key.0 == 0 {
                back.push(at)
            } else {
                front.push(at)
            }
            let mut update = |other: usize, is_source: bool| {
                let degrees = &mut degrees[other];
                let was_open = open.remove(&(rank(*degrees), other));
                if is_source {
                    degrees.0 -= 1
                } else {
                    degrees.1 -= 1
                }
                if was_open {
                    open.insert((rank(*degrees), other));
                }
            };
            into[at].iter().for_each(|from| update(*from, true));
            self.needs[at].iter().for_each(|to| update(*to, false));
        }
        front.extend(back.into_iter().rev());
        let mut place = vec![0; n];
        front.into_iter().enumerate().for_each(|(order, at)| place[at] = order);
        let backward = self.edges().filter(|(from, to)| place[*from] >= place[*to]);
        backward.map(|edge| self.outside(edge)).collect()
    }
}

fn describe(groups: &Groups<'_>, needs: &Needs, component: &[usize]) -> Diagnostic {
    let name = |at: usize| groups.get(at).name;
    let scc = Scc::new(needs, component);
    let path = scc.shortest();
    let closed: Vec<Edge> =
        path.iter().zip(path.iter().cycle().skip(1)).map(|(from, to)| (*from, *to)).collect();
    let message = match path.as_slice() {
        [one] => format!("task `{}` needs itself", name(*one)),
        _ => format!("dependency cycle: {}", shown(&path, name)),
    };
    let is_single = scc.is_single();
    let cuts = if is_single { closed.clone() } else { scc.feedback_arcs() };
    let mut diagnostic = Diagnostic::error(Code::Cycle, message);
    for (from, to) in closed.iter().take(EDGES_SHOWN_MAX) {
        let text = format!("`{}` needs `{}`", name(*from), name(*to));
        diagnostic = diagnostic.label(place(needs, *from, *to), text);
    }
    if closed.is_empty() {
        diagnostic = diagnostic.at(groups.get(component[0]).span);
    }
    diagnostic.help(advice(&path, &cuts, is_single, component.len(), name))
}

/// Returns the span of the entry by which `from` needs `to`.
fn place(needs: &Needs, from: usize, to: usize) -> Span {
    let entry = needs[from].iter().find(|need| need.target.group() == to);
    entry.map_or(Span::NONE, |need| need.span)
}

/// Formats `a → b → c → a`, omitting the middle of a long cycle.
fn shown<'a>(path: &[usize], name: impl Fn(usize) -> &'a str) -> String {
    let mut names: Vec<String> = path.iter().map(|at| name(*at).to_owned()).collect();
    names.extend(path.first().map(|at| name(*at).to_owned()));
    if names.len() > SHOWN_MAX + 1 {
        let half = SHOWN_MAX / 2;
        let n_hidden = names.len() - 2 * half;
        names.splice(half..names.len() - half, [format!("… {n_hidden} more …")]);
    }
    names.join(" → ")
}

fn advice<'a>(
    path: &[usize],
    cuts: &[Edge],
    is_single: bool,
    n_tasks: usize,
    name: impl Fn(usize) -> &'a str,
) -> String {
    let edge = |(from, to): &Edge| format!("`{}` needs `{}`", name(*from), name(*to));
    let mut list: Vec<String> = cuts.iter().take(EDGES_SHOWN_MAX).map(edge).collect();
    if cuts.len() > EDGES_SHOWN_MAX {
        list.push(format!("and {} more", cuts.len() - EDGES_SHOWN_MAX));
    }
    let mut out = if path.len() == 1 {
        "remove the name of the task from its own `needs`".to_owned()
    } else if is_single {
        format!("removing any one of these breaks the cycle: {}", list.join("; "))
    } else {
        format!(
            "{n_tasks} tasks form several cycles; removing all of these breaks them: {}",
            list.join("; ")
        )
    };
    if let Some((before, task, after)) = split(path, cuts) {
        out.push_str(&format!(
            "\nif `{task}` does two things, one that `{before}` needs and one that needs \
             `{after}`, split it into two tasks",
            task = name(task),
            before = name(before),
            after = name(after),
        ));
    }
    out
}

/// Returns the task of the cycle with the most suggested cuts, together with the task that needs it
/// and the task that it needs.
fn split(path: &[usize], cuts: &[Edge]) -> Option<(usize, usize, usize)> {
    if path.len() < 2 {
        return None;
    }
    let mut n_cuts: BTreeMap<usize, usize> = BTreeMap::new();
    for at in cuts.iter().flat_map(|(from, to)| [from, to]) {
        *n_cuts.entry(*at).or_default() += 1;
    }
    let (place, task) = path.iter().enumerate().max_by_key(|(place, at)| {
        (n_cuts.get(at).copied().unwrap_or(0), std::cmp::Reverse(*place))
    })?;
    let before = path[(place + path.len() - 1) % path.len()];
    let after = path[(place + 1) % path.len()];
    Some((before, *task, after))
}
