//! Which entry is to be looked at when: a million of them at the cost of a pointer each.
//!
//! What is further off lies unordered in the bucket of its second. An entry that is wanted earlier gets a second place
//! and the first one stays: a place counts only where the entry's own word agrees. When a bucket's time has come its
//! entries are put in order, so that each is looked at when it asked for it, to the tick, and the earliest first.

use std::collections::BTreeMap;

use super::Entry;
use crate::sync::{Arc, Weak};

/// A bucket is 2³⁰ ns wide, about 1.07 s: a million one-hour tokens that were fetched together stand in some 340 of
/// them, and what is in order at a time is what is due within one second.
const WIDTH: u32 = 30;

/// So few places are not worth a sweep.
const LEAST_SWEPT: usize = 1024;

/// How many places are looked at in one go. A whole sweep would hold up the fetches that land meanwhile.
const SWEPT_AT_ONCE: usize = 256;

#[derive(Default)]
pub(super) struct Alarms {
    /// By number of the bucket. None is empty.
    far: BTreeMap<u64, Bucket>,
    /// What stood in buckets before `opened`, by when and by the entry's address, which is its own for as long as it
    /// stands here.
    near: BTreeMap<(u64, usize), Weak<Entry>>,
    opened: u64,
    /// How many places there are.
    len: usize,
    /// How many there were after the last sweep.
    swept: usize,
    /// The bucket at which the sweep under way goes on.
    sweeping: Option<u64>,
}

struct Bucket {
    /// The earliest of its alarms, so that nobody has to wake up for the bucket's sake.
    first: u64,
    entries: Vec<Weak<Entry>>,
}

impl Bucket {
    /// Leaves those that still have an alarm in this bucket, each once.
    fn sweep(&mut self, number: u64) {
        self.entries.retain(|entry| entry.upgrade().is_some_and(|entry| entry.alarm() >> WIDTH == number));
        self.entries.sort_unstable_by_key(|entry| entry.as_ptr().addr());
        self.entries.dedup_by_key(|entry| entry.as_ptr().addr());
        if self.entries.len() < self.entries.capacity() / 2 {
            self.entries.shrink_to_fit();
        }
    }
}

impl Alarms {
    /// Has the entry stand here for `at`, or for earlier where it does already. Says whether it is now the first.
    pub(super) fn add(&mut self, entry: &Arc<Entry>, at: u64) -> bool {
        let before = entry.alarm();
        if before != 0 && before <= at {
            return false;
        }
        entry.set_alarm(at);
        // As the entry keeps it, which may be coarser.
        let (wanted, at) = (at, entry.alarm());
        if at < wanted {
            // Past the 18 years that an entry can count: it would go off early, and once they are over without end. What
            // is due then is refreshed when somebody asks for it. No other alarm stood: it would have been earlier.
            entry.set_alarm(0);
            return false;
        }
        if at == before {
            return false;
        }
        let place = Arc::as_ptr(entry).addr();
        if before >> WIDTH < self.opened && self.near.remove(&(before, place)).is_some() {
            self.len -= 1;
        }
        let first = self.first().is_none_or(|first| at < first);
        let number = at >> WIDTH;
        if number < self.opened {
            self.near.insert((at, place), Arc::downgrade(entry));
        } else {
            let bucket = self.far.entry(number).or_insert(Bucket { first: at, entries: Vec::new() });
            bucket.first = bucket.first.min(at);
            bucket.entries.push(Arc::downgrade(entry));
        }
        self.len += 1;
        self.sweep();
        first
    }

    /// When the next alarm goes off, or a little earlier: the first of a bucket may have been taken back.
    pub(super) fn first(&self) -> Option<u64> {
        // All that is near is earlier than all that is far.
        match self.near.first_key_value() {
            Some(((at, _), _)) => Some(*at),
            None => self.far.first_key_value().map(|(_, bucket)| bucket.first),
        }
    }

    /// Takes out the entry whose alarm goes off first, if it has by `now`.
    pub(super) fn pop(&mut self, now: u64) -> Option<Arc<Entry>> {
        while self.first()? <= now {
            let Some(((at, _), entry)) = self.near.pop_first() else {
                self.open();
                continue;
            };
            self.len -= 1;
            if let Some(entry) = entry.upgrade().filter(|entry| entry.alarm() == at) {
                entry.set_alarm(0);
                return Some(entry);
            }
        }
        None
    }

