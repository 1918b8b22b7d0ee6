//! Several connections of one move, through a proxy that sees and cuts them.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::support::PATIENCE;

/// Bytes from the source, and from the destination, after which a link is cut.
pub const WHOLE: [usize; 2] = [usize::MAX; 2];

/// What went each way over a link.
type Went = [Arc<Mutex<Vec<u8>>>; 2];

pub struct Links {
    over: Arc<AtomicBool>,
    place: PathBuf,
    thread: JoinHandle<Vec<[Vec<u8>; 2]>>,
    stalled: mpsc::Receiver<()>,
}

impl Links {
    /// Passes every connection on to `there`; `limits` says where the one of that number, from 0 on, is cut.
    pub fn between(
        listener: UnixListener,
        there: &Path,
        limits: impl FnMut(usize) -> [usize; 2] + Send + 'static,
    ) -> Self {
        Self::begin(listener, there, limits, None)
    }

    /// The same, but what the source says on the connection of number `which` after it has introduced itself waits for good.
    pub fn stalled(listener: UnixListener, there: &Path, which: usize) -> Self {
        Self::begin(listener, there, |_| WHOLE, Some(which))
    }

    fn begin(
        listener: UnixListener,
        there: &Path,
        mut limits: impl FnMut(usize) -> [usize; 2] + Send + 'static,
        stalled: Option<usize>,
    ) -> Self {
        let place = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
        let (over, there) = (Arc::new(AtomicBool::new(false)), there.to_owned());
        let (tell, told) = mpsc::channel();
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut links: Vec<(Went, [JoinHandle<()>; 2])> = Vec::new();
            loop {
                let (source, _) = listener.accept().unwrap();
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let [out, back] = limits(links.len());
                let Ok(target) = UnixStream::connect(&there) else { continue };
                let went = Went::default();
                let sockets = || (source.try_clone().unwrap(), target.try_clone().unwrap());
                let ((from, to), (into, of)) = (sockets(), sockets());
                // What introduces a channel is shorter than this, and its first memory longer.
                let after = if links.is_empty() { 64 } else { 4096 };
                let stall = (stalled == Some(links.len())).then(|| (tell.clone(), Arc::clone(&ends), after));
                let [outgoing, incoming] = went.clone();
                let threads = [
                    thread::spawn(move || pass(from, to, out, &outgoing, stall)),
                    thread::spawn(move || pass(of, into, back, &incoming, None)),
                ];
                links.push((went, threads));
            }
            let ended = links.into_iter().map(|(went, threads)| {
                threads.into_iter().for_each(|thread| thread.join().unwrap());
                went.map(|went| std::mem::take(&mut *went.lock().unwrap()))
            });
            ended.collect()
        });
        Self { over, place, thread, stalled: told }
    }

    /// Waits until somebody waits for good.
    pub fn wait_until_stalled(&self) {
        self.stalled.recv_timeout(PATIENCE).unwrap();
    }

    /// The move is over: what went over each link.
    pub fn end(self) -> Vec<[Vec<u8>; 2]> {
        self.over.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.place));
        self.thread.join().unwrap()
    }
}

/// Who is told, until when it lasts, and after how many bytes it begins.
type Stall = (mpsc::Sender<()>, Arc<AtomicBool>, usize);

fn pass(mut from: UnixStream, mut to: UnixStream, limit: usize, went: &Mutex<Vec<u8>>, stall: Option<Stall>) {
    let mut left = limit;
    let mut buffer = [0; 4096];
    while left > 0 {
        if let Some((tell, over, after)) = &stall
            && went.lock().unwrap().len() >= *after
        {
            let _ = tell.send(());
            while !over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            break;
        }
        let want = left.min(buffer.len());
        match from.read(&mut buffer[..want]) {
            Ok(0) | Err(_) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
            Ok(count) => {
                left -= count;
                went.lock().unwrap().extend(&buffer[..count]);
            }
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Where frames end in a stream, with their kinds: behind each head, payload and content (`docs/saved-form.md`).
pub fn frame_ends(bytes: &[u8]) -> Vec<(u8, usize)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut ends, mut at) = (Vec::new(), 16);
    while at + 12 <= bytes.len() {
        let (kind, length) = (bytes[at], word(at + 4));
        let content = if kind == 4 { word(at + 12 + 24) } else { 0 };
        at += 12 + length + content;
        ends.push((kind, at));
    }
    ends
}
