//! The tree of path segments of one host pattern.
//!
//! It knows places, not conditions: whoever asks says which of the routes at a
//! place holds.
//!
//! Invariant: routes are found in the order of precedence of the room's
//! documentation, provided they were inserted in it.

use std::collections::HashMap;

use crate::config::pattern::{PathPattern, PathSegment};

use super::path::{canonical_segment, segments};

#[derive(Clone, Debug, Default)]
pub struct Tree {
    literals: HashMap<Vec<u8>, Self>,
    /// Below a `*` that stands for one segment.
    any: Option<Box<Self>>,
    /// Routes whose pattern ends here.
    ends: Vec<usize>,
    /// Routes whose pattern goes on with `/*` here.
    prefixes: Vec<usize>,
}

impl Tree {
    /// Adds a route; `id` must be above those inserted before it.
    pub fn insert(&mut self, pattern: &PathPattern, id: usize) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                PathSegment::Literal(text) => {
                    let text = canonical_segment(text).into_owned();
                    node.literals.entry(text).or_default()
                }
                PathSegment::Any => node.any.get_or_insert_default(),
            };
        }
        let list = if pattern.prefix {
            &mut node.prefixes
        } else {
            &mut node.ends
        };
        list.push(id);
    }

    /// The first route at a place that matches `path` for which `holds`.
    pub fn find(&self, path: &str, holds: impl Fn(usize) -> bool) -> Option<usize> {
        self.walk(segments(path), &holds)
    }

    /// Depth is bounded by the tree's, so by the longest pattern.
    fn walk<'a>(
        &self,
        mut rest: impl Iterator<Item = &'a str> + Clone,
        holds: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = |routes: &[usize]| routes.iter().copied().find(|&id| holds(id));
        let deeper = match rest.next() {
            None => first(&self.ends),
            Some(segment) => {
                let literal = self.literals.get(&*canonical_segment(segment));
                let any = self.any.as_deref().filter(|_| !segment.is_empty());
                let mut children = literal.into_iter().chain(any);
                children.find_map(|child| child.walk(rest.clone(), holds))
            }
        };
        deeper.or_else(|| first(&self.prefixes))
    }
}
