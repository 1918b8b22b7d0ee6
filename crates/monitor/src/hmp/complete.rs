//! Completion: what the word before the cursor may become.

use super::table::{Human, Run, Words, commands, find};

/// The word that is being typed, and everything it may become, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Completion<'a> {
    /// The beginning of the word.
    pub(crate) word: &'a str,
    /// The whole words that begin like it.
    pub(crate) candidates: Vec<&'static str>,
}

impl Completion<'_> {
    /// What all candidates have in common beyond the word.
    pub(crate) fn common(&self) -> &'static str {
        let Some((&first, others)) = self.candidates.split_first() else { return "" };
        let mut end = first.len();
        for other in others {
            end = end.min(first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count());
        }
        first.get(self.word.len()..end).unwrap_or_default()
    }
}

/// Completes the last word of `before`, the text before the cursor.
pub(crate) fn complete(before: &str) -> Completion<'_> {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (earlier, word) = before.split_at(start.min(before.len()));
    let mut all = proposals(earlier);
    all.retain(|candidate| candidate.starts_with(word));
    all.sort_unstable();
    Completion { word, candidates: all }
}

/// What may follow these words.
fn proposals(earlier: &str) -> Vec<&'static str> {
    let mut parent: Option<&Human> = None;
    let mut words = earlier.split_whitespace();
    let mut about_help = false;
    while let Some(word) = words.next() {
        let Some(entry) = find(parent, word) else { return Vec::new() };
        match (entry.human.run, entry.human.words) {
            (Run::Table, _) => parent = Some(entry.human),
            (_, Words::Commands) if !about_help => about_help = true,
            (_, Words::One(values) | Words::Optional(values)) if words.next().is_none() && !about_help => {
                return values.to_vec();
            }
            _ => return Vec::new(),
        }
    }
    commands(parent).flat_map(|entry| entry.human.names).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(before: &str) -> Vec<&'static str> {
        complete(before).candidates
    }

    #[test]
    fn first_words_are_commands_and_their_other_names() {
        assert_eq!(candidates("sys"), ["system_powerdown", "system_reset", "system_wakeup"]);
        assert_eq!(candidates("c"), ["c", "chardev-send-break", "cont"]);
        assert_eq!(candidates("zz"), Vec::<&str>::new());
        assert_eq!(candidates("").len(), commands(None).map(|entry| entry.human.names.len()).sum::<usize>());
    }

    #[test]
    fn later_words_depend_on_the_command() {
        assert_eq!(candidates("info st"), ["status"]);
        assert_eq!(candidates("help sto"), ["stop"]);
        assert_eq!(candidates("help info  st"), ["status"]);
        assert_eq!(candidates("watchdog_action p"), ["pause", "poweroff"]);
        assert_eq!(candidates("info registers -"), ["-a"]);
        assert_eq!(candidates("stop "), Vec::<&str>::new());
        assert_eq!(candidates("watchdog_action pause p"), Vec::<&str>::new());
        assert_eq!(candidates("help watchdog_action p"), Vec::<&str>::new());
        assert_eq!(candidates("help help s"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_common_is_beyond_the_word() {
        assert_eq!(complete("sy").common(), "stem_");
        assert_eq!(complete("info sta").common(), "tus");
        assert_eq!(complete("p").common(), "");
    }
}
