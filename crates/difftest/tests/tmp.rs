#![allow(missing_docs)]
use difftest::*;
#[test] fn t() {
  let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
  let from: u64 = std::env::var("S").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
  let only = std::env::var("C").unwrap_or_default();
  for class in case::Class::ALL {
    if !only.is_empty() && !only.split(',').any(|c| c == format!("{class:?}")) { continue; }
    let cases: Vec<_> = (from..from+n).map(|s| generate::case(class, s)).collect();
    let t = std::time::Instant::now();
    let mut totals = compare::Totals::default();
    let d = compare::differing(&cases, &mut totals).unwrap();
    println!("{class:?} {totals:?} {:?} differ {}: {:?}", t.elapsed(), d.len(), &d[..d.len().min(10)]);
    for &i in d.iter().take(std::env::var("R").ok().and_then(|n| n.parse().ok()).unwrap_or(1)) {
        println!("{}", compare::report(&compare::shrink(&cases[i]).unwrap()).unwrap());
    }
  }
}
