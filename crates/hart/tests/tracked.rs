//! Harts over memory that is filled as it is touched, logged, and saved before it is written.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use hart::Hart;
use ram::{CHUNK_SIZE, ChunkSink, ChunkSource, FillError, PAGE_SIZE, Portion};
use support::asm::*;
use support::{BASE, Machine, boot, steps};
use vmcore::park::fence_kind;
use vmcore::{Exit, Vcpu};

const DATA: u64 = BASE + 0x10_0000;

/// A chunk that is refused, and how.
type Refusal = (usize, fn() -> FillError);

/// What a source has, and what it says about chunks that it is asked for.
struct Source {
    image: Vec<u8>,
    asked: Mutex<Vec<usize>>,
    refuse: Mutex<Option<Refusal>>,
}

impl ChunkSource for Source {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        self.asked.lock().unwrap().push(chunk);
        match *self.refuse.lock().unwrap() {
            Some((refused, error)) if refused == chunk => return Err(error()),
            _ => {}
        }
        into.copy_from_slice(&self.image[chunk * CHUNK_SIZE..][..into.len()]);
        Ok(())
    }
}

fn failed() -> FillError {
    FillError::Failed("checksum mismatch".into())
}

/// Makes all that `machine` has absent, to come from the source that this returns.
fn make_lazy(machine: &Machine) -> Arc<Source> {
    let mut image = vec![0; machine.ram.size() as usize];
    machine.ram.read(BASE, &mut image).unwrap();
    let source = Arc::new(Source { image, asked: Mutex::default(), refuse: Mutex::default() });
    machine
        .ram
        .replace(Portion::All, Arc::clone(&source) as _, || machine.harts.fence_all(fence_kind::CONTENT));
    source
}

