//! An allocator that counts, for each thread by itself: what the other tests of the binary do meanwhile does not matter.
#![allow(dead_code, reason = "every test binary uses another part")]
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn add(bytes: usize) {
    // A thread that is ending has no counters left and nobody who would read them.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn sub(bytes: usize) {
    // What another thread allocated may be freed here; the count never goes below nothing.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        sub(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new exist together while the bytes are copied.
        add(size);
        sub(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes that were held at once during `work`, above what was held before.
pub(crate) fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

/// The same of a future on a runtime of one thread, with all that runs beside it.
pub(crate) async fn peak_of(work: impl Future<Output = ()>) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work.await;
    PEAK.get() - before
}

/// How many times this thread has asked for memory so far.
pub(crate) fn count() -> u64 {
    COUNT.get()
}

/// What this thread holds now.
pub(crate) fn held() -> usize {
    HELD.get()
}
