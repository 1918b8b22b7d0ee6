//! What migrations can do and what of it is on.

/// Something that a migration can do: QEMU's names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Capability {
    /// `auto-converge`: a guest that writes faster than is sent is slowed down.
    AutoConverge,
    /// `events`: MIGRATION and MIGRATION_PASS are sent.
    Events,
    /// `postcopy-ram`: the guest may go on over there before all of its memory is.
    PostcopyRam,
    /// `pause-before-switchover`: waits for `migrate-continue` once the machine is held.
    PauseBeforeSwitchover,
    /// `multifd`: memory goes over several connections.
    Multifd,
    /// `return-path`: the other side answers. It always does where it can.
    ReturnPath,
    /// `background-snapshot`: the machine as it is now, while it goes on.
    BackgroundSnapshot,
    /// `mapped-ram`: each page has its place in the file.
    MappedRam,
}

use Capability::{
    AutoConverge, BackgroundSnapshot, MappedRam, Multifd, PauseBeforeSwitchover, PostcopyRam, ReturnPath,
};

impl Capability {
    /// All of them.
    pub const ALL: [Self; 8] = [
        AutoConverge,
        Self::Events,
        PostcopyRam,
        PauseBeforeSwitchover,
        Multifd,
        ReturnPath,
        BackgroundSnapshot,
        MappedRam,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            AutoConverge => "auto-converge",
            Self::Events => "events",
            PostcopyRam => "postcopy-ram",
            PauseBeforeSwitchover => "pause-before-switchover",
            Multifd => "multifd",
            ReturnPath => "return-path",
            BackgroundSnapshot => "background-snapshot",
            MappedRam => "mapped-ram",
        }
    }

    /// Whether this program has it. What it has not cannot be switched on.
    pub fn is_available(self) -> bool {
        matches!(
            self,
            Self::Events
                | ReturnPath
                | PauseBeforeSwitchover
                | AutoConverge
                | MappedRam
                | PostcopyRam
                | BackgroundSnapshot
                | Multifd
        )
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capabilities(u16);

/// Capabilities that do not go together, or that are not to be had. Nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CapabilityError {
    /// Not to be had.
    #[error("Capability '{}' is not available in this program", .0.name())]
    Unavailable(Capability),
    /// A background snapshot with something that it cannot be combined with.
    #[error("Background-snapshot is not compatible with {}", .0.name())]
    WithBackgroundSnapshot(Capability),
    /// Several connections, and postcopy.
    #[error("Postcopy is not yet compatible with multifd")]
    PostcopyWithMultifd,
    /// A file cannot ask for pages.
    #[error("Mapped-ram migration is incompatible with postcopy")]
    MappedWithPostcopy,
}

impl Capabilities {
    /// Whether it is on.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u16 != 0
    }

    fn set(&mut self, capability: Capability, on: bool) {
        if on {
            self.0 |= 1 << capability as u16;
        } else {
            self.0 &= !(1 << capability as u16);
        }
    }

    /// The set after switching these, in order: all of them or none.
    pub fn with(self, changes: &[(Capability, bool)]) -> Result<Self, CapabilityError> {
        let mut next = self;
        for &(capability, on) in changes {
            if on && !capability.is_available() {
                return Err(CapabilityError::Unavailable(capability));
            }
            next.set(capability, on);
        }
        next.check()?;
        Ok(next)
    }

    fn check(self) -> Result<(), CapabilityError> {
        const APART: [Capability; 5] =
            [PostcopyRam, ReturnPath, Multifd, PauseBeforeSwitchover, AutoConverge];
        if self.has(BackgroundSnapshot)
            && let Some(other) = APART.into_iter().find(|other| self.has(*other))
        {
            return Err(CapabilityError::WithBackgroundSnapshot(other));
        }
        if self.has(PostcopyRam) && self.has(Multifd) {
            return Err(CapabilityError::PostcopyWithMultifd);
        }
        if self.has(PostcopyRam) && self.has(MappedRam) {
            return Err(CapabilityError::MappedWithPostcopy);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_switched_together_or_not_at_all() {
        let none = Capabilities::default();
        let some = none.with(&[(Capability::Events, true), (ReturnPath, true)]).unwrap();
        assert!(some.has(Capability::Events) && some.has(ReturnPath) && !some.has(Multifd));
        assert_eq!(some.with(&[(Capability::Events, false), (ReturnPath, false)]), Ok(none));
        let unavailable = Capability::ALL.into_iter().find(|capability| !capability.is_available());
        if let Some(capability) = unavailable {
            let refused = none.with(&[(Capability::Events, true), (capability, true)]);
            assert_eq!(refused, Err(CapabilityError::Unavailable(capability)));
            assert_eq!(none.with(&[(capability, false)]), Ok(none), "off it is");
        }
    }

    #[test]
    fn those_that_do_not_go_together_are_refused_in_qemus_words() {
        let with = |capabilities: &[Capability]| {
            let mut set = Capabilities::default();
            capabilities.iter().for_each(|capability| set.set(*capability, true));
            set.check().map_err(|error| error.to_string())
        };
        let text = |text: &str| Err(text.to_owned());
        assert_eq!(
            with(&[BackgroundSnapshot, PostcopyRam]),
            text("Background-snapshot is not compatible with postcopy-ram")
        );
        assert_eq!(with(&[PostcopyRam, Multifd]), text("Postcopy is not yet compatible with multifd"));
        assert_eq!(
            with(&[PostcopyRam, MappedRam]),
            text("Mapped-ram migration is incompatible with postcopy")
        );
        assert_eq!(with(&[PostcopyRam, ReturnPath, PauseBeforeSwitchover, AutoConverge]), Ok(()));
        assert_eq!(with(&[BackgroundSnapshot, MappedRam, Capability::Events]), Ok(()));
    }
}
