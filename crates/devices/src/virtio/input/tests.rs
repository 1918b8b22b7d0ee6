//! The configuration space of the power key. What becomes of presses is tested with the power button.

use super::*;

fn input() -> Input {
    Input::power_key("button", Arc::default(), Arc::default())
}

fn shown(input: &mut Input, select: u8, subselect: u8) -> Vec<u8> {
    input.write_config(SELECT, &[select, subselect]);
    let config = input.config();
    assert_eq!((config.len(), config[SELECT], config[SUBSELECT]), (CONFIG_LEN, select, subselect));
    config[UNION..][..config[SIZE].into()].to_vec()
}

#[test]
fn it_has_a_name_and_one_key() {
    let mut input = input();
    assert_eq!(shown(&mut input, CFG_ID_NAME, 0), b"button");
    assert_eq!(shown(&mut input, CFG_ID_DEVIDS, 0), [6, 0, 0, 0, 0, 0, 0, 0]);
    let keys = shown(&mut input, CFG_EV_BITS, 1);
    let set: Vec<usize> = (0..keys.len() * 8).filter(|key| keys[key / 8] >> (key % 8) & 1 != 0).collect();
    assert_eq!(set, [116]);
}

#[test]
fn whatever_else_is_selected_is_empty() {
    let mut input = input();
    for select in 0..=u8::MAX {
        for subselect in 0..=u8::MAX {
            let known = [(CFG_ID_NAME, 0), (CFG_ID_DEVIDS, 0), (CFG_EV_BITS, 1)];
            if !known.contains(&(select, subselect)) {
                assert_eq!(shown(&mut input, select, subselect), b"");
                assert!(
                    input.config()[SIZE..].iter().all(|byte| *byte == 0),
                    "nothing is left of what was shown"
                );
            }
        }
    }
}

#[test]
fn only_the_selection_can_be_written() {
    let mut input = input();
    input.write_config(SELECT, &[CFG_ID_NAME, 0, 9, 9]);
    input.write_config(CONFIG_LEN - 1, &[1, 2, 3, 4]);
    assert_eq!(shown(&mut input, CFG_ID_NAME, 0), b"button");
}
