//! The saved form: whole, byte-equal, and nothing hostile gets in.

mod support;

use support::{Machine, Random, scramble};
use vmcore::{Exit, Section, Vcpu};

#[test]
fn a_saved_hart_goes_on_elsewhere_as_it_would_have_here() {
    let mut compared = 0;
    for seed in 0..150 {
        let (here, there) = (Machine::new(1), Machine::new(1));
        let mut hart = here.hart(0);
        scramble(&here, &mut hart, seed);
        // Any point: also where the program did not get further.
        hart.run(seed * 3);
        let section = hart.save();
        let mut fresh = there.hart(0);
        fresh.load(&section).unwrap();
        assert_eq!(fresh.save(), section, "seed {seed}");
        let mut memory = vec![0; support::SIZE as usize];
        here.ram.read(support::BASE, &mut memory).unwrap();
        there.ram.write(support::BASE, &memory).unwrap();
        let (a, b) = (hart.retired(), fresh.retired());
        let exits = (hart.run(a + 200), fresh.run(b + 200));
        if exits == (Exit::Limit, Exit::Limit) {
            compared += 1;
            assert_eq!(hart.save(), fresh.save(), "seed {seed}");
        }
    }
    assert!(compared > 30, "only {compared}");
}

#[test]
fn hostile_sections_are_refused_or_harmless() {
    let machine = Machine::new(1);
    let mut hart = machine.hart(0);
    scramble(&machine, &mut hart, 3);
    let good = hart.save();
    let refused = |hart: &mut hart::Hart, section: Section| {
        assert!(hart.check(&section).is_err());
        assert!(hart.load(&section).is_err());
        assert_eq!(hart.save(), good, "a refusal changes nothing");
    };
    refused(&mut hart, Section { name: "hart1".into(), ..good.clone() });
    refused(&mut hart, Section { version: good.version + 1, ..good.clone() });
    refused(&mut hart, Section { data: [&good.data[..], &[0]].concat(), ..good.clone() });
    for len in 0..good.data.len() {
        refused(&mut hart, Section { data: good.data[..len].to_vec(), ..good.clone() });
    }
    let mut random = Random(1);
    let len = good.data.len();
    for round in 0..len + 2000 {
        let mut damaged = good.clone();
        let at = if round < len { round } else { random.below(len as u64) as usize };
        damaged.data[at] ^= 1 << random.below(8);
        let passes = hart.check(&damaged).is_ok();
        assert_eq!(hart.save(), good, "a check changes nothing");
        assert_eq!(hart.load(&damaged).is_ok(), passes, "check and load disagree");
        if passes {
            let taken = hart.save();
            hart.load(&taken).unwrap();
            assert_eq!(hart.save(), taken);
            let limit = hart.retired() + 20;
            hart.run(limit);
            hart.load(&good).unwrap();
        }
        assert_eq!(hart.save(), good);
    }
}
