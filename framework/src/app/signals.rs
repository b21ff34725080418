//! Listens for SIGTERM and SIGINT while an application runs, and restores the former handlers after it.
//!
//! | end | exit code of a `main` that returns `App::run`'s result |
//! |---|---|
//! | SIGTERM, SIGINT or the token, all work finished and committed | 0 |
//! | an error, or work that did not finish within `shutdown_deadline` | 1 |
//! | a second signal, a second or more after the first: ends at once, commits nothing more | 128 + its number |
//!
//! tokio's own listener stays for the life of the process: after the application's end nobody would
//! hear a Ctrl-C. So Onceward installs a handler of its own and removes it again, which needs unsafe code.
//! The handler calls the former one, so other listeners of the process, such as tokio's, still hear each
//! signal. If there are other listeners, they decide when the process ends, and Onceward does not end it.
#![allow(unsafe_code)]

use crate::Error;
use crate::base::sync::lock;
use libc::{SIGINT, SIGTERM, c_int, c_void, siginfo_t};
use std::future::Future;
use std::io;
use std::mem::{MaybeUninit, transmute};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SIGNALS: [c_int; 2] = [SIGTERM, SIGINT];

/// The most applications of a process that may listen.
const MOST: usize = 16;

/// Some senders send each signal twice, to the process and to its group. Within this time the second is ignored.
const SAME: Duration = Duration::from_secs(1);

/// The descriptor to which each listener's signals are written; negative if there is none. A descriptor
/// stays open for ever, since the handler may be about to write to it.
static ENDS: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];

/// The former action of each signal; never freed, for the same reason.
static BEFORE: [AtomicPtr<libc::sigaction>; 2] = [const { AtomicPtr::new(null_mut()) }; 2];

static LISTENERS: Mutex<Listeners> =
    Mutex::new(Listeners { pipes: [const { None }; MOST], is_in: [false; 2] });

struct Listeners {
    pipes: [Option<Pipe>; MOST],
    /// Whether our handler is installed. It stays installed if another one was installed over it and calls it.
    is_in: [bool; 2],
}

/// A pipe from the handler to a listener.
struct Pipe {
    read: UnixStream,
    write: UnixStream,
    is_taken: bool,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { read, write, is_taken: false })
    }
}

/// The signals of one application, until it is dropped.
pub(crate) struct Signals {
    place: usize,
    pipe: tokio::net::UnixStream,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Error> {
        Self::open()
            .map_err(|error| Error::Internal { what: "listening for signals".into(), source: error.into() })
    }

    fn open() -> io::Result<Self> {
        let mut listeners = lock(&LISTENERS);
        let is_free = |pipe: &Option<Pipe>| pipe.as_ref().is_none_or(|pipe| !pipe.is_taken);
        let place = listeners.pipes.iter().position(is_free).ok_or_else(|| {
            io::Error::other(format!("{MOST} applications listen already; set `App::without_signals()`"))
        })?;
        let pipe = match listeners.pipes[place].take() {
            Some(pipe) => pipe,
            None => Pipe::new()?,
        };
        let pipe = listeners.pipes[place].insert(pipe);
        let read = tokio::net::UnixStream::from_std(pipe.read.try_clone()?)?;
        // Of the listener before.
        while read.try_read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        pipe.is_taken = true;
        ENDS[place].store(pipe.write.as_raw_fd(), Ordering::Release);
        let signals = Self { place, pipe: read };
        let put_in = SIGNALS.into_iter().enumerate().try_for_each(|(index, signal)| {
            if !listeners.is_in[index] {
                put_in(index, signal)?;
                listeners.is_in[index] = true;
            }
            Ok(())
        });
        // Whoever drops them takes the lock, too.
        drop(listeners);
        put_in.map(|()| signals)
    }