impl Source {
    fn take_asked(&self) -> Vec<usize> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn chunk_of(addr: u64) -> usize {
    (addr - BASE) as usize / CHUNK_SIZE
}

/// Everything that a guest could see of the hart.
fn state(hart: &Hart) -> Vec<u8> {
    hart.save().data
}

#[test]
fn each_kind_of_access_fills_the_chunks_that_it_needs_and_no_others() {
    let code = [
        ld(A3, A0, 0),
        sd(A3, A1, 0),
        amo(0, true, A4, A2, A3),
        // Across two chunks.
        ld(A5, 16, -4),
        jalr(0, 17, 0),
    ];
    let (machine, mut hart) = boot(&code);
    machine.code(DATA + 0x8_0000, &[addi(A0, A0, 1)]);
    machine.put(DATA, 77);
    let source = make_lazy(&machine);
    let registers = [
        (10, DATA),
        (11, DATA + 0x1_0000),
        (12, DATA + 0x2_0000),
        (16, DATA + 0x5_0000),
        (17, DATA + 0x8_0000),
    ];
    for (number, value) in registers {
        hart.set_x(number, value);
    }
    let mut expect = |chunks: &[u64]| {
        steps(&mut hart, 1);
        let chunks: Vec<_> = chunks.iter().map(|&addr| chunk_of(addr)).collect();
        assert_eq!(source.take_asked(), chunks);
    };
    expect(&[BASE, DATA]);
    expect(&[DATA + 0x1_0000]);
    expect(&[DATA + 0x2_0000]);
    expect(&[DATA + 0x4_0000, DATA + 0x5_0000]);
    // A jump looks up where it leads.
    expect(&[DATA + 0x8_0000]);
    expect(&[]);
    assert_eq!((machine.get(DATA + 0x1_0000), machine.get(DATA + 0x2_0000)), (77, 77));
    assert_eq!(hart.x(10), DATA + 1);
}

/// One instruction that needs the chunk of `lost`, with a0 to a2 as in the tests, tried while the source refuses it.
fn meets(code: &[u32], prepare: impl Fn(&Machine, &mut Hart), lost: u64) {
    for (error, exit) in
        [(failed as fn() -> FillError, Exit::MemoryLost), (|| FillError::Interrupted, Exit::Signal)]
    {
        let (machine, mut hart) = boot(code);
        hart.set_x(10, DATA);
        hart.set_x(11, DATA + 0x1_0000 - 4);
        hart.set_x(12, 0x5a5a);
        prepare(&machine, &mut hart);
        let first_half = machine.get(DATA + 0xfff8);
        let source = make_lazy(&machine);
        *source.refuse.lock().unwrap() = Some((chunk_of(lost), error));
        let before = (state(&hart), hart.pc(), hart.retired());
        for _ in 0..3 {
            assert_eq!(hart.run(hart.retired() + 1), exit);
            assert!(
                (state(&hart), hart.pc(), hart.retired()) == before,
                "something of the instruction was done"
            );
        }
        assert_eq!(machine.ram.missing().is_some(), exit == Exit::MemoryLost);
        // Nothing of it was stored either, and once the memory is there it is executed as if nothing had been.
        *source.refuse.lock().unwrap() = None;
        if chunk_of(lost) != chunk_of(DATA) {
            assert_eq!(machine.get(DATA + 0xfff8), first_half);
        }
        assert_eq!(hart.run(hart.retired() + 1), Exit::Limit);
        let (again, mut plain) = boot(code);
        plain.set_x(10, DATA);
        plain.set_x(11, DATA + 0x1_0000 - 4);
        plain.set_x(12, 0x5a5a);
        prepare(&again, &mut plain);
        assert_eq!(plain.run(plain.retired() + 1), Exit::Limit);
        assert!(state(&hart) == state(&plain), "it ended otherwise than in memory that was always there");
        for addr in [DATA, DATA + 0xfff8, DATA + 0x1_0000] {
            assert_eq!(machine.get(addr), again.get(addr), "{addr:#x}");
        }
    }
}

#[test]
fn an_instruction_whose_memory_is_lost_or_late_has_not_happened() {
    let nothing = |_: &Machine, _: &mut Hart| {};
    meets(&[ld(A3, A0, 0)], nothing, DATA);
    meets(&[sd(A2, A0, 0)], nothing, DATA);
    meets(&[amo(0, true, A3, A0, A2)], nothing, DATA);
    meets(&[lr_d(A3, A0)], nothing, DATA);
    // Misaligned, across two chunks, the second of which is refused: the first must stay unwritten.
    meets(&[sd(A2, A1, 0)], nothing, DATA + 0x1_0000);
    meets(&[ld(A3, A1, 0)], nothing, DATA + 0x1_0000);
    // The instruction itself.
    meets(&[addi(A3, A0, 1)], nothing, BASE);
    let across = |machine: &Machine, hart: &mut Hart| {
        machine.code(DATA + 0xfffe, &[addi(A3, A0, 1)]);
        hart.set_pc(DATA + 0xfffe);
    };
    meets(&[], across, DATA + 0x1_0000);
}

#[test]
fn a_table_that_is_lost_or_late_stops_before_the_walk_is_over() {
    let tables = BASE + 0x20_0000;
    let paged = move |machine: &Machine, hart: &mut Hart| {
        // Sv39, one gigapage at its own address, executable and writable, accessed and dirty.
        machine.put(tables + 8 * (BASE >> 30), BASE >> 30 << 28 | 0xcf);
        hart.set_csr(0x3b0, u64::MAX);
        hart.set_csr(0x3a0, 0x1f);
        hart.set_csr(0x180, 8 << 60 | tables >> 12);
        hart.set_privilege(1);
    };
    meets(&[ld(A3, A0, 0)], paged, tables);
}

#[test]
fn a_store_conditional_keeps_its_reservation_over_a_delay() {
    let (machine, mut hart) = boot(&[lr_d(A3, A0), sc_d(A4, A0, A2)]);
    machine.put(DATA, 5);
    hart.set_x(10, DATA);
    hart.set_x(12, 6);
    steps(&mut hart, 1);
    let source = make_lazy(&machine);
    *source.refuse.lock().unwrap() = Some((chunk_of(DATA), || FillError::Interrupted));
    assert_eq!(hart.run(u64::MAX), Exit::Signal);
    *source.refuse.lock().unwrap() = None;
    steps(&mut hart, 1);
    assert_eq!((hart.x(14), machine.get(DATA)), (0, 6));
}

#[test]
fn replaced_memory_is_executed_and_read_anew() {
    let (machine, mut hart) = boot(&[addi(A3, A3, 1), ld(A4, A0, 0), jal(0, -8)]);
    machine.put(DATA, 1);
    hart.set_x(10, DATA);
    steps(&mut hart, 30);
    assert_eq!((hart.x(13), hart.x(14)), (10, 1));
    let image = vec![0; machine.ram.size() as usize];
    let mut source = Source { image, asked: Mutex::default(), refuse: Mutex::default() };
    for (at, word) in [addi(A3, A3, 100), ld(A4, A0, 0), jal(0, -8)].into_iter().enumerate() {
        source.image[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
    }
    source.image[(DATA - BASE) as usize] = 2;
    machine.ram.replace(Portion::All, Arc::new(source), || machine.harts.fence_all(fence_kind::CONTENT));
    steps(&mut hart, 3);
    assert_eq!((hart.x(13), hart.x(14)), (110, 2));
}

/// Stores to a0, a0 + 4096 and so on, a1 times.
const STORES: [fn() -> u32; 5] =
    [|| sd(A3, A0, 0), || add(A0, A0, A4), || addi(A1, A1, -1), || bne(A1, 0, -12), || jal(0, 0)];

#[test]
fn the_pages_that_a_program_writes_are_the_dirty_ones() {
    let code: Vec<u32> = STORES.iter().map(|word| word()).collect();
    let (machine, mut hart) = boot(&code);
    let drop_writes = || machine.harts.fence_all(fence_kind::ALL_WRITES);
    let mut store = |first: u64, count: u64| {
        hart.set_pc(BASE);
        hart.set_x(10, first);
        hart.set_x(11, count);
        hart.set_x(14, PAGE_SIZE);
        steps(&mut hart, 4 * count);
    };
    // Its entries are there already when the log starts.
    store(DATA, 20);
    let log = machine.ram.start_log(drop_writes).unwrap();
    store(DATA + 3 * PAGE_SIZE, 5);
    let page = |addr: u64| machine.ram.page_index(addr).unwrap();
    let first = page(DATA);
    assert_eq!(log.take(drop_writes).iter().collect::<Vec<_>>(), (first + 3..first + 8).collect::<Vec<_>>());
    assert!(log.take(drop_writes).is_empty());
    // And once more, though they are the same pages.
    store(DATA + 4 * PAGE_SIZE, 2);
    assert_eq!(log.take(drop_writes).iter().collect::<Vec<_>>(), [first + 4, first + 5]);
}

#[test]
fn every_way_to_store_is_noted_and_no_way_to_load() {
    let code = [
        ld(A3, A0, 0),
        lr_d(A3, A0),
        sc_d(A3, A1, A2),
        amo(0, false, A3, A2, A2),
        sd(A3, A4, -4),
        i(0x07, 3, 1, A0, 0),
        s(0x27, 3, A5, 1, 0),
    ];
    let (machine, mut hart) = boot(&code);
    hart.set_csr(0x300, 3 << 13);
    let at = |page: u64| DATA + page * PAGE_SIZE;
    for (number, value) in [(10, at(0)), (11, at(0)), (12, at(2)), (14, at(5)), (15, at(7))] {
        hart.set_x(number, value);
    }
    let drop_writes = || machine.harts.fence_all(fence_kind::ALL_WRITES);
    let log = machine.ram.start_log(drop_writes).unwrap();
    let first = machine.ram.page_index(DATA).unwrap();
    let mut dirty = Vec::new();
    for _ in code {
        steps(&mut hart, 1);
        dirty.push(log.take(drop_writes).iter().map(|page| page - first).collect::<Vec<_>>());
    }
    let nothing = Vec::new();
    assert_eq!(dirty, [nothing.clone(), nothing.clone(), vec![0], vec![2], vec![4, 5], nothing, vec![7]]);
}

#[derive(Default)]
struct Kept(Mutex<HashMap<usize, Vec<u8>>>);

impl ChunkSink for Kept {
    fn save(&self, chunk: usize, bytes: &[u8]) {
        assert!(self.0.lock().unwrap().insert(chunk, bytes.to_vec()).is_none());
    }
}

/// A hart that increments words all over memory, in a thread of its own; a device that writes there too; and a save in the
/// middle, that shows none of what either wrote after its begin.
#[test]
fn a_save_shows_memory_as_it_was_while_a_hart_and_a_device_go_on() {
    // a0 walks through 1 MiB from a1 in steps of 520 bytes, and adds 1 to what it finds.
    let code = [
        ld(A3, A0, 0),
        addi(A3, A3, 1),
        sd(A3, A0, 0),
        addi(A0, A0, 520),
        branch(6, A0, A2, -16),
        add(A0, A1, 0),
        jal(0, -24),
    ];
    let (machine, mut hart) = boot(&code);
    hart.set_x(10, DATA);
    hart.set_x(11, DATA);
    hart.set_x(12, DATA + 0xf_0000);
    steps(&mut hart, 100_000);
    let chunks = machine.ram.chunk_count();
    let mut begun = vec![0; machine.ram.size() as usize];
    machine.ram.read(BASE, &mut begun).unwrap();
    let sink = Arc::new(Kept::default());
    let drop_writes = || machine.harts.fence_all(fence_kind::ALL_WRITES);
    let mut save = machine.ram.begin_save(Portion::All, Arc::clone(&sink) as _, drop_writes).unwrap();
    let ram = Arc::clone(&machine.ram);
    std::thread::scope(|scope| {
        scope.spawn(move || steps(&mut hart, 2_000_000));
        scope.spawn(move || {
            for at in (0..0xf_0000).step_by(4096 + 8) {
                ram.write(DATA + at, &[0xdd; 8]).unwrap();
            }
        });
        while save.save_next().unwrap() {
            std::thread::yield_now();
        }
    });
    let kept = sink.0.lock().unwrap();
    let image: Vec<u8> = (0..chunks).flat_map(|chunk| kept[&chunk].clone()).collect();
    assert!(image == begun);
    let mut now = vec![0; begun.len()];
    machine.ram.read(BASE, &mut now).unwrap();
    assert!(now != begun, "nobody has written anything");
}
