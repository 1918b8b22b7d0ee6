//! The device over memory that comes as it is touched, and whose writes are logged.

use std::collections::BTreeSet;
use std::sync::Mutex;

use ram::{CHUNK_SIZE, ChunkSource, FillError, PAGE_SIZE, Portion};

use super::*;

/// Memory as it was, less a chunk that cannot be had.
struct Source {
    image: Vec<u8>,
    refused: Option<usize>,
    asked: Mutex<BTreeSet<usize>>,
}

impl ChunkSource for Source {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        crate::lock(&self.asked).insert(chunk);
        if self.refused == Some(chunk) {
            return Err(FillError::Failed("checksum mismatch".into()));
        }
        into.copy_from_slice(&self.image[chunk * CHUNK_SIZE..][..into.len()]);
        Ok(())
    }
}

fn chunk_of(addr: u64) -> usize {
    (addr - BASE) as usize / CHUNK_SIZE
}

/// A read of sector 1, whose byte is 0xa5, into the last sector of `DATA`'s chunk and the first of the next; all but the
/// notification is done, and then memory is absent.
fn about_to_read(refused: Option<usize>) -> (Set, Arc<Source>) {
    let (set, image) = prepared();
    let source = Arc::new(Source { image, refused, asked: Mutex::default() });
    set.ram.replace(Portion::All, Arc::clone(&source) as _, || {});
    (set, source)
}

/// The machine before that, and what is in its memory.
fn prepared() -> (Set, Vec<u8>) {
    let set = Set::new();
    set.ask_write(0, 1, 0xa5);
    set.wait(1);
    set.until("the interrupt", || set.bench.wire.is_high());
    set.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
    let header = HEADERS + 1024;
    let bytes = [&VIRTIO_BLK_T_IN.to_le_bytes()[..], &[0; 4], &1_u64.to_le_bytes()].concat();
    set.ram.write(header, &bytes).unwrap();
    set.ram.write(header + 16, &[NONE]).unwrap();
    let data = DATA + CHUNK_SIZE as u64 - 100;
    set.chain(8, &[(header, 16, 0), (data, SECTOR as u32, WRITE), (header + 16, 1, WRITE)]);
    set.ram.write(AVAIL + 4 + 2, &8_u16.to_le_bytes()).unwrap();
    set.ram.write(AVAIL + 2, &2_u16.to_le_bytes()).unwrap();
    let image = set.bytes(BASE, set.ram.size() as usize);
    (set, image)
}

/// Memory on another host, which gives a chunk once somebody lets it.
#[derive(Default)]
struct Far {
    image: Vec<u8>,
    given: Mutex<BTreeSet<usize>>,
    wanted: Mutex<BTreeSet<usize>>,
}

impl ChunkSource for Far {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        if !crate::lock(&self.given).contains(&chunk) {
            return Err(FillError::Interrupted);
        }
        into.copy_from_slice(&self.image[chunk * CHUNK_SIZE..][..into.len()]);
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }

    fn want(&self, chunk: usize) {
        crate::lock(&self.wanted).insert(chunk);
    }
}

impl Far {
    /// Gives what is wanted, and says so. Gives what that was.
    fn give(&self, ram: &Ram) -> BTreeSet<usize> {
        let wanted = std::mem::take(&mut *crate::lock(&self.wanted));
        crate::lock(&self.given).extend(&wanted);
        wanted.iter().for_each(|&chunk| ram.fill_chunk(chunk).unwrap());
        ram.tell_arrival();
        wanted
    }
}

