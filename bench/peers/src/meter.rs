//! What a client process cost between two points: CPU time, allocations, peak memory.
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counts what Rust code allocates. librdkafka allocates through C's malloc, which this does not see.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// User and system CPU time of this process, all threads, in nanoseconds.
pub fn cpu() -> (u64, u64) {
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let nanos = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    (nanos(usage.ru_utime), nanos(usage.ru_stime))
}

/// Started when the warm-up is over.
pub struct Meter {
    cpu: (u64, u64),
    allocations: u64,
    start: Instant,
}

/// One client's figures, printed as one line and read again by the report.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub records: u64,
    pub user: u64,
    pub system: u64,
    pub allocations: u64,
    pub wall: u64,
    pub peak_kib: u64,
}

impl Meter {
    pub fn start() -> Self {
        Self { cpu: cpu(), allocations: ALLOCATIONS.load(Relaxed), start: Instant::now() }
    }

    pub fn stop(self, records: u64) -> Figures {
        let wall = self.start.elapsed().as_nanos() as u64;
        let (user, system) = cpu();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Figures {
            records,
            user: user - self.cpu.0,
            system: system - self.cpu.1,
            allocations: ALLOCATIONS.load(Relaxed) - self.allocations,
            wall,
            peak_kib: peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, user, system, allocations, wall, peak_kib } = self;
        write!(f, "figures {records} {user} {system} {allocations} {wall} {peak_kib}")
    }
}

impl Figures {
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("figures ")?.split(' ').map(|text| text.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            records: next()?,
            user: next()?,
            system: next()?,
            allocations: next()?,
            wall: next()?,
            peak_kib: next()?,
        })
    }
}
