//! A table of things with small, recycled numbers, so that an epoll token can name one without a
//! pointer. An [`Id`] carries a generation: an event that was queued for what has left finds
//! nothing, instead of its successor.

/// Names one thing in one slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    index: u32,
    generation: u32,
}

/// Generations wrap within this many bits, so that an id and a kind fit in one epoll token.
const GENERATION_BITS: u32 = 30;

impl Id {
    /// The id as the low 62 bits of a token.
    pub fn bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Its number, which others have when it has left.
    pub fn place(self) -> u32 {
        self.index
    }

    /// The id in the low 62 bits of a token.
    pub fn from_bits(bits: u64) -> Self {
        Id {
            index: bits as u32,
            generation: (bits >> 32) as u32 & ((1 << GENERATION_BITS) - 1),
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The id that the next [`Slab::insert`] will give.
    pub fn next_id(&self) -> Id {
        match self.free.last() {
            Some(&index) => Id {
                index,
                generation: self.entries.get(index as usize).map_or(0, |e| e.generation),
            },
            None => Id {
                index: self.entries.len() as u32,
                generation: 0,
            },
        }
    }

    pub fn insert(&mut self, value: T) -> Id {
        let id = self.next_id();
        match self.free.pop() {
            Some(index) => {
                if let Some(entry) = self.entries.get_mut(index as usize) {
                    entry.value = Some(value);
                }
            }
            None => self.entries.push(Entry {
                generation: 0,
                value: Some(value),
            }),
        }
        id
    }

    pub fn get(&self, id: Id) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        entry
            .value
            .as_ref()
            .filter(|_| entry.generation == id.generation)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        entry.value.as_mut()
    }

    /// What is in a place now.
    pub fn at(&self, place: u32) -> Option<Id> {
        let entry = self.entries.get(place as usize)?;
        entry.value.as_ref().map(|_| Id {
            index: place,
            generation: entry.generation,
        })
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.free.push(id.index);
        Some(value)
    }

    /// How many are held now.
    pub(crate) fn len(&self) -> u32 {
        self.entries.len().saturating_sub(self.free.len()) as u32
    }

    /// The ids of all that is held now.
    pub fn ids(&self) -> Vec<Id> {
        self.entries
            .iter()
            .zip(0..)
            .filter(|(entry, _)| entry.value.is_some())
            .map(|(entry, index)| Id {
                index,
                generation: entry.generation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_does_not_find_a_successor() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.next_id();
        assert_eq!(slab.insert('b'), second);
        assert_ne!(first, second);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!((slab.at(second.place()), slab.at(1)), (Some(second), None));
        assert_eq!(slab.ids(), [second]);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn an_id_survives_a_token() {
        let id = Id {
            index: 12,
            generation: 345,
        };
        assert_eq!(Id::from_bits(id.bits() | 1 << 63), id);
    }
}
