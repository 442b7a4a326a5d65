//! Room that many share, so that nobody takes it from all others.

use std::collections::HashMap;

/// Room of a fixed size. Who has as much already as would be left for others finds no more: one alone takes half of the room, two a third
/// each, and whoever comes next finds some.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    most: usize,
    used: usize,
    of: HashMap<Box<str>, usize>,
}

impl Shares {
    /// Room for so much of all.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Takes room for somebody; false where their share has none.
    pub fn take(&mut self, who: &str, amount: usize) -> bool {
        let own = self.of.get(who).copied().unwrap_or_default().saturating_add(amount);
        if !has_share(own, self.used, self.most) {
            return false;
        }
        self.used += amount;
        match self.of.get_mut(who) {
            Some(taken) => *taken = own,
            None => drop(self.of.insert(who.into(), own)),
        }
        true
    }

    /// Gives back what was taken.
    pub fn give(&mut self, who: &str, amount: usize) {
        let Some(taken) = self.of.get_mut(who) else { return };
        let amount = amount.min(*taken);
        *taken -= amount;
        self.used -= amount;
        if *taken == 0 {
            self.of.remove(who);
        }
    }
}

/// Whether somebody may come to have so much, where so much of all room is used.
pub fn has_share(own: usize, used: usize, most: usize) -> bool {
    own <= most.saturating_sub(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_next_finds_room() {
        let mut shares = Shares::new(1_000);
        let take =
            |shares: &mut Shares, who: &str| (0..2_000).filter(|_| shares.take(who, 1)).count();
        assert_eq!(take(&mut shares, "greedy"), 500);
        assert_eq!(take(&mut shares, "too"), 250);
        for other in 0..50 {
            assert!(shares.take(&format!("small-{other}"), 1), "{other}");
        }
        shares.give("greedy", 500);
        shares.give("greedy", 9);
        assert_eq!(take(&mut shares, "third"), 350);
        assert!(!shares.take("fourth", 351) && shares.take("fourth", 350));
    }
}