    /// Waits for the next signal.
    async fn next(&self) -> c_int {
        let mut number = [0];
        loop {
            match self.pipe.try_read(&mut number) {
                Ok(1) => return number[0].into(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It cannot: nobody closes the other end.
                _ => std::future::pending().await,
            }
            if self.pipe.readable().await.is_err() {
                // The runtime shuts down.
                std::future::pending().await
            }
        }
    }

    /// Runs `work`. The first signal shuts it down, the second ends the process.
    pub(crate) async fn during<T>(self, shutdown: &CancellationToken, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut first: Option<Instant> = None;
        loop {
            let signal = tokio::select! {
                ended = &mut work => return ended,
                signal = self.next() => signal,
            };
            match first {
                None => {
                    tracing::info!("{}: shutting down", name(signal));
                    shutdown.cancel();
                    first = Some(Instant::now());
                }
                Some(first) if first.elapsed() < SAME => {}
                Some(_) if is_ours(signal) => {
                    tracing::warn!("second signal: ending at once");
                    std::process::exit(128 + signal);
                }
                Some(_) => tracing::warn!(
                    "second signal: another part of the process listens for it too, and says what it means"
                ),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut listeners = lock(&LISTENERS);
        ENDS[self.place].store(-1, Ordering::Release);
        if let Some(pipe) = &mut listeners.pipes[self.place] {
            pipe.is_taken = false;
        }
        if listeners.pipes.iter().flatten().any(|pipe| pipe.is_taken) {
            return;
        }
        for (index, signal) in SIGNALS.into_iter().enumerate() {
            if listeners.is_in[index] && take_out(index, signal) {
                listeners.is_in[index] = false;
            }
        }
    }
}

fn name(signal: c_int) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

/// Installs our handler, and keeps the former one.
fn put_in(index: usize, signal: c_int) -> io::Result<()> {
    BEFORE[index].store(Box::into_raw(Box::new(action_of(signal)?)), Ordering::Release);
    // SAFETY: all zeroes is a value of this C struct, and `sigemptyset` gets a valid pointer.
    let ours = unsafe {
        let mut ours: libc::sigaction = MaybeUninit::zeroed().assume_init();
        ours.sa_sigaction = ours_as_number();
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut ours.sa_mask);
        ours
    };
    // SAFETY: `ours` is complete, and its handler does only what one may do.
    match unsafe { libc::sigaction(signal, &ours, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Restores the former handler; `false` if another one was installed over ours meanwhile.
fn take_out(index: usize, signal: c_int) -> bool {
    let before = BEFORE[index].load(Ordering::Acquire);
    let is_on_top = action_of(signal).is_ok_and(|action| action.sa_sigaction == ours_as_number());
    // SAFETY: `before` was made by `put_in`, and is never freed.
    is_on_top && unsafe { libc::sigaction(signal, before, null_mut()) } == 0
}

/// Whether no other part of the process listens for the signal.
fn is_ours(signal: c_int) -> bool {
    let Some(index) = SIGNALS.iter().position(|known| *known == signal) else { return false };
    let before = BEFORE[index].load(Ordering::Acquire);
    // SAFETY: it was made by `put_in`, and is never freed.
    let is_default = unsafe { before.as_ref() }.is_some_and(|before| before.sa_sigaction == libc::SIG_DFL);
    is_default && action_of(signal).is_ok_and(|action| action.sa_sigaction == ours_as_number())
}

/// The signal's current action.
fn action_of(signal: c_int) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::zeroed();
    // SAFETY: the pointer is valid, and all zeroes is a value, so it is one in any case.
    unsafe {
        match libc::sigaction(signal, null(), action.as_mut_ptr()) {
            0 => Ok(action.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn ours_as_number() -> libc::sighandler_t {
    on_signal as *const () as libc::sighandler_t
}

/// The handler. It interrupts any thread at any place, so it does nothing but what POSIX allows:
/// it reads atomics, writes to pipes, and calls the handler before it.
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = errno::errno();
    let number = [signal as u8];
    for end in &ENDS {
        let end = end.load(Ordering::Acquire);
        if end >= 0 {
            // SAFETY: the descriptor is never closed, and the buffer has one byte. A full pipe has
            // signals enough.
            unsafe { libc::write(end, number.as_ptr().cast(), 1) };
        }
    }
    let before = usize::from(signal == SIGINT);
    // SAFETY: what `put_in` made is never freed, and what it holds is a handler of the kind that its
    // flags say, unless it is one of the two values that are none.
    unsafe {
        match BEFORE[before].load(Ordering::Acquire).as_ref() {
            None => {}
            Some(before) if matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) => {}
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    transmute(before.sa_sigaction);
                handler(signal, info, context);
            }
            Some(before) => {
                let handler: extern "C" fn(c_int) = transmute(before.sa_sigaction);
                handler(signal);
            }
        }
    }
    errno::set_errno(errno);
}
