//! Gradients of leaves: what is learned.
//!
//! candle adds every gradient to zeros, which it makes first. For a wide layer that is as much work as the gradient
//! itself. So operations put gradients of leaves aside where somebody waits for them, and hand candle none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use candle_core::backprop::GradStore;
use candle_core::{Result as Candle, Tensor, TensorId};

use crate::error::Result;

type Aside = HashMap<TensorId, Tensor>;

thread_local! {
    /// The gradients of the way back that this thread is on.
    static ASIDE: RefCell<Option<Aside>> = const { RefCell::new(None) };
}

/// The gradients of a loss with respect to leaves.
pub struct Gradients {
    store: GradStore,
    aside: Aside,
}

impl Gradients {
    /// Takes the gradient of a leaf out; `None` where the loss does not depend on it.
    ///
    /// # Errors
    ///
    /// None that are known of: both parts of a gradient have the shape of the leaf.
    pub fn take(&mut self, leaf: &Tensor) -> Result<Option<Tensor>> {
        match (self.store.remove(leaf), self.aside.remove(&leaf.id())) {
            (Some(gradient), Some(more)) => Ok(Some((gradient + more)?)),
            (gradient, more) => Ok(gradient.or(more)),
        }
    }
}

/// Goes back from a loss.
///
/// # Errors
///
/// When an operation has no derivative.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    /// Puts the former gradients back, after a panic too: a thread of a pool may begin the one while it waits for a
    /// part of the other.
    struct Former(Option<Aside>);
    impl Drop for Former {
        fn drop(&mut self) {
            ASIDE.set(self.0.take());
        }
    }
    let _former = Former(ASIDE.replace(Some(Aside::new())));
    let store = loss.backward()?;
    Ok(Gradients { store, aside: ASIDE.take().unwrap_or_default() })
}

/// Returns for candle the gradient that an operation computes of one of its arguments: none where none is wanted or
/// where it was put aside.
pub(super) fn of_leaf(
    argument: &Tensor,
    gradient: impl FnOnce() -> Candle<Tensor>,
) -> Candle<Option<Tensor>> {
    if !argument.track_op() {
        return Ok(None);
    }
    let gradient = gradient()?;
    ASIDE.with_borrow_mut(|aside| match aside {
        Some(aside) if argument.is_variable() => {
            match aside.entry(argument.id()) {
                Entry::Occupied(mut sum) => *sum.get_mut() = (sum.get() + gradient)?,
                Entry::Vacant(place) => {
                    place.insert(gradient);
                }
            }
            Ok(None)
        }
        _ => Ok(Some(gradient)),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::super::testing::{distance, flat, noise_tensor};
    use super::super::linear::linear;
    use super::*;

    #[test]
    fn gradients_are_those_of_candle_however_often_a_leaf_is_used() {
        let input = noise_tensor(&[5, 4], 1);
        let weight = Var::from_tensor(&noise_tensor(&[4, 4], 2)).unwrap();
        let idle = Var::from_tensor(&noise_tensor(&[4], 3)).unwrap();
        let weight = weight.as_tensor();
        let once = linear(&input, weight, None).unwrap();
        // Twice by an operation that puts gradients aside, once by one of candle's own.
        let loss = linear(&once, weight, None).unwrap().sum_all().unwrap();
        let loss = (loss + weight.sqr().unwrap().sum_all().unwrap()).unwrap();
        let expected = loss.backward().unwrap();
        let mut found = backward(&loss).unwrap();
        let of_weight = found.take(weight).unwrap().unwrap();
        assert!(distance(&flat(&of_weight), &flat(expected.get(weight).unwrap())) < 1e-5);
        assert!(found.take(weight).unwrap().is_none());
        assert!(found.take(idle.as_tensor()).unwrap().is_none());
        assert!(ASIDE.with_borrow(Option::is_none));
    }
}
