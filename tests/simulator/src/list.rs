//! A short list that never grows past its bound: what is one too many takes the place of an older one.

use crate::numbers::Numbers;

/// At most `N` values.
#[derive(Clone, Debug)]
pub struct List<T: Copy, const N: usize> {
    values: heapless::Vec<T, N>,
    oldest: usize,
}

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        List {
            values: heapless::Vec::new(),
            oldest: 0,
        }
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// Add a value; a full list forgets its oldest one, roughly.
    pub fn push(&mut self, value: T) {
        if let Err(value) = self.values.push(value) {
            self.oldest = (self.oldest + 1) % N;
            self.values[self.oldest] = value;
        }
    }

    /// Any of the values.
    pub fn pick(&self, numbers: &mut Numbers) -> Option<T> {
        let index = numbers.below(self.values.len() as u64) as usize;
        self.values.get(index).copied()
    }

    /// Any of the values that `wanted` takes: the first one from a random place on, of a bounded number.
    pub fn pick_if(&self, numbers: &mut Numbers, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let length = self.values.len();
        let start = numbers.below(length as u64) as usize;
        (0..length)
            .map(|step| &self.values[(start + step) % length])
            .find(|value| wanted(value))
            .copied()
    }

    /// Forget those that `unwanted` names.
    pub fn remove(&mut self, unwanted: impl Fn(&T) -> bool) {
        let mut index = 0;
        while index < self.values.len() {
            if unwanted(&self.values[index]) {
                self.values.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> core::slice::Iter<'_, T> {
        self.values.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> core::slice::IterMut<'_, T> {
        self.values.iter_mut()
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_finds_what_it_holds() {
        let mut list = List::<u32, 4>::default();
        let mut numbers = Numbers::new(1);
        assert_eq!(list.pick(&mut numbers), None);
        assert_eq!(list.pick_if(&mut numbers, |_| true), None);
        (0..10).for_each(|value| list.push(value));
        assert_eq!(list.len(), 4);
        assert!(list.iter().any(|&value| value == 9));
        assert_eq!(list.pick_if(&mut numbers, |&value| value == 9), Some(9));
        list.remove(|&value| value == 9);
        assert_eq!(list.pick_if(&mut numbers, |&value| value == 9), None);
        assert_eq!(list.len(), 3);
        list.clear();
        assert!(list.is_empty());
    }
}
