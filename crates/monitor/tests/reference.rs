//! The committed reference is what the definitions give.

use std::path::Path;

#[test]
fn the_reference_is_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/qmp-reference.md");
    let page = monitor::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("docs/qmp-reference.md is there");
    let differs = committed.lines().zip(page.lines()).find(|(committed, page)| committed != page);
    assert!(
        committed == page,
        "docs/qmp-reference.md is out of date: run `UPDATE_DOCS=1 cargo test -p monitor --test reference`; first \
         difference: {differs:?}"
    );
}
