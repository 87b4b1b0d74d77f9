//! Accepts only expressions that can be evaluated in bounded time and stack space.
//!
//! The interpreter is recursive and cannot be interrupted, so expressions are checked beforehand:
//! size, depth and nesting after parsing, and the possible amount of work when the values are
//! known.

use cel::common::ast::{EntryExpr, Expr};
use cel::parser::PrattParser;
use cel::{IdedExpr, common::ast::operators};
use kahn_model::limits;

use super::ExprError;
use super::references::{Finder, References};

/// Maximum depth of the syntax tree.
pub(super) const DEPTH_MAX: usize = 64;
/// Maximum number of nodes of the syntax tree, after macro expansion.
const NODES_MAX: usize = 4096;
/// Maximum nesting of `all`, `exists`, `map`, `filter` and similar macros.
const NESTING_MAX: u32 = 2;
/// Maximum number of iterations of innermost loops, as an upper bound.
const ROUNDS_MAX: u128 = 1_000_000;
/// The cost of a regular expression in iterations, since it is compiled on each use.
const MATCHES_ROUNDS: u128 = 100;

/// A parsed expression accepted by the guard.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) expr: IdedExpr,
    pub(super) references: References,
    shape: Shape,
}

/// The properties that determine how much work an expression can cause.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    nesting: u32,
    n_loops: u32,
    n_additions: u32,
    n_matches: u32,
    list_max: usize,
}

impl Program {
    /// Parses and checks `source`. Must be called on a large stack.
    pub(super) fn parse(source: &str) -> Result<Self, ExprError> {
        if source.len() > limits::EXPRESSION_BYTES_MAX {
            let max = limits::EXPRESSION_BYTES_MAX;
            return Err(ExprError::TooLarge(format!("{} bytes, at most {max}", source.len())));
        }
        if source.trim().is_empty() {
            return Err(ExprError::Syntax { message: "the expression is empty".into(), at: 0 });
        }
        let parser = PrattParser::new()
            .max_recursion_depth(64)
            .max_expression_node_count(NODES_MAX)
            .error_recovery_limit(1);
        let expr = parser.parse(source).map_err(|errors| syntax_error(source, &errors))?;
        let (shape, references) = inspect(&expr)?;
        Ok(Self { expr, references, shape })
    }

    /// Checks that the expression may be evaluated if no collection has more than `largest`
    /// elements.
    pub(super) fn check_work(&self, largest: usize) -> Result<(), ExprError> {
        let Shape { nesting, n_loops, n_additions, n_matches, list_max } = self.shape;
        let elements = u128::try_from(largest.max(list_max)).unwrap_or(u128::MAX);
        let size = elements.saturating_mul(u128::from(n_additions) + 1).max(1);
        let rounds = size.saturating_pow(nesting).saturating_mul(u128::from(n_loops));
        let weight = 1 + MATCHES_ROUNDS * u128::from(n_matches);
        if rounds.saturating_mul(weight) <= ROUNDS_MAX {
            return Ok(());
        }
        Err(ExprError::TooMuchWork { elements: largest })
    }
}

fn syntax_error(source: &str, errors: &cel::ParseErrors) -> ExprError {
    let Some(first) = errors.errors.first() else {
        return ExprError::Syntax { message: "cannot be read".into(), at: 0 };
    };
    let message = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    let line = usize::try_from(first.pos.0.max(1)).unwrap_or(1);
    let column = usize::try_from(first.pos.1.max(0)).unwrap_or(0);
    let start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = source.get(start..).unwrap_or("");
    let within: usize = rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    ExprError::Syntax { message: message.to_owned(), at: (start + within).min(source.len()) }
}

/// Traverses the tree without recursion, measures it and collects its references.
fn inspect(root: &IdedExpr) -> Result<(Shape, References), ExprError> {
    let mut shape = Shape::default();
    let mut finder = Finder::default();
    let mut n_nodes = 0;
    let mut stack = vec![(root, 1, 0)];
    while let Some((node, depth, nesting)) = stack.pop() {
        n_nodes += 1;
        if depth > DEPTH_MAX {
            return Err(ExprError::TooLarge(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        if n_nodes > NODES_MAX {
            return Err(ExprError::TooLarge(format!("more than {NODES_MAX} parts")));
        }
        if finder.visit(node)? {
            continue;
        }
        let mut inner = nesting;
        match &node.expr {
            Expr::Comprehension(_) => {
                inner += 1;
                shape.n_loops += 1;
                shape.nesting = shape.nesting.max(inner);
                if inner > NESTING_MAX {
                    return Err(ExprError::TooLarge(format!(
                        "loops (`all`, `exists`, `map`, `filter`) nested deeper than {NESTING_MAX}"
                    )));
                }
            }
            Expr::Call(call) if call.func_name == operators::ADD => shape.n_additions += 1,
            Expr::Call(call) if call.func_name == "matches" => shape.n_matches += 1,
            Expr::List(list) => shape.list_max = shape.list_max.max(list.elements.len()),
            Expr::Map(map) => shape.list_max = shape.list_max.max(map.entries.len()),
            _ => {}
        }
        for_each_child(node, |child, is_in_loop| {
            stack.push((child, depth + 1, if is_in_loop { inner } else { nesting }));
        });
    }
    Ok((shape, finder.finish()?))
}

/// Calls `found` with each child and with whether a loop repeats it.
fn for_each_child<'a>(node: &'a IdedExpr, mut found: impl FnMut(&'a IdedExpr, bool)) {
    match &node.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| found(target, true));
            call.args.iter().for_each(|arg| found(arg, true));
        }
        Expr::Comprehension(it) => {
            found(&it.iter_range, false);
            found(&it.accu_init, false);
            found(&it.loop_cond, true);
            found(&it.loop_step, true);
            found(&it.result, false);
        }
        Expr::List(list) => list.elements.iter().for_each(|element| found(element, true)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| entry_children(entry, &mut found)),
        Expr::Struct(it) => it.entries.iter().for_each(|entry| entry_children(entry, &mut found)),
        Expr::Select(select) => found(&select.operand, true),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn entry_children<'a>(
    entry: &'a cel::common::ast::IdedEntryExpr,
    found: &mut impl FnMut(&'a IdedExpr, bool),
) {
    match &entry.expr {
        EntryExpr::StructField(field) => found(&field.value, true),
        EntryExpr::MapEntry(entry) => {
            found(&entry.key, true);
            found(&entry.value, true);
        }
    }
}
