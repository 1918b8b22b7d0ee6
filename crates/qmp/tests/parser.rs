//! The parser on its own: chunks, errors, resynchronisation, limits.

use proptest::prelude::*;
use qmp::{Limits, Parser, SyntaxError};
use serde_json::{Value, json};

type Outputs = Vec<Result<Value, SyntaxError>>;

fn feed(parser: &mut Parser, mut bytes: &[u8]) -> Outputs {
    std::iter::from_fn(|| parser.next(&mut bytes)).collect()
}

fn parse(bytes: impl AsRef<[u8]>) -> Outputs {
    feed(&mut Parser::new(Limits::default()), bytes.as_ref())
}

/// What each output is: the value as text, or the error's text.
fn show(outputs: &Outputs) -> Vec<String> {
    let one = |output: &Result<Value, SyntaxError>| match output {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string().replace("JSON parse error, ", "! "),
    };
    outputs.iter().map(one).collect()
}

#[track_caller]
fn gives(input: impl AsRef<[u8]>, expected: &[&str]) {
    assert_eq!(show(&parse(input)), expected);
}

#[test]
fn values_need_nothing_between_them() {
    gives("[\n{\n}\n,\n{'a'\n:\n{}}]", &[r#"[{},{"a":{}}]"#]);
    gives("{}{'a':1}[1,2][]", &["{}", r#"{"a":1}"#, "[1,2]", "[]"]);
    gives(r#"{"a": {"b": [true, false, null]}}"#, &[r#"{"a":{"b":[true,false,null]}}"#]);
    gives("'a'\"b\"", &[r#""a""#, r#""b""#]);
}

#[test]
fn a_bare_token_waits_for_its_end() {
    gives("5", &[]);
    gives("5 ", &["5"]);
    gives("true[]", &["true", "[]"]);
    gives("1 x2 ", &["1", "! invalid keyword 'x'", "2"]);
}

#[test]
fn numbers_are_exact_where_they_can_be() {
    let numbers = "[0,-0,9223372036854775807,-9223372036854775808,18446744073709551615,1.5,1e3,-2E-2]";
    assert_eq!(parse(numbers), [Ok(json!([0, 0, i64::MAX, i64::MIN, u64::MAX, 1.5, 1e3, -0.02]))]);
    assert_eq!(parse("[18446744073709551616]"), [Ok(json!([18_446_744_073_709_551_616.0]))]);
    gives("[1e400]", &["! number '1e400' is out of range"]);
    gives("[1,+1]", &["! stray '+'"]);
    gives("[1.]", &["! stray '1.]'"]);
    gives("[-]", &["! stray '-]'"]);
    gives("[1 2]", &["! expected separator in list"]);
    gives("[1x]", &["! expected separator in list"]);
    gives("[0x1]", &["! expected separator in list"]);
    gives("[NaN]", &["! stray 'N'"]);
}

#[test]
fn strings_are_unescaped() {
    let one = |text: &str| match parse(text).pop() {
        Some(Ok(Value::String(text))) => text,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(one(r#""\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC""#), "\"\\/\u{8}\u{c}\n\r\tAé€");
    assert_eq!(one(r#"'it\'s "so"'"#), "it's \"so\"");
    assert_eq!(one(r#""\ud83d\ude00\u0000""#), "😀\0");
    assert_eq!(one("\"é€😀\""), "é€😀");
    gives(r#"["\x"]"#, &["! invalid escape in string"]);
    gives(r#"["\u12"]"#, &["! \\u12 is not a valid Unicode character"]);
    gives(r#"["\u123g"]"#, &["! \\u123g is not a valid Unicode character"]);
    gives(r#"["\udc00"]"#, &["! \\udc00 is not a valid Unicode character"]);
    gives(r#"["\ud800\u0041"]"#, &["! \\ud800 is not a valid Unicode character"]);
    gives(r#"["\ufdd0"]"#, &["! \\ufdd0 is not a valid Unicode character"]);
    gives(r#"["\ud83f\udfff"]"#, &["! \\ud83f\\udfff is not a valid Unicode character"]);
    gives("['\u{ffff}']", &["! invalid UTF-8 sequence in string"]);
    for bad in
        [&b"['\x80']"[..], b"['\xC0\x80']", b"['\xED\xA0\x80']", b"['\xF5\x80\x80\x80']", b"['\xE2\x82']"]
    {
        gives(bad, &["! invalid UTF-8 sequence in string"]);
    }
}

#[test]
fn grammar_errors_have_qemus_texts() {
    gives("{1:2}", &["! key is not a string in object"]);
    gives("{[]:2}", &["! key is not a string in object"]);
    gives("{'a' 1}", &["! missing : in object pair"]);
    gives("{'a'}", &["! missing : in object pair"]);
    gives("{'a':}", &["! expecting value"]);
    gives("{'a':1 'b':2}", &["! expected separator in dict"]);
    gives("{'a':1]", &["! expected separator in dict"]);
    gives("[1}", &["! expected separator in list"]);
    gives("[}", &["! expecting value"]);
    gives("{'a':1,}", &["! expecting value"]);
    gives("{,}", &["! expecting value"]);
    gives("{'a':1,'a':2}", &["! duplicate key"]);
    gives("{True:1}", &["! stray 'T'"]);
    gives("]", &["! expecting value"]);
    gives("[1,// no\n2]", &["! stray '/'"]);
}

#[test]
fn one_broken_value_is_one_error_and_the_next_value_is_read() {
    // The brackets of the broken value are followed to its end, in strings too.
    gives(r#"{"a":True,"b":["}",{"c":[]}]}{"d":1}"#, &["! stray 'T'", r#"{"d":1}"#]);
    gives("{'a':[1,]}[2]", &["! expecting value", "[2]"]);
    gives("{'a':\"x\ny}\"}[2]", &["! stray '\"x\n'", "[2]"]);
    gives("{'a':'\\\x01\\'}'}[2]", &["! stray ''\\\u{1}'", "[2]"]);
    gives("[1.][2]", &["! stray '1.]'", "[2]"]);
    // A quote is missing: the next line that begins a command is read.
    gives("{'execute':'stop}\n{'execute':'cont'}", &["! stray ''stop}\n'", r#"{"execute":"cont"}"#]);
    gives("{'a':$,'b\n  {\n{'c':1}", &["! stray '$'", r#"{"c":1}"#]);
    // A closing bracket is missing: likewise.
    gives(
        "{'execute':'stop'\r\n{'execute':'cont'}[1]",
        &["! expected separator in dict", r#"{"execute":"cont"}"#, "[1]"],
    );
    gives(
        "{'a':[1\n{'b':2}{'c'\n{'d':[]}",
        &["! expected separator in list", r#"{"b":2}"#, "! missing : in object pair", r#"{"d":[]}"#],
    );
    // A byte 0xFF ends anything, and costs one error each time.
    gives(b"[[[$ [\xFF[1]", &["! stray '$'", "! stray '\u{FFFD}'", "[1]"]);
    gives(b"\xFF\xFF\xFF[1]", &["! stray '\u{FFFD}'", "! stray '\u{FFFD}'", "! stray '\u{FFFD}'", "[1]"]);
    gives(b"{'a':'b\xFF[1]", &["! stray ''b\u{FFFD}'", "[1]"]);
    gives(b"['\xFE'][1]", &["! stray ''\u{FFFD}'", "[1]"]);
}

#[test]
fn quoted_input_is_bounded() {
    let long = "x".repeat(100_000);
    let error = parse(format!("[{long}]")).pop().and_then(Result::err).map(|error| error.to_string());
    let text = error.unwrap_or_default();
    assert!(
        text.starts_with("JSON parse error, invalid keyword 'xxx") && text.ends_with("xxx...'"),
        "{text}"
    );
    assert!(text.len() < 400);
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(matches!(parse(nested(1024))[..], [Ok(_)]));
    gives(nested(1025) + "[1]", &["JSON nesting depth limit exceeded", "[1]"]);
    gives(nested(100_000) + "[1]", &["JSON nesting depth limit exceeded", "[1]"]);
    let object = |levels: usize| "{'a':".repeat(levels) + "1" + &"}".repeat(levels);
    assert!(matches!(parse(object(1024))[..], [Ok(_)]));
    gives(object(1025) + "[1]", &["JSON nesting depth limit exceeded", "[1]"]);
    // Never closed: silence, and 0xFF helps.
    let mut open = "[".repeat(100_000).into_bytes();
    open.extend_from_slice(b"\xFF[1]");
    gives(open, &["JSON nesting depth limit exceeded", "! stray '\u{FFFD}'", "[1]"]);
}

#[test]
fn tokens_and_bytes_are_limited() {
    let limits = Limits { size: 1000, tokens: 50, depth: 10 };
    let limited = |text: &str| show(&feed(&mut Parser::new(limits), text.as_bytes()));
    let ones = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    assert_eq!(limited(&ones(24)).len(), 1);
    assert!(limited(&ones(24))[0].starts_with("[1,"), "49 tokens");
    assert_eq!(limited(&(ones(26) + "[2]")), ["JSON token count limit exceeded", "[2]"]);
    let string = |length: usize| format!("['{}']", "a".repeat(length));
    assert!(limited(&string(996))[0].starts_with("[\"aaa"), "1000 bytes");
    assert_eq!(limited(&(string(997) + "[2]")), ["JSON token size limit exceeded", "[2]"]);
    assert_eq!(limited(&(string(1_000_000) + "[2]")), ["JSON token size limit exceeded", "[2]"]);
    assert_eq!(limited(&("7".repeat(2000) + "[2]")), ["JSON token size limit exceeded", "[2]"]);
    // White space is free.
    assert_eq!(limited(&format!("[{}]", " ".repeat(5000))), ["[]"]);
    // The error comes as soon as the limit is passed, not at the end of what is too long.
    assert_eq!(limited(&format!("['{}", "a".repeat(1000))), ["JSON token size limit exceeded"]);
}

#[test]
fn two_million_tokens_are_one_error() {
    let many = format!("{{'id':[{}1]}}[2]", "1,".repeat(1_100_000));
    gives(many, &["JSON token count limit exceeded", "[2]"]);
}

/// Bytes that are often nearly JSON.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => prop::sample::select(vec![
            &b"{"[..], b"}", b"[", b"]", b",", b":", b"\"", b"'", b"\\", b"\n", b" ", b"1", b"-0.5e3", b"01", b"true",
            b"nul", b"\"a\"", b"'b'", b"\\u00e9", b"\\ud800", b"\xFF", b"\xFE", b"\xC3\xA9", b"\xC3", b"\x01", b"$",
            b"{\"execute\":\"stop\"}", b"\n{\"id\":[1,2,{}]}", b"1e999",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ];
    prop::collection::vec(fragment, 0..60).prop_map(|fragments| fragments.concat())
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        Just(Limits::default()),
        (0usize..40, 0usize..20, 0usize..6).prop_map(|(size, tokens, depth)| Limits { size, tokens, depth }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_do_not_matter(input in input(), limits in limits(), cuts in prop::collection::vec(1usize..9, 1..9)) {
        let whole = feed(&mut Parser::new(limits), &input);
        let mut parser = Parser::new(limits);
        let mut chunked = Outputs::new();
        let mut rest = &input[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            chunked.extend(feed(&mut parser, chunk));
            rest = after;
        }
        prop_assert!(whole.len() <= input.len(), "at most one output a byte");
        prop_assert_eq!(whole, chunked);
    }

    #[test]
    fn whatever_came_before_0xff_does_not_matter(input in input(), value in 0u32..1000) {
        let mut parser = Parser::new(Limits::default());
        feed(&mut parser, &input);
        let mut bytes = vec![0xFF];
        bytes.extend(format!("[{value}]").bytes());
        let outputs = feed(&mut parser, &bytes);
        prop_assert_eq!(outputs.last(), Some(&Ok(json!([value]))));
    }

    #[test]
    fn what_serde_json_writes_is_read_back(value in json_value()) {
        prop_assert_eq!(parse(json!([value]).to_string()), [Ok(json!([value]))]);
    }
}

/// Any value, of moderate size.
fn json_value() -> impl Strategy<Value = Value> {
    let text = "[a-z\"'\\\\\\n\u{1}é€😀]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
