use super::*;

const RWX: u8 = READ | WRITE | EXECUTE;
const TOR: u8 = 1 << MODE_SHIFT;
const NAPOT: u8 = 3 << MODE_SHIFT;

fn pmp(entries: &[(u8, u64)]) -> Pmp {
    let mut pmp = Pmp::default();
    for (at, (_, address)) in entries.iter().enumerate() {
        pmp.set_address(at, *address);
    }
    let config =
        entries.iter().enumerate().fold(0, |all, (at, (config, _))| all | u64::from(*config) << (8 * at));
    pmp.set_config(0, config);
    pmp
}

fn reads(pmp: &Pmp, addr: u64) -> bool {
    pmp.allows(addr, 4, Access::Read, Mode::User)
}

#[test]
fn ranges_are_what_the_address_modes_say() {
    let tor = pmp(&[(0, 0x1000 >> 2), (TOR | RWX, 0x2000 >> 2)]);
    assert!(!reads(&tor, 0xffc) && reads(&tor, 0x1000) && reads(&tor, 0x1ffc) && !reads(&tor, 0x2000));
    let backwards = pmp(&[(0, 0x2000 >> 2), (TOR | RWX, 0x1000 >> 2)]);
    assert!(!reads(&backwards, 0x1000) && !reads(&backwards, 0x1800));
    let from_zero = pmp(&[(TOR | RWX, 0x1000 >> 2)]);
    assert!(reads(&from_zero, 0) && !reads(&from_zero, 0x1000));
    let napot = pmp(&[(NAPOT | RWX, 0x4000 >> 2 | 0x1ff)]);
    assert!(
        !reads(&napot, 0x3ffc) && reads(&napot, 0x4000) && reads(&napot, 0x4ffc) && !reads(&napot, 0x5000)
    );
    let eight = pmp(&[(NAPOT | RWX, 0x4000 >> 2)]);
    assert!(reads(&eight, 0x4004) && !reads(&eight, 0x4008));
    assert!(reads(&Pmp::open(), 0) && reads(&Pmp::open(), 1 << 55));
}

#[test]
fn the_lowest_entry_that_matches_decides() {
    let both = pmp(&[(NAPOT, 0x4000 >> 2 | 0x1ff), (NAPOT | RWX, ADDRESS)]);
    assert!(!reads(&both, 0x4000) && reads(&both, 0x5000));
    assert!(both.allows(0x4000, 4, Access::Read, Mode::Machine), "not locked");
    assert!(both.is_uniform(0x4000) && both.is_uniform(0x9000));
    let small = pmp(&[(NAPOT, 0x4000 >> 2), (NAPOT | RWX, ADDRESS)]);
    assert!(!small.is_uniform(0x4abc) && small.is_uniform(0x5000));
    assert!(!small.allows(0x3ffc, 8, Access::Read, Mode::User), "partly in the first entry");
}

#[test]
fn locked_entries_stay_and_bind_machine_mode() {
    let mut locked = pmp(&[(0, 0x1000 >> 2), (LOCKED | TOR | READ, 0x2000 >> 2)]);
    let before = locked.clone();
    locked.set_address(1, 0);
    locked.set_address(0, 0);
    assert_eq!(locked, before, "the base of a locked range is locked too");
    locked.set_config(0, 0);
    assert_eq!(locked.config(0) >> 8, u64::from(LOCKED | TOR | READ));
    assert!(!locked.allows(0x1000, 4, Access::Write, Mode::Machine));
    assert!(locked.allows(0x1000, 4, Access::Read, Mode::Machine));
}

#[test]
fn write_without_read_is_not_taken() {
    let mut pmp = Pmp::default();
    pmp.set_config(2, u64::from(RWX) | u64::from(WRITE) << 8 | 0x60 << 16);
    assert_eq!(pmp.config(2), u64::from(RWX), "reserved bits read as zero too");
    assert_eq!((pmp.config(0), pmp.config(15)), (0, 0));
    pmp.set_address(16, 1);
    pmp.set_address(usize::MAX - 1, 1);
}
