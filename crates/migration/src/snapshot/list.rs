//! What there is: what snapshots say of themselves, and whether there is what they are the difference from.

use std::collections::BTreeMap;

use stream::{Layout, ReadError};

use super::directory::{Directory, Name};
use super::error::causes;
use super::restore::{Card, MOST_PARENTS, card, size_on_disk};
use super::{SnapshotContent, SnapshotError, SnapshotInfo};

type Cards = BTreeMap<Name, Result<Card, ReadError>>;

/// All snapshots of a directory, by name.
pub(super) fn list(directory: &Directory) -> Result<Vec<SnapshotInfo>, SnapshotError> {
    let (mut cards, mut sizes) = (Cards::new(), Vec::new());
    for name in directory.names()? {
        // Gone meanwhile: not listed.
        let Some(file) = directory.find(&name)? else { continue };
        sizes.push(size_on_disk(&file).unwrap_or_default());
        cards.insert(name, card(file));
    }
    let errors: Vec<_> = cards.iter().map(|(name, card)| why_not(directory, &cards, name, card)).collect();
    let all = cards.into_iter().zip(sizes).zip(errors);
    Ok(all
        .map(|(((name, card), size), error)| {
            let content = card.ok().map(SnapshotContent::from);
            SnapshotInfo { name: name.as_str().to_owned(), content, error, size }
        })
        .collect())
}

/// Why a snapshot cannot be loaded, as far as the heads of files tell.
fn why_not(
    directory: &Directory,
    cards: &Cards,
    name: &Name,
    card: &Result<Card, ReadError>,
) -> Option<String> {
    match card {
        Ok(card) => check_parents(directory, cards, name, card).err().map(|error| error.to_string()),
        Err(error) => Some(causes(error)),
    }
}

/// Refuses one whose parents are not all there, in the words of a load.
fn check_parents(
    directory: &Directory,
    cards: &Cards,
    name: &Name,
    card: &Card,
) -> Result<(), SnapshotError> {
    let (mut child, mut card) = (name.clone(), card);
    for _ in 0..=MOST_PARENTS {
        let Some(wanted) = &card.header.parent else { return Ok(()) };
        let (name, parent) = (child.as_str().to_owned(), wanted.name.clone());
        let Ok(next) = Name::new(&parent) else { return Err(SnapshotError::NoParent { name, parent }) };
        card = match cards.get(&next) {
            Some(Ok(card)) if card.header.id == wanted.id && card.layout == Layout::Mapped => card,
            Some(Ok(_)) => return Err(SnapshotError::OtherParent { name, parent }),
            Some(Err(error)) => {
                return Err(SnapshotError::Content { name: parent, error: causes(error).into() });
            }
            // More than are listed: nothing is known of it.
            None if directory.has(&next)? => return Ok(()),
            None => return Err(SnapshotError::NoParent { name, parent }),
        };
        child = next;
    }
    Err(SnapshotError::TooDeep(name.as_str().to_owned()))
}