    /// Puts the entries of the first bucket in order.
    fn open(&mut self) {
        let Some((number, bucket)) = self.far.pop_first() else { return };
        self.opened = number + 1;
        self.len -= bucket.entries.len();
        for entry in bucket.entries {
            let Some(at) = entry.upgrade().map(|entry| entry.alarm()) else { continue };
            let place = entry.as_ptr().addr();
            if at >> WIDTH == number && self.near.insert((at, place), entry).is_none() {
                self.len += 1;
            }
        }
    }

    /// Once half of the places may be idle, those are taken out, some with each alarm that is added.
    fn sweep(&mut self) {
        if self.sweeping.is_none() && self.len > 2 * self.swept + LEAST_SWEPT {
            self.sweeping = Some(0);
        }
        let Some(mut from) = self.sweeping else { return };
        let mut looked_at = 0;
        while looked_at < SWEPT_AT_ONCE {
            let Some((&number, bucket)) = self.far.range_mut(from..).next() else {
                let near = self.near.len();
                self.near.retain(|_, entry| entry.strong_count() > 0);
                self.len -= near - self.near.len();
                (self.swept, self.sweeping) = (self.len, None);
                return;
            };
            looked_at += bucket.entries.len();
            let before = bucket.entries.len();
            bucket.sweep(number);
            self.len -= before - bucket.entries.len();
            if bucket.entries.is_empty() {
                self.far.remove(&number);
            }
            from = number + 1;
        }
        self.sweeping = Some(from);
    }

