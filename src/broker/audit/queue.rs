//! Between those who record and the thread that writes.

use std::{collections::VecDeque, thread, time::Duration};

use super::{AuditRecord, AuditSink};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, watch};

pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// Something is to be written, or nothing ever will be.
    wake: Condvar,
    /// The thread has ended.
    ended: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
    /// How many records are done with, of those that were taken in.
    done: watch::Sender<u64>,
}

struct State {
    waiting: VecDeque<AuditRecord>,
    /// Being written.
    under_way: usize,
    taken: u64,
    /// Until the thread begins.
    sink: Option<Box<dyn AuditSink>>,
    running: bool,
    /// The one that writes, once it does.
    writer: Option<thread::ThreadId>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(sink: Box<dyn AuditSink>, capacity: usize) -> Arc<Self> {
        let state = State {
            waiting: VecDeque::new(),
            under_way: 0,
            taken: 0,
            sink: Some(sink),
            running: false,
            writer: None,
            closed: false,
        };
        Arc::new(Self {
            capacity,
            state: Mutex::new(state),
            wake: Condvar::new(),
            ended: Condvar::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            done: watch::Sender::new(0),
        })
    }

    /// Never waits: where there is no room, or no thread to write, the record is dropped.
    pub(super) fn put(self: &Arc<Self>, record: AuditRecord) {
        let mut state = self.state.lock();
        let sink = state.sink.take();
        if state.closed
            || (sink.is_none() && !state.running)
            || state.waiting.len() + state.under_way >= self.capacity
        {
            state.sink = sink;
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.taken += 1;
        state.waiting.push_back(record);
        state.running = true;
        drop(state);
        match sink {
            None => drop(self.wake.notify_one()),
            Some(sink) => self.begin(sink),
        }
    }

    fn begin(self: &Arc<Self>, sink: Box<dyn AuditSink>) {
        let queue = Arc::clone(self);
        let begun =
            thread::Builder::new().name("entra-broker-audit".to_owned()).spawn(move || queue.write(sink));
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread for the audit trail: its records are dropped");
            self.end();
        }
    }

    /// The thread: takes all that waits, writes it, flushes where nothing more waits.
    fn write(&self, sink: Box<dyn AuditSink>) {
        let _end = EndOnDrop(self);
        // Goes before that: a sink may have something left to write.
        let mut sink = sink;
        self.state.lock().writer = Some(thread::current().id());
        loop {
            let mut state = self.state.lock();
            while state.waiting.is_empty() && !state.closed {
                self.wake.wait(&mut state);
            }
            if state.waiting.is_empty() {
                return;
            }
            let batch = std::mem::take(&mut state.waiting);
            state.under_way = batch.len();
            drop(state);
            let mut done = 0;
            for record in batch {
                let written = sink.write(&record).inspect_err(complain).is_ok();
                let counter = if written { &self.written } else { &self.dropped };
                counter.fetch_add(1, Ordering::Relaxed);
                done += 1;
                // One by one: a slow sink makes room as it goes.
                self.state.lock().under_way -= 1;
            }
            if let Err(error) = sink.flush() {
                complain(&error);
            }
            self.done.send_modify(|all| *all += done);
        }
    }

    /// The thread is no more. What waits is lost.
    fn end(&self) {
        let mut state = self.state.lock();
        state.running = false;
        let lost = state.waiting.len() + state.under_way;
        state.waiting.clear();
        state.under_way = 0;
        let taken = state.taken;
        self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
        self.ended.notify_all();
        drop(state);
        self.done.send_modify(|done| *done = taken);
    }

    pub(super) async fn flush(&self) {
        let until = self.state.lock().taken;
        let mut done = self.done.subscribe();
        // It cannot fail: the sender is `self`'s.
        let _reached = done.wait_for(|done| *done >= until).await.is_ok();
    }

    /// No more records, and what waits is written, if that takes no longer than `patience`.
    pub(super) fn close(&self, patience: Duration) {
        let mut state = self.state.lock();
        state.closed = true;
        self.wake.notify_one();
        // A sink may be what has the last clone: its thread ends after this.
        while state.running && state.writer != Some(thread::current().id()) {
            if self.ended.wait_for(&mut state, patience).timed_out() {
                return;
            }
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A sink that panics ends the thread; nobody may wait for it then.
struct EndOnDrop<'a>(&'a Queue);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn complain(error: &std::io::Error) {
    tracing::warn!(%error, "an audit record was not written");
}
