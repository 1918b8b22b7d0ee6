use difftest::*;
#[test] fn t() {
  for class in case::Class::ALL {
    let cases: Vec<_> = (0..100).map(|s| generate::case(class, s)).collect();
    let img = image::build(&cases).unwrap();
    let t = std::time::Instant::now();
    let out = qemu::run(&img, layout::RESULTS, 256*8*200, std::time::Duration::from_secs(10)).unwrap();
    let done = (0..100).filter(|i| image::Record::read(&out.memory, *i).is_some()).count();
    let traps: u64 = (0..100).filter_map(|i| image::Record::read(&out.memory, i)).map(|r| r.word(1)).sum();
    let maxed = (0..100).filter_map(|i| image::Record::read(&out.memory, i)).filter(|r| r.word(1)>=400).count();
    println!("{class:?} {} KiB done {done} fin {} traps {traps} maxed {maxed} {:?} {:?}", img.len()/1024, out.finished, String::from_utf8_lossy(&out.console), t.elapsed());
  }
}
