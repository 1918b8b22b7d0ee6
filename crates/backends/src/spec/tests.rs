use super::*;
use proptest::prelude::*;

fn short(text: &str) -> CharSpec {
    CharSpec::parse_short(text).unwrap()
}

fn unix(path: &str, server: bool, wait: bool) -> CharKind {
    let address = SocketAddress::Unix(path.into());
    CharKind::Socket(SocketSpec { address, server, wait, reconnect: None })
}

#[test]
fn short_forms() {
    assert_eq!(short("none"), CharSpec::plain(CharKind::None));
    assert_eq!(short("null"), CharSpec::plain(CharKind::Null));
    assert_eq!(short("pty"), CharSpec::plain(CharKind::Pty));
    assert_eq!(short("stdio"), CharSpec::plain(CharKind::Stdio { signal: true }));
    assert_eq!(short("stdio,signal=off"), CharSpec::plain(CharKind::Stdio { signal: false }));
    assert_eq!(short("mon:stdio"), CharSpec::mon_stdio());
    assert_eq!(short("chardev:a"), CharSpec::plain(CharKind::Ref("a".into())));
    assert_eq!(
        short("file:/tmp/a,b"),
        CharSpec::plain(CharKind::File { path: "/tmp/a,b".into(), append: false })
    );
}

#[test]
fn a_server_waits_unless_told_otherwise() {
    assert_eq!(short("unix:/s").kind, unix("/s", false, false));
    assert_eq!(short("unix:/s,server=on").kind, unix("/s", true, true));
    assert_eq!(short("unix:/s,server=on,wait=off").kind, unix("/s", true, false));
    assert_eq!(short("unix:/s,server,nowait").kind, unix("/s", true, false));
    assert_eq!(short("unix:/a,,b,server=on").kind, unix("/a,b", true, true));
}

#[test]
fn tcp_addresses() {
    let tcp = |host: &str, port| {
        let address = SocketAddress::Tcp { host: host.into(), port };
        CharKind::Socket(SocketSpec { address, server: false, wait: false, reconnect: None })
    };
    assert_eq!(short("tcp:host:4444").kind, tcp("host", 4444));
    assert_eq!(short("tcp::4444,nodelay=on").kind, tcp("", 4444));
    assert_eq!(short("tcp:[::1]:5").kind, tcp("::1", 5));
    for bad in ["tcp:host", "tcp:host:", "tcp:host:99999", "tcp:[::1:5", "tcp:host:x"] {
        assert!(matches!(CharSpec::parse_short(bad), Err(SpecError::BadAddress(_))), "{bad}");
    }
}

#[test]
fn long_forms_of_managers() {
    let (id, spec) = CharSpec::parse_long("socket,id=charmonitor,fd=21,server=on,wait=off").unwrap();
    assert_eq!(id, "charmonitor");
    let address = SocketAddress::Fd(21);
    let expected = SocketSpec { address, server: true, wait: false, reconnect: None };
    assert_eq!(spec, CharSpec::plain(CharKind::Socket(expected)));

    let (_, spec) = CharSpec::parse_long("file,id=charserial0,path=/dev/fdset/0,append=on").unwrap();
    assert_eq!(spec, CharSpec::plain(CharKind::File { path: "/dev/fdset/0".into(), append: true }));

    let (_, spec) = CharSpec::parse_long("socket,id=q,path=/run/q.sock,reconnect=5").unwrap();
    let CharKind::Socket(socket) = spec.kind else { panic!("{spec:?}") };
    assert_eq!(socket.reconnect, Some(Duration::from_secs(5)));

    let (_, spec) = CharSpec::parse_long("stdio,mux=on,id=c0").unwrap();
    assert_eq!(spec, CharSpec::mon_stdio());
}

#[test]
fn what_is_wrong_is_said() {
    let error = |text| CharSpec::parse_short(text).unwrap_err().to_string();
    assert_eq!(error("foo"), "'foo' is not a valid char driver");
    assert_eq!(error("vc"), "character device 'vc' is not supported by this program yet");
    assert_eq!(error("unix:/s,foo=1"), "Invalid parameter 'foo'");
    assert_eq!(error("unix:/s,server=maybe"), "Parameter 'server' expects 'on' or 'off'");
    assert_eq!(error("unix:/s,wait=on"), "'wait' is for a socket in server mode only");
    assert_eq!(
        error("unix:/s,reconnect=1,reconnect-ms=1"),
        "'reconnect' and 'reconnect-ms' are mutually exclusive"
    );
    assert_eq!(error("unix:/s,server=on,reconnect=1"), "'reconnect' is for a socket in client mode only");
    assert_eq!(error("unix:"), "Parameter 'path' is missing");
    assert_eq!(error("file:"), "character device 'file' needs a path");

    let error = |text| CharSpec::parse_long(text).unwrap_err().to_string();
    assert_eq!(error("null"), "Parameter 'id' is missing");
    assert_eq!(error("null,id=a,path=b"), "Invalid parameter 'path'");
    assert_eq!(error("socket,id=a"), "a socket needs exactly one of 'path', 'port' and 'fd'");
    assert_eq!(error("socket,id=a,path=b,port=1"), "a socket needs exactly one of 'path', 'port' and 'fd'");
    assert_eq!(error("socket,id=a,fd=x"), "Parameter 'fd' expects a number");
}

proptest! {
    #[test]
    fn no_specification_panics(text in "(mon:)?(unix|tcp|file|stdio|chardev)?:?.*") {
        let _ = CharSpec::parse_short(&text);
        let _ = CharSpec::parse_long(&text);
    }
}
