//! The weight of a thread against others.

use std::io;

/// Sets the nice value of the calling thread alone (-20 to 19; a higher value is a lower weight).
///
/// Lifecycle rule 5.16: with more busy harts than cores, control threads answer in time only if harts weigh less.
///
/// # Errors
/// As the system reports; lowering the value needs a privilege.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    // On Linux PRIO_PROCESS with a thread's number means that thread, not its process.
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_gets_lighter() {
        let before = rustix::process::getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            set_thread_nice(before + 3).unwrap();
            let mine = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
            assert_eq!(mine, before + 3);
        })
        .join()
        .unwrap();
        assert_eq!(rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap(), before);
    }
}