    /// How many places there are, idle ones included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What they take, but for the two maps' own spare room.
    pub(super) fn bytes(&self) -> usize {
        let near = size_of::<((u64, usize), Weak<Entry>)>() * self.near.len();
        let far = size_of::<(u64, Bucket)>() * self.far.len();
        let places = self.far.values().map(|bucket| size_of::<Weak<Entry>>() * bucket.entries.capacity());
        near + far + places.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{cell::Rare, request::TokenRequest};

    const SECOND: u64 = 1_000_000_000;

    fn entries(n: usize) -> Vec<Arc<Entry>> {
        let key = TokenRequest::new("https://vault.azure.net/.default").unwrap().key().clone();
        (0..n).map(|_| Arc::new(Entry::new(key.clone(), Rare::default()))).collect()
    }

    /// As an entry keeps it.
    fn kept(at: u64) -> u64 {
        let entry = entries(1).remove(0);
        entry.set_alarm(at);
        entry.alarm()
    }

    fn places(alarms: &Alarms) -> usize {
        alarms.near.len() + alarms.far.values().map(|bucket| bucket.entries.len()).sum::<usize>()
    }

    /// Against a map from entry to alarm: whatever is asked for, what goes off is what is due, the earliest first, never
    /// early and once.
    #[test]
    fn each_alarm_goes_off_once_in_order_and_never_early() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut alarms, mut wanted, mut now) = (Alarms::default(), BTreeMap::new(), 2 * SECOND);
            let mut entries = entries(200);
            for _ in 0..20_000 {
                match random.u8(..100) {
                    0..70 => {
                        let n = random.usize(..entries.len());
                        // Some of them in the past, and many in the same bucket.
                        let at = now.saturating_sub(SECOND) + {
                            let width = random.u32(1..40);
                            random.u64(..1 << width)
                        };
                        let at = kept(at);
                        let earlier = wanted.get(&n).is_none_or(|before| at < *before);
                        let first = alarms.first();
                        let rings = alarms.add(&entries[n], at);
                        if earlier {
                            wanted.insert(n, at);
                        }
                        // Whoever sleeps until the first one needs no bell.
                        assert!(rings || !earlier || first.is_some_and(|first| first <= at), "seed {seed}");
                    }
                    70..75 => {
                        // It was evicted, and its address may be another one's soon.
                        let n = random.usize(..entries.len());
                        entries[n] = self::entries(1).remove(0);
                        wanted.remove(&n);
                    }
                    _ => {
                        now += random.u64(..SECOND);
                        let mut last = 0;
                        while let Some(entry) = alarms.pop(now) {
                            let n = entries.iter().position(|one| Arc::ptr_eq(one, &entry)).unwrap();
                            let at = wanted.remove(&n).unwrap();
                            assert!(last <= at && at <= now && entry.alarm() == 0, "seed {seed}");
                            last = at;
                        }
                        assert!(wanted.values().all(|at| *at > now), "seed {seed}");
                        let first = wanted.values().min().copied();
                        assert!(first.is_none_or(|first| alarms.first().unwrap() <= first), "seed {seed}");
                    }
                }
                assert_eq!(alarms.len(), places(&alarms), "seed {seed}");
                assert!(alarms.len() <= 3 * LEAST_SWEPT, "seed {seed}: {} for 200", alarms.len());
            }
        }
    }

    #[test]
    fn what_was_taken_back_and_what_was_dropped_leaves_no_places() {
        let (mut alarms, kept) = (Alarms::default(), entries(10));
        for entry in &kept {
            alarms.add(entry, 7_000 * SECOND);
        }
        // One that is wanted ever earlier, and others that are evicted, far apart.
        for n in 0..100_000 {
            alarms.add(&kept[0], 6_000 * SECOND - n);
            alarms.add(&entries(1)[0], (n % 5_000) * SECOND);
        }
        assert!(alarms.len() < 3 * LEAST_SWEPT, "{} for ten", alarms.len());
        assert!(alarms.far.values().all(|bucket| !bucket.entries.is_empty()));
        let rung = std::iter::from_fn(|| alarms.pop(u64::MAX)).count();
        assert_eq!((rung, alarms.len(), places(&alarms)), (10, 0, 0));
    }

    #[test]
    fn an_entry_stands_here_for_sixteen_bytes() {
        let (mut alarms, entries) = (Alarms::default(), entries(100_000));
        let mut random = fastrand::Rng::with_seed(7);
        // Of an hour each, fetched together: due over the six minutes of their jitter.
        for entry in &entries {
            alarms.add(entry, 2_040 * SECOND + random.u64(..360 * SECOND));
        }
        let each = alarms.bytes() as f64 / entries.len() as f64;
        assert!(each <= 16.0, "{each} bytes");
        // And no more when each of them has had its turn and stands somewhere else.
        for second in 2_040..2_400 {
            while let Some(entry) = alarms.pop(second * SECOND) {
                alarms.add(&entry, (second + 2_040) * SECOND + random.u64(..360 * SECOND));
            }
        }
        let each = alarms.bytes() as f64 / entries.len() as f64;
        assert!(each <= 16.0 && alarms.len() == entries.len(), "{each} bytes, {} places", alarms.len());
    }

    #[test]
    fn nothing_stands_before_the_first_alarm_and_far_off_is_far_off() {
        let (mut alarms, entries) = (Alarms::default(), entries(3));
        let (early, late) = (kept(5 * SECOND), kept(5 * SECOND) + (1 << 27));
        let last = kept(u64::MAX);
        assert!(alarms.add(&entries[0], last) && alarms.first() == Some(last));
        assert!(alarms.add(&entries[1], early));
        assert!(!alarms.add(&entries[2], late) && !alarms.add(&entries[1], 6 * SECOND));
        assert_eq!(alarms.first(), Some(early), "to the tick, though it was not opened");
        assert!(alarms.pop(early - 1).is_none());
        assert!(Arc::ptr_eq(&alarms.pop(early).unwrap(), &entries[1]));
        assert!(alarms.pop(early).is_none());
        // The bucket is open now, and still is a place to stand in.
        assert!(alarms.add(&entries[1], early));
        assert!(Arc::ptr_eq(&alarms.pop(6 * SECOND).unwrap(), &entries[1]));
        assert!(Arc::ptr_eq(&alarms.pop(6 * SECOND).unwrap(), &entries[2]));
        assert!(alarms.pop(last - 1).is_none() && alarms.pop(last).is_some());
    }

    #[test]
    fn what_is_further_off_than_an_entry_can_count_has_no_alarm_rather_than_one_without_end() {
        let (mut alarms, entry) = (Alarms::default(), entries(1).remove(0));
        assert!(!alarms.add(&entry, kept(u64::MAX) + 1) && !alarms.add(&entry, u64::MAX));
        assert_eq!((entry.alarm(), alarms.len(), alarms.first()), (0, 0, None));
        assert!(alarms.add(&entry, SECOND) && !alarms.add(&entry, u64::MAX));
        assert!(alarms.pop(2 * SECOND).is_some() && alarms.pop(u64::MAX).is_none());
    }
}
