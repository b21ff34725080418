//! The time at which librdkafka woke a consumer up. Consumers register a callback with
//! `rd_kafka_queue_cb_event_enable`. `build.rs` makes the linker replace that function by the
//! one here, which notes the time and then calls the callback.

use rdkafka_sys::{rd_kafka_queue_t, rd_kafka_t};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

type Callback = unsafe extern "C" fn(*mut rd_kafka_t, *mut c_void);

/// Whether consumers that start now are noted.
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Whom they want to be called, by what that is to be given.
static WANTED: Mutex<BTreeMap<usize, Callback>> = Mutex::new(BTreeMap::new());
/// The first wake-up since a record was handled; 0 where there was none.
static WOKEN: AtomicU64 = AtomicU64::new(0);
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds on the clock of this process, from 1 on.
pub fn now() -> u64 {
    EPOCH.elapsed().as_nanos() as u64 + 1
}

/// Notes the wake-ups of consumers that start from now on, or does not.
pub fn turn(on: bool) {
    IS_ON.store(on, Ordering::Relaxed);
    take();
}

/// The first wake-up since the last call.
pub fn take() -> Option<u64> {
    Some(WOKEN.swap(0, Ordering::Relaxed)).filter(|at| *at > 0)
}

unsafe extern "C" {
    fn __real_rd_kafka_queue_cb_event_enable(
        queue: *mut rd_kafka_queue_t,
        callback: Option<Callback>,
        opaque: *mut c_void,
    );
}

/// What is called in place of librdkafka's.
///
/// # Safety
/// As for librdkafka's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafka_queue_cb_event_enable(
    queue: *mut rd_kafka_queue_t,
    callback: Option<Callback>,
    opaque: *mut c_void,
) {
    let mut told = callback;
    if let Some(callback) = callback.filter(|_| IS_ON.load(Ordering::Relaxed)) {
        WANTED.lock().expect("no panic").insert(opaque as usize, callback);
        told = Some(woken);
    }
    // SAFETY: as the caller promises; `woken` passes on what it gets.
    unsafe { __real_rd_kafka_queue_cb_event_enable(queue, told, opaque) }
}

unsafe extern "C" fn woken(client: *mut rd_kafka_t, opaque: *mut c_void) {
    let _ = WOKEN.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
    let wanted = WANTED.lock().expect("no panic")[&(opaque as usize)];
    // SAFETY: what the consumer has asked for.
    unsafe { wanted(client, opaque) }
}
