//! How far it is, in one line on the standard error. Where that is no terminal there is no line, only the end is told.

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        // Without colours it reads the same everywhere.
        if let Ok(style) = ProgressStyle::with_template("[{bar:32}] {percent:>3} %  {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    /// `done` of `total` bytes, and what there is to say of it.
    pub(crate) fn show(&self, done: u64, total: u64, message: String) {
        self.bar.set_length(total);
        self.bar.set_position(done.min(total));
        self.bar.set_message(message);
    }

    /// Something above the line.
    pub(crate) fn say(&self, what: &str) {
        self.bar.suspend(|| crate::say(what));
    }

    /// The line goes, and this takes its place.
    pub(crate) fn end(&self, what: &str) {
        self.bar.finish_and_clear();
        crate::say(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `12.50 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}
