//! Tests only: counts the allocations of one thread, so that a test can say that a path makes none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with a counter.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static WATCHED: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Its address tells threads apart without a system call, and without memory of its own.
    static HERE: u8 = const { 0 };
}

/// 0 on a thread that is ending.
fn this_thread() -> usize {
    HERE.try_with(|here| std::ptr::from_ref(here).addr())
        .unwrap_or(0)
}

/// Counts the calling thread's allocations from now on, and nobody else's.
pub fn watch_this_thread() {
    WATCHED.store(this_thread(), Relaxed);
}

/// How many the watched thread has made.
pub fn counted() -> u64 {
    COUNT.load(Relaxed)
}

fn note() {
    let watched = WATCHED.load(Relaxed);
    if watched != 0 && watched == this_thread() {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor
// fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: what the caller promises is what is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; the memory came from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above; the memory came from the same allocator.
        unsafe { System.realloc(at, layout, size) }
    }
}
