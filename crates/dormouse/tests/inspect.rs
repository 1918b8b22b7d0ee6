//! `dormouse inspect` as a user calls it: a file or a pipe, words or JSON, and an exit status.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A form that is kept for good.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../stream/tests/golden").join(name)
}

fn inspect(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dormouse"))
        .arg("inspect")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Small enough for the pipe; who does not read it all has found something wrong before.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_file_and_a_pipe_show_the_same() {
    let path = golden("v1-zstd.bin");
    for options in [&[][..], &["--json"]] {
        let file = inspect(&[&[path.to_str().unwrap()], options].concat(), b"");
        let pipe = inspect(&[&["-"], options].concat(), &std::fs::read(&path).unwrap());
        assert!(file.status.success() && pipe.status.success(), "{}", text(&file.stderr));
        assert_eq!(text(&file.stdout), text(&pipe.stdout));
        assert!(text(&file.stdout).contains("größer"));
    }
    let json = inspect(&["-o", "json", path.to_str().unwrap()], b"");
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["restore"], &report["memory"]["packed-pages"]), (&"eager".into(), &16.into()));
}

#[test]
fn damage_is_one_line_and_a_status() {
    let good = std::fs::read(golden("v1-streamed.bin")).unwrap();
    let mut damaged = good.clone();
    damaged[200] ^= 0x10;
    let newer = [&good[..8], &[9], &good[9..]].concat();
    for (bytes, why) in [
        (&damaged[..], "dormouse: inspect: '-': the saved state is damaged at byte "),
        (&good[..good.len() - 1], "dormouse: inspect: '-': the saved state ends at byte "),
        (&newer, "dormouse: inspect: '-': the saved state has format version 9, this program reads up to 1"),
        (b"not a machine at all", "dormouse: inspect: '-': this is no saved state of dormouse"),
        (b"", "dormouse: inspect: '-': the saved state ends at byte 0"),
    ] {
        let outcome = inspect(&["-"], bytes);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(text(&outcome.stderr).starts_with(why), "{}", text(&outcome.stderr));
        assert_eq!(text(&outcome.stderr).lines().count(), 1, "{}", text(&outcome.stderr));
        assert_eq!(text(&outcome.stdout), "");
    }
    let missing = inspect(&["/nonexistent"], b"");
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("dormouse: inspect: cannot read '/nonexistent': No such file"));
}
