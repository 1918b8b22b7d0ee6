//! Threads that wait for the machine thread, and may have something better to do when that takes long: while the host hangs
//! under a disk, say, a client may already have asked for the end of everything.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::Duration;

thread_local! {
    static IMPATIENT: RefCell<Option<Impatient>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct Impatient {
    patience: Duration,
    slow: Rc<dyn Fn()>,
}

/// Runs `body`. Whenever this thread waits in it for the machine for longer than `patience`, calls `slow`, once for that
/// wait and on this thread; then goes on waiting. What `slow` itself waits for is not looked at.
pub fn with_patience<T>(patience: Duration, slow: Rc<dyn Fn()>, body: impl FnOnce() -> T) -> T {
    let before = IMPATIENT.replace(Some(Impatient { patience, slow }));
    let _restore = Restore(before);
    body()
}

/// Puts back what was before, also when the thread unwinds.
struct Restore(Option<Impatient>);

impl Drop for Restore {
    fn drop(&mut self) {
        IMPATIENT.set(self.0.take());
    }
}

/// Waits for the machine thread's answer.
pub(crate) fn wait<T>(answer: &Receiver<T>) -> Result<T, RecvError> {
    let Some(impatient) = IMPATIENT.with_borrow(Clone::clone) else { return answer.recv() };
    match answer.recv_timeout(impatient.patience) {
        Ok(answer) => Ok(answer),
        Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        Err(RecvTimeoutError::Timeout) => {
            let _restore = Restore(IMPATIENT.take());
            (impatient.slow)();
            answer.recv()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_wait_that_takes_long_is_told_once_and_one_that_does_not_is_not() {
        let calls = Rc::new(Cell::new(0));
        let (reply, answer) = sync_channel(1);
        let (count, late) = (Rc::clone(&calls), reply.clone());
        // The answer comes only when it is told; what waits meanwhile is not told again.
        let slow = move || {
            count.set(count.get() + 1);
            let (inner, inner_answer) = sync_channel(1);
            inner.send(()).unwrap();
            wait(&inner_answer).unwrap();
            late.send(7).unwrap();
        };
        let found = with_patience(Duration::from_millis(1), Rc::new(slow), || {
            let first = wait(&answer).unwrap();
            reply.send(8).unwrap();
            (first, wait(&answer).unwrap(), wait(&answer).unwrap())
        });
        assert_eq!((found, calls.get()), ((7, 8, 7), 2));
        reply.send(9).unwrap();
        assert_eq!((wait(&answer), calls.get()), (Ok(9), 2));
    }
}
