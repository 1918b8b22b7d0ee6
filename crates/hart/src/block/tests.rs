use super::*;

const RAM: u64 = 2048 * ram::PAGE_SIZE;
const BASE: u64 = 0x8000_0000;

fn code(ram: &Ram, index: u32) -> CodePage<'_> {
    CodePage::new(ram, BASE + u64::from(index) * ram::PAGE_SIZE).unwrap()
}

fn held(cache: &PageCache) -> usize {
    // SAFETY: no cursor is in use, and the pages belong to the cache.
    cache.pages.values().map(|page| unsafe { page.as_ref() }.ops.capacity() + PAGE_COST).sum()
}

fn counted(cache: &PageCache) -> usize {
    // SAFETY: as above.
    cache.pages.values().map(|page| unsafe { page.as_ref() }.ops.len() + PAGE_COST).sum()
}

/// Decodes a block at every offset of page `index`, as a guest can make the hart do.
fn decode_everywhere(cache: &mut PageCache, ram: &Ram, index: u32) {
    if cache.is_full() {
        cache.clear();
    }
    let (page, _) = cache.page(ram, index);
    for off in (0..4096).step_by(2) {
        cache.block(page, code(ram, index), off, &Extensions::ALL);
    }
}

#[test]
fn what_is_held_is_bounded_however_much_is_decoded() {
    let ram = Ram::new(BASE, RAM).unwrap();
    let nops = [0x01_u8, 0x00].repeat(2048);
    let mut cache = PageCache::new();
    for index in 0..512 {
        ram.write(BASE + u64::from(index) * ram::PAGE_SIZE, &nops).unwrap();
        decode_everywhere(&mut cache, &ram, index);
        assert_eq!(cache.ops, counted(&cache));
        // A vector may hold twice what it needs; the last page comes on top.
        assert!(held(&cache) <= 2 * (CACHE_OPS + 2 * 65_536), "page {index}");
    }
}

#[test]
fn pages_that_are_decoded_again_and_again_are_counted_rightly() {
    let ram = Ram::new(BASE, RAM).unwrap();
    let mut cache = PageCache::new();
    for index in 0..64 {
        decode_everywhere(&mut cache, &ram, index);
        // The page is written, and only a little of it is executed after that.
        for _ in 0..10 {
            ram.code().written(index as usize);
            let (page, new) = cache.page(&ram, index);
            assert!(new);
            cache.block(page, code(&ram, index), 0, &Extensions::ALL);
        }
        assert_eq!(cache.ops, counted(&cache));
    }
    assert!(held(&cache) <= 64 * (PAGE_COST + 2 * KEPT_OPS), "what was large once is given back");
}

#[test]
fn a_jump_is_chained_only_to_where_it_leads() {
    let ram = Ram::new(BASE, RAM).unwrap();
    // jal ra, +8192: never inside of the page, so it stays a jump.
    let jal: u32 = 0x0000_206f | 1 << 7;
    ram.write(BASE, &jal.to_le_bytes()).unwrap();
    let mut cache = PageCache::new();
    let (page, _) = cache.page(&ram, 0);
    let elsewhere = cache.block(page, code(&ram, 0), 0x100, &Extensions::ALL);
    let mut jump = cache.block(page, code(&ram, 0), 0, &Extensions::ALL);
    jump.advance();
    assert_eq!(jump.op().code, Code::Jal);
    jump.chain_to(elsewhere);
    assert_eq!(jump.op().chain(), 0, "as when it trapped to a handler in its page");
}