#[test]
fn nobody_waits_for_memory_of_another_host_and_the_device_goes_on_when_it_is_here() {
    let (set, image) = prepared();
    let far = Arc::new(Far { image, ..Far::default() });
    set.ram.replace(Portion::All, Arc::clone(&far) as _, || {});
    set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0xf);
    assert_eq!(far.give(&set.ram), BTreeSet::from([DESC, AVAIL, USED].map(chunk_of)));
    // Held, it does not go on, and what it waits for is kept with it.
    set.slot.stop();
    let saved = set.slot.save();
    assert_eq!(saved.version, 2, "it waits");
    let buffers = BTreeSet::from([HEADERS, DATA, DATA + CHUNK_SIZE as u64].map(chunk_of));
    assert_eq!(far.give(&set.ram), buffers);
    assert_eq!(set.slot.save(), saved);
    set.slot.load(&saved).unwrap();
    assert_eq!(set.slot.save(), saved);
    set.slot.start();
    set.until("the interrupt", || set.bench.wire.is_high());
    assert!(far.give(&set.ram).is_empty());
    let end = DATA + CHUNK_SIZE as u64;
    assert_eq!((set.status(1), set.bytes(end - 100, 512), set.used()), (0, vec![0xa5; 512], 2));
    assert_eq!(set.slot.save().version, 1);
    assert!(set.ram.missing().is_none());
}

#[test]
fn a_request_that_came_with_the_machine_waits_for_its_memory() {
    let from = Set::new();
    from.fault(Kind::Write, Fault::Hang, None);
    from.ask_write(0, 1, 0xa5);
    from.slot.stop();
    let to = Set::new();
    let image = from.bytes(BASE, from.ram.size() as usize);
    let far = Arc::new(Far { image, ..Far::default() });
    to.slot.stop();
    to.slot.load(&from.slot.save()).unwrap();
    to.ram.replace(Portion::All, Arc::clone(&far) as _, || {});
    to.slot.start();
    let rings = BTreeSet::from([DESC, AVAIL, USED].map(chunk_of));
    assert_eq!(far.give(&to.ram), rings);
    while !to.bench.wire.is_high() {
        far.give(&to.ram);
    }
    assert_eq!((to.status(0), to.used(), to.stored(1)), (0, 1, 0xa5));
    from.lift(Kind::Write);
}

#[test]
fn memory_comes_as_the_device_touches_it() {
    let (set, source) = about_to_read(None);
    let log = set.ram.start_log(|| {}).unwrap();
    set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    // Looking at memory would fill it.
    set.until("the interrupt", || set.bench.wire.is_high());
    let needed = [DESC, AVAIL, USED, HEADERS, DATA, DATA + CHUNK_SIZE as u64].map(chunk_of);
    assert_eq!(*crate::lock(&source.asked), BTreeSet::from(needed));
    let dirty: Vec<_> = log.take(|| {}).iter().map(|page| BASE + page as u64 * PAGE_SIZE).collect();
    let end = DATA + CHUNK_SIZE as u64;
    assert_eq!(dirty, [USED, HEADERS, end - PAGE_SIZE, end], "what it wrote, and nothing that it read");
    assert_eq!((set.status(1), set.bytes(end - 100, 512)), (0, vec![0xa5; 512]));
    assert_eq!(set.used(), 2);
}

#[test]
fn a_device_whose_memory_is_missing_fails_and_it_is_reported() {
    let data = DATA + CHUNK_SIZE as u64;
    for at in [DESC, AVAIL, HEADERS, data] {
        let (set, _source) = about_to_read(Some(chunk_of(at)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        set.ram.report_misses(move |missing| crate::lock(&teller).push(missing.addr));
        set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        set.until("a report", || !crate::lock(&told).is_empty());
        assert_eq!(crate::lock(&told)[0], at, "{at:#x}");
        assert!(set.ram.missing().unwrap().to_string().contains("checksum mismatch"));
        // Of its rings it can do nothing without; a request without its data it can answer.
        if at == data {
            set.until("an answer", || set.used() == 2);
            assert_eq!(set.status(1), VIRTIO_BLK_S_IOERR as u8);
        } else {
            assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0x4f, "{at:#x}: it asks to be reset");
        }
    }
}
