//! Numbered places for the tunnels of one thread.
//!
//! It grows by chunks and so moves nothing and never holds twice what it
//! needs; it does not shrink.
//!
//! Invariant: a number is given again only after `remove`.

/// Places allocated at once.
const CHUNK: usize = 256;

pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let (chunk, index) = place(slot);
            self.chunks[chunk][index] = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Some(value));
        (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (chunk, index) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let (chunk, index) = place(slot);
        let value = self.chunks.get_mut(chunk)?.get_mut(index)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.len = 0;
        self.free.clear();
        std::mem::take(&mut self.chunks)
            .into_iter()
            .flatten()
            .flatten()
    }
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_found() {
        let mut slab = Slab::new();
        let slots: Vec<u32> = (0..1000).map(|value| slab.insert(value)).collect();
        assert_eq!(slots, (0..1000).collect::<Vec<u32>>());
        for slot in (0..1000).step_by(2) {
            assert_eq!(slab.remove(slot), Some(slot));
            assert_eq!(slab.remove(slot), None);
        }
        assert_eq!(slab.len(), 500);
        for value in 0..500 {
            let slot = slab.insert(10_000 + value);
            assert!(slot < 1000 && slot % 2 == 0);
        }
        assert_eq!(slab.get_mut(7), Some(&mut 7));
        assert_eq!(slab.get_mut(u32::MAX), None);
        assert_eq!(slab.drain().count(), 1000);
        assert_eq!((slab.len(), slab.insert(1)), (0, 0));
    }
}
