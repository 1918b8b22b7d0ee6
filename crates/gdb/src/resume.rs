//! `vCont` and the older packets that let the machine go on.

use engine::Resume;

use crate::command::{Thread, thread_id};

/// What the actions of a `vCont` packet (behind `vCont;`) come to on a machine of `harts` harts, where `current` is the
/// one that gdb means if it names none. `None`: something that nobody here can do.
///
/// A step goes before everything else: the others go on once it has ended.
pub(crate) fn actions(text: &str, harts: u32, current: u32) -> Option<Resume> {
    let mut continued = Vec::new();
    let mut stepped = None;
    for action in text.split(';') {
        let (action, thread) = match action.split_once(':') {
            Some((action, thread)) => (action, thread_id(thread, harts)?),
            None => (action, Thread::All),
        };
        match kind(action)? {
            Kind::Step => {
                let hart = if let Thread::Hart(hart) = thread { hart } else { current };
                stepped = stepped.or(Some(hart));
            }
            Kind::Continue => continued.push(thread),
        }
    }
    if let Some(hart) = stepped {
        return Some(Resume::Step(hart));
    }
    let named = |hart| continued.contains(&Thread::Hart(hart));
    match continued.as_slice() {
        [] => None,
        threads if threads.contains(&Thread::All) => Some(Resume::All),
        _ if (0..harts).all(named) => Some(Resume::All),
        [Thread::Hart(hart)] => Some(Resume::One(*hart)),
        _ => None,
    }
}

enum Kind {
    Continue,
    Step,
}

/// `c`, `s`, or one of them with a signal, which there is nobody to give to.
fn kind(action: &str) -> Option<Kind> {
    let signal = |digits: &str| crate::hex::number(digits).is_some_and(|signal| signal < 256);
    match action.split_at_checked(1)? {
        ("c", "") => Some(Kind::Continue),
        ("C", digits) if signal(digits) => Some(Kind::Continue),
        ("s", "") => Some(Kind::Step),
        ("S", digits) if signal(digits) => Some(Kind::Step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_actions_of_gdb_are_understood() {
        let of = |text| actions(text, 3, 1);
        assert_eq!(of("c"), Some(Resume::All));
        assert_eq!(of("C05:2;c"), Some(Resume::All));
        assert_eq!(of("s:3;c"), Some(Resume::Step(2)));
        assert_eq!(of("s"), Some(Resume::Step(1)));
        assert_eq!(of("S05:0"), Some(Resume::Step(1)));
        assert_eq!(of("c:2"), Some(Resume::One(1)));
        assert_eq!(of("c:1;c:2;c:3"), Some(Resume::All));
        assert_eq!(of("c:-1"), Some(Resume::All));
        for bad in ["", "t", "c:4", "r1,2", "c:1;c:2", "C", "Cfff", "c;x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
