use super::*;

/// A terminal of one endless line that understands what the editor sends.
#[derive(Default)]
struct Screen {
    line: Vec<char>,
    cursor: usize,
}

impl Screen {
    fn show(&mut self, out: &str) {
        let mut chars = out.chars();
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let text: String = chars.by_ref().take_while(|c| !c.is_ascii_alphabetic()).collect();
                    // The final letter is taken with the number, so tell by the number what it was.
                    match text.parse::<usize>() {
                        Ok(columns) => {
                            self.cursor = self.cursor.checked_sub(columns).expect("left of the line")
                        }
                        Err(_) => self.line.truncate(self.cursor),
                    }
                }
                '\r' => *self = Self::default(),
                '\n' => {}
                _ => {
                    self.line.truncate(self.line.len().max(self.cursor));
                    if self.cursor < self.line.len() {
                        self.line[self.cursor] = c;
                    } else {
                        self.line.push(c);
                    }
                    self.cursor += 1;
                }
            }
        }
    }
}

fn feed(editor: &mut Editor, keys: &[u8]) -> (String, Vec<Action>) {
    let mut out = String::new();
    let actions = keys.iter().filter_map(|&key| editor.feed(key, &mut out)).collect();
    (out, actions)
}

fn line_of(keys: &str) -> String {
    let mut editor = Editor::default();
    let (_, actions) = feed(&mut editor, format!("{keys}\n").as_bytes());
    match actions.into_iter().next_back() {
        Some(Action::Line(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_key_does_its_work() {
    for (keys, line) in [
        ("abc\x01x", "xabc"),
        ("abc\x1b[Hx", "xabc"),
        ("abc\x1b[1~x", "xabc"),
        ("abc\x01\x05x", "abcx"),
        ("abc\x01\x1b[Fx", "abcx"),
        ("abc\x02x", "abxc"),
        ("abc\x1b[D\x1b[Dx\x1b[Cy", "axbyc"),
        ("abc\x01\x06x", "axbc"),
        ("abc\x08x\x7fy", "aby"),
        ("abc\x01\x04x", "xbc"),
        ("abc\x01\x1b[3~x", "xbc"),
        ("abc\x02\x02\x0bx", "ax"),
        ("abc\x02\x15x", "xc"),
        ("one two  \x17x", "one x"),
        ("one\x17x", "x"),
        ("a\x1b[99;5Zb\x1b9c", "abc"),
        ("gr\u{fc}n\x08\x08x", "grx"),
        ("a\x00\x03\x1ab", "ab"),
    ] {
        assert_eq!(line_of(keys), line, "{keys:?}");
    }
}

#[test]
fn a_return_and_a_newline_end_one_line() {
    let (_, actions) = feed(&mut Editor::default(), b"a\r\nb\n\rc\n");
    let lines: Vec<String> =
        actions.into_iter().map(|a| if let Action::Line(l) = a { l } else { String::new() }).collect();
    assert_eq!(lines, ["a", "b", "", "c"]);
}

#[test]
fn history_goes_back_and_forth_and_keeps_the_new_line() {
    let mut editor = Editor::default();
    feed(&mut editor, b"one\ntwo\ntwo\n  \n");
    assert_eq!(editor.history(), ["one", "two"]);
    for (keys, line) in [
        ("new\x10", "two"),
        ("\x10", "one"),
        ("\x10", "one"),
        ("\x0e", "two"),
        ("\x0e", "new"),
        ("\x0e", "new"),
    ] {
        feed(&mut editor, keys.as_bytes());
        assert_eq!(editor.line.iter().collect::<String>(), line);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut editor = Editor::default();
    for at in 0..200 {
        feed(&mut editor, format!("line {at}\n").as_bytes());
    }
    assert_eq!(editor.history().len(), HISTORY);
    feed(&mut editor, &vec![b'x'; 3 * LENGTH]);
    assert_eq!(editor.line.len(), LENGTH);
}

#[test]
fn the_terminal_always_shows_the_line() {
    let keys: &[&[u8]] = &[
        b"a",
        b"bc",
        b" ",
        b"\x01",
        b"\x02",
        b"\x04",
        b"\x05",
        b"\x06",
        b"\x08",
        b"\x0b",
        b"\x0e",
        b"\x10",
        b"\x15",
        b"\x17",
        b"\x1b[A",
        b"\x1b[B",
        b"\x1b[C",
        b"\x1b[D",
        b"\x1b[3~",
        b"\n",
        b"\xff",
        b"\xc3\xbc",
    ];
    let (mut editor, mut screen, mut random) = (Editor::default(), Screen::default(), 1_u64);
    for step in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = keys[usize::try_from(random >> 33).unwrap() % keys.len()];
        screen.show(&feed(&mut editor, key).0);
        assert_eq!((&screen.line, screen.cursor), (&editor.line, editor.cursor), "step {step}, {key:?}");
    }
}
