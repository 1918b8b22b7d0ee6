//! Memory mapped from a file: judged, shared while it is only read, and survived when it goes.
#![cfg(not(loom))]

mod support;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use ram::{CHUNK_SIZE, FileRun, OpenError, PAGE_SIZE, Portion, Ram};
use support::*;

const CHUNKS: usize = 8;
/// The last chunk is short.
const SIZE: u64 = ((CHUNKS - 1) * CHUNK_SIZE) as u64 + PAGE_SIZE;
/// Where chunk 0 lies in the file.
const FRONT: u64 = PAGE_SIZE;

/// A file with what a willing source gives, and nothing else that leads to it.
fn file() -> File {
    let file = tempfile::tempfile().unwrap();
    for chunk in 0..CHUNKS {
        let len = (SIZE as usize - chunk * CHUNK_SIZE).min(CHUNK_SIZE);
        file.write_all_at(&vec![content(chunk); len], at(chunk)).unwrap();
    }
    file
}

fn at(chunk: usize) -> u64 {
    FRONT + (chunk * CHUNK_SIZE) as u64
}

/// Memory whose chunks from 2 on are mapped from `file`.
fn sharing(source: Source, file: &File) -> (Ram, Arc<Source>) {
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.write(chunk_at(3), b"before").unwrap();
    let source = Arc::new(source);
    ram.replace(Portion::All, Arc::clone(&source) as _, no_harts);
    let run = |first, count| FileRun { first, count, file: file.as_fd(), offset: at(first) };
    assert_eq!(ram.share([run(2, 3), run(5, CHUNKS - 5), run(2, CHUNKS), run(0, 0)]), CHUNKS - 2);
    (ram, source)
}

fn byte(ram: &Ram, addr: u64) -> u8 {
    let mut byte = [0];
    ram.read(addr, &mut byte).unwrap();
    byte[0]
}

#[test]
fn what_is_only_read_is_the_file_s_and_what_is_written_is_ones_own() {
    let file = file();
    let (ram, source) = sharing(Source::willing(CHUNKS), &file);
    let (other, _) = sharing(Source::willing(CHUNKS), &file);
    let whole = image(&ram);
    assert!(whole.chunks(CHUNK_SIZE).enumerate().all(|(at, part)| part.iter().all(|&b| b == content(at))));
    assert_eq!(
        (ram.absent(), source.counts()),
        (0, vec![1; CHUNKS]),
        "the source is asked for each all the same"
    );
    ram.write(chunk_at(4), &[99]).unwrap();
    assert_eq!((byte(&ram, chunk_at(4)), byte(&other, chunk_at(4))), (99, content(4)));
    let mut in_file = [0];
    file.read_exact_at(&mut in_file, at(4)).unwrap();
    assert_eq!(in_file, [content(4)]);
    // Who writes to the file all the same is seen where nothing was written: nobody has a copy.
    for chunk in [1, 4, 5] {
        file.write_all_at(&[77; 2], at(chunk)).unwrap();
    }
    assert_eq!([1, 4, 5].map(|chunk| byte(&ram, chunk_at(chunk) + 1)), [content(1), content(4), 77]);
}

#[test]
fn what_the_source_does_not_find_right_is_not_to_be_had() {
    let source = Source::answering(CHUNKS, |chunk, _| if chunk == 6 { Answer::Fail } else { Answer::Give });
    let (ram, _) = sharing(source, &file());
    assert!(matches!(ram.open_read(chunk_at(6)), Err(OpenError::Lost(_))));
    assert!(ram.write(chunk_at(6), &[1]).is_err());
    assert!(ram.is_damaged());
    ram.give_up_absent();
    assert_eq!([5, 6, 7].map(|chunk| byte(&ram, chunk_at(chunk))), [0; 3], "given up, it is zero");
    assert!(!ram.is_damaged());
}

#[test]
fn a_file_that_is_cut_short_later_is_lost_memory_and_no_end_of_the_process() {
    let file = file();
    let (ram, _) = sharing(Source::willing(CHUNKS), &file);
    assert_eq!(byte(&ram, chunk_at(5)), content(5));
    ram.open_read(chunk_at(6)).unwrap();
    file.set_len(at(5)).unwrap();
    assert_eq!((ram.host_errors(), ram.is_damaged()), (0, false));
    assert_eq!(byte(&ram, chunk_at(6)), 0);
    assert_eq!((ram.host_errors(), ram.last_host_error()), (1, Some(chunk_at(6))));
    assert_eq!(byte(&ram, chunk_at(4)), content(4));
    // Nothing of the file is left for whoever begins anew.
    assert!(ram.is_damaged());
    ram.give_up_absent();
    assert!(image(&ram).iter().all(|&byte| byte == 0) && !ram.is_damaged());
    assert_eq!(ram.host_errors(), 1);
}

#[test]
fn what_is_made_zero_or_replaced_is_no_longer_the_file_s() {
    let file = file();
    let (ram, _) = sharing(Source::willing(CHUNKS), &file);
    ram.zero_chunk(2).unwrap();
    assert_eq!(byte(&ram, chunk_at(3)), content(3));
    ram.zero_chunk(3).unwrap();
    ram.write_chunk(4, &[5; CHUNK_SIZE]).unwrap();
    assert!(ram.is_zero_chunk(2).unwrap() && ram.is_zero_chunk(3).unwrap());
    assert_eq!((byte(&ram, chunk_at(4) + 9), byte(&ram, chunk_at(5))), (5, content(5)));
    // Another source: not a byte of the file is left.
    let other =
        Arc::new(Source::answering(CHUNKS, |chunk, _| if chunk == 5 { Answer::Fail } else { Answer::Give }));
    ram.replace(Portion::All, other, no_harts);
    file.set_len(0).unwrap();
    assert!(matches!(ram.open_read(chunk_at(5)), Err(OpenError::Lost(_))));
    assert_eq!((byte(&ram, chunk_at(6)), ram.host_errors()), (content(6), 0));
    ram.clear();
    assert!(image(&ram).iter().all(|&byte| byte == 0));
    assert_eq!(ram.host_errors(), 0);
}

#[test]
fn what_cannot_be_mapped_is_filled() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.replace(Portion::All, Arc::new(Source::willing(CHUNKS)), no_harts);
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = FileRun { first: 0, count: 2, file: reader.as_fd(), offset: 0 };
    let file = file();
    let odd = FileRun { first: 2, count: 1, file: file.as_fd(), offset: 5 };
    let beyond = FileRun { first: CHUNKS - 1, count: 2, file: file.as_fd(), offset: 0 };
    assert_eq!(ram.share([pipe, odd, beyond, FileRun { count: usize::MAX, ..odd }]), 0);
    assert_eq!([0, 2, 7].map(|chunk| byte(&ram, chunk_at(chunk))), [0, 2, 7].map(content));
}
