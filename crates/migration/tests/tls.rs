//! Migrations by TLS: what arrives, what nobody on the way sees, and who is turned away with which words.

#[path = "support/certificates.rs"]
mod certificates;
#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use certificates::{Authority, Folder, Odd, equip};
use migration::{Address, Endpoint, Listening, Object, Text};
use runstate::{MigrationStatus, RunState};
use support::{World, cut_link, unix};

const RAM: u64 = 0x8000_0000;

/// Two machines whose credentials one authority vouches for.
struct Pair {
    authority: Authority,
    here: World,
    there: World,
}

impl Pair {
    fn new() -> Self {
        let authority = Authority::new(&Odd::default());
        let (here, there) = (World::running(), World::waiting(true));
        equip(&here, Folder::of(&authority, Endpoint::Client).load(Endpoint::Client).unwrap());
        equip(&there, Folder::of(&authority, Endpoint::Server).load(Endpoint::Server).unwrap());
        Self { authority, here, there }
    }
}

/// Waits for a machine on a port, and gives the address.
fn listen(there: &World) -> (engine::Job, Address) {
    let arriving = there.take_in(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Some(Listening::Tcp(address)) = there.migrations.report().unwrap().listening else {
        panic!("no port")
    };
    (arriving, format!("tcp:{address}").parse().unwrap())
}

#[track_caller]
fn arrives(here: &World, there: &World, arriving: engine::Job, place: &Address) {
    here.ram().write(RAM + 0x12_3456, b"of the guest").unwrap();
    assert!(here.migrate(place).unwrap().wait() && arriving.wait());
    let error = |world: &World| world.migrations.report().unwrap().error;
    assert_eq!((error(here), error(there)), (None, None));
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x12_3456, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
}

#[test]
fn a_machine_arrives_by_tcp() {
    let Pair { here, there, .. } = Pair::new();
    let (arriving, place) = listen(&there);
    arrives(&here, &there, arriving, &place);
}

/// A socket in the file system has no name that a certificate could be for.
#[test]
fn a_machine_arrives_by_a_unix_socket_if_it_is_said_whose_certificate_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let Pair { here, there, .. } = Pair::new();
    let place = unix(folder.path());
    let refused = here.migrate(&place).unwrap_err().to_string();
    assert_eq!(refused, "No hostname for certificate validation");
    let arriving = there.take_in(&place).unwrap();
    here.set(Text::TlsHostname, "localhost");
    arrives(&here, &there, arriving, &place);
}

#[test]
fn a_passed_socket_is_sealed_and_a_pipe_is_refused() {
    let Pair { here, there, .. } = Pair::new();
    here.set(Text::TlsHostname, "localhost");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let arriving = there.take_in_through(theirs.into()).unwrap();
    assert!(here.migrate_through(ours.into()).unwrap().wait() && arriving.wait());
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    let (_reader, writer) = std::io::pipe().unwrap();
    here.ask(runstate::ManagementRequest::Cont);
    assert!(here.migrate_through(writer.into()).unwrap().wait());
    let error = here.migrations.report().unwrap().error.unwrap();
    assert_eq!(&*error, "TLS handshake failed: the connection cannot be sealed, it goes one way only");
}

/// Passes connections on and keeps what it has seen.
fn listen_in(behind: &Path, listener: UnixListener) -> (thread::JoinHandle<()>, Arc<Mutex<Vec<u8>>>) {
    let (behind, seen) = (behind.to_owned(), Arc::new(Mutex::new(Vec::new())));
    let keep = Arc::clone(&seen);
    let spy = thread::spawn(move || {
        let (source, _) = listener.accept().unwrap();
        let target = UnixStream::connect(behind).unwrap();
        let pump = |mut from: UnixStream, mut to: UnixStream, keep: Arc<Mutex<Vec<u8>>>| {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    keep.lock().unwrap().extend_from_slice(&buffer[..count]);
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            })
        };
        let out = pump(source.try_clone().unwrap(), target.try_clone().unwrap(), Arc::clone(&keep));
        let back = pump(target, source, keep);
        out.join().unwrap();
        back.join().unwrap();
    });
    (spy, seen)
}

#[test]
fn nobody_on_the_way_sees_what_is_in_memory() {
    let sees = |sealed: bool| {
        let folder = tempfile::tempdir().unwrap();
        let behind = folder.path().join("behind");
        let (spy, seen) = listen_in(&behind, UnixListener::bind(folder.path().join("m")).unwrap());
        let Pair { here, there, .. } = Pair::new();
        here.set(Text::TlsHostname, "localhost");
        if !sealed {
            here.set(Text::TlsCreds, "");
            there.set(Text::TlsCreds, "");
        }
        let arriving = there.take_in(&Address::Unix(behind)).unwrap();
        arrives(&here, &there, arriving, &unix(folder.path()));
        spy.join().unwrap();
        let seen = seen.lock().unwrap();
        let has = |what: &[u8]| seen.windows(what.len()).any(|window| window == what);
        (has(b"of the guest"), has(b"DORMOUSE"))
    };
    assert_eq!((sees(false), sees(true)), ((true, true), (false, false)));
}

/// The source is refused and goes on; the destination still waits, and the right source may come.
#[track_caller]
fn is_turned_away(pair: &Pair, stranger: &World, words: &str) {
    let (arriving, place) = listen(&pair.there);
    assert!(stranger.migrate(&place).unwrap().wait());
    let error = stranger.migrations.report().unwrap().error.unwrap();
    assert_eq!(&*error, words);
    assert_eq!((stranger.state(), pair.there.state()), (RunState::Running, RunState::InMigrate));
    assert_eq!(pair.there.engine.status().migration, Some(MigrationStatus::Setup));
    arrives(&pair.here, &pair.there, arriving, &place);
}

#[test]
fn a_source_that_another_authority_vouches_for_is_turned_away() {
    let pair = Pair::new();
    let (stranger, other) = (World::running(), Authority::new(&Odd::default()));
    let folder = Folder::of(&other, Endpoint::Client);
    pair.authority.trust(folder.path());
    let credentials = folder.load_with(Endpoint::Client, |options| options.sanity_check = false);
    equip(&stranger, credentials.unwrap());
    is_turned_away(
        &pair,
        &stranger,
        "TLS: the other side refuses: it does not know the issuer of our certificate",
    );
}

#[test]
fn a_source_without_a_certificate_is_turned_away() {
    let pair = Pair::new();
    let (stranger, folder) = (World::running(), Folder::empty());
    pair.authority.trust(folder.path());
    equip(&stranger, folder.load(Endpoint::Client).unwrap());
    is_turned_away(
        &pair,
        &stranger,
        "TLS: the other side refuses: it wants a certificate, and our credentials have none",
    );
}

#[test]
fn a_source_whose_time_is_over_is_turned_away() {
    let pair = Pair::new();
    let (stranger, folder) = (World::running(), Folder::empty());
    pair.authority.trust(folder.path());
    pair.authority.vouch(folder.path(), Endpoint::Client, &Odd { expired: true, ..Odd::default() });
    let credentials = folder.load_with(Endpoint::Client, |options| options.sanity_check = false);
    equip(&stranger, credentials.unwrap());
    is_turned_away(&pair, &stranger, "TLS: the other side refuses: our certificate is not valid now");
}

#[test]
fn a_source_in_the_clear_is_turned_away() {
    is_turned_away(
        &Pair::new(),
        &World::running(),
        "the other side speaks TLS, and 'tls-creds' is not set here",
    );
}

#[test]
fn a_source_that_is_on_the_list_of_the_revoked_is_turned_away() {
    let pair = Pair { there: World::waiting(true), ..Pair::new() };
    let folder = Folder::of(&pair.authority, Endpoint::Server);
    pair.authority.revoke(folder.path());
    equip(&pair.there, folder.load(Endpoint::Server).unwrap());
    let (stranger, folder) = (World::running(), Folder::empty());
    pair.authority.trust(folder.path());
    pair.authority.vouch(folder.path(), Endpoint::Client, &Odd { revoked: true, ..Odd::default() });
    equip(&stranger, folder.load(Endpoint::Client).unwrap());
    is_turned_away(&pair, &stranger, "TLS: the other side refuses: our certificate has been revoked");
}

#[test]
fn only_the_name_that_tls_authz_names_may_connect() {
    let allowing = |name: &str| {
        let Pair { here, there, .. } = Pair::new();
        there.migrations.objects().add("who", Object::Identity(name.into())).unwrap();
        there.set(Text::TlsAuthz, "who");
        let (arriving, place) = listen(&there);
        (here, there, arriving, place)
    };
    let (here, there, arriving, place) = allowing("C=GB,O=Example\\, Home,CN=somebody");
    assert!(here.migrate(&place).unwrap().wait());
    let error = here.migrations.report().unwrap().error.unwrap();
    assert_eq!(&*error, "TLS x509 authz check for C=GB,O=Example\\, Home,CN=client is denied");
    assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
    there.give_up(arriving);
    let (here, there, arriving, place) = allowing("C=GB,O=Example\\, Home,CN=client");
    arrives(&here, &there, arriving, &place);
}

/// What a source says of a destination with these credentials, or in the clear.
fn refuses(pair: &Pair, there: &World, host: &str) -> String {
    let (arriving, place) = listen(there);
    pair.here.set(Text::TlsHostname, host);
    assert!(pair.here.migrate(&place).unwrap().wait());
    assert_eq!(pair.here.state(), RunState::Running);
    there.give_up(arriving);
    pair.here.migrations.report().unwrap().error.unwrap().to_string()
}

#[test]
fn a_destination_that_is_not_the_one_that_was_meant_gets_nothing() {
    let pair = Pair::new();
    let destination = |odd: &Odd| {
        let (there, folder) = (World::waiting(true), Folder::empty());
        pair.authority.trust(folder.path());
        pair.authority.vouch(folder.path(), Endpoint::Server, odd);
        equip(&there, folder.load_with(Endpoint::Server, |options| options.sanity_check = false).unwrap());
        there
    };
    assert_eq!(
        refuses(&pair, &destination(&Odd { name: Some("elsewhere"), ..Odd::default() }), ""),
        "Certificate does not match the hostname 127.0.0.1"
    );
    assert_eq!(
        refuses(&pair, &destination(&Odd::default()), "nowhere"),
        "Certificate does not match the hostname nowhere"
    );
    assert_eq!(
        refuses(&pair, &destination(&Odd { expired: true, ..Odd::default() }), ""),
        "The certificate has expired"
    );
    let other = World::waiting(true);
    equip(
        &other,
        Folder::of(&Authority::new(&Odd::default()), Endpoint::Server).load(Endpoint::Server).unwrap(),
    );
    assert_eq!(refuses(&pair, &other, ""), "The certificate hasn't got a known issuer");
}

#[test]
fn a_destination_in_the_clear_says_that_the_source_speaks_tls_and_may_try_again() {
    let Pair { here, there, .. } = Pair::new();
    there.set(Text::TlsCreds, "");
    let (arriving, place) = listen(&there);
    assert!(here.migrate(&place).unwrap().wait() && arriving.wait());
    let error = |world: &World| world.migrations.report().unwrap().error.unwrap().to_string();
    assert_eq!(error(&here), "TLS handshake failed: the other side has hung up, is 'tls-creds' set there?");
    let words = "load of migration failed: the other side speaks TLS, and 'tls-creds' is not set here";
    assert_eq!(error(&there), words);
    assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
    there.set(Text::TlsCreds, "creds");
    let (arriving, place) = listen(&there);
    arrives(&here, &there, arriving, &place);
}

#[test]
fn without_verify_peer_anybody_is_taken_for_the_other_side() {
    let (here, there) = (World::running(), World::waiting(true));
    let (one, other) = (Authority::new(&Odd::default()), Authority::new(&Odd::default()));
    for (world, authority, endpoint) in [(&here, &one, Endpoint::Client), (&there, &other, Endpoint::Server)]
    {
        let credentials =
            Folder::of(authority, endpoint).load_with(endpoint, |options| options.verify_peer = false);
        equip(world, credentials.unwrap());
    }
    let (arriving, place) = listen(&there);
    arrives(&here, &there, arriving, &place);
}

#[test]
fn what_is_misconfigured_is_refused_before_anything_is_opened() {
    let Pair { here, there, .. } = Pair::new();
    let tcp: Address = "tcp:127.0.0.1:1".parse().unwrap();
    let out = |place: &Address| here.migrate(place).unwrap_err().to_string();
    let into = |place: &Address| there.take_in(place).unwrap_err().to_string();
    for place in ["file:/nonexistent/f", "exec:cat"] {
        let way = if place.starts_with("file") { "a file" } else { "a program" };
        let words = format!(
            "TLS needs a connection that goes both ways, unset 'tls-creds' to migrate to or from {way}"
        );
        assert_eq!((out(&place.parse().unwrap()), into(&place.parse().unwrap())), (words.clone(), words));
    }
    here.set(Text::TlsHostname, "no host!");
    let words = "'no host!' is neither a host's name nor its number, so no certificate can be for it";
    assert_eq!(out(&tcp), words);
    for (world, id) in [(&here, "creds"), (&there, "creds")] {
        let objects = world.migrations.objects();
        objects.add("rng", Object::Fixed("rng-random")).unwrap();
        objects.add("who", Object::Identity("CN=a".into())).unwrap();
        world.set(Text::TlsCreds, id);
    }
    for (id, words) in [
        ("nobody", "No TLS credentials with id 'nobody'"),
        ("rng", "Object with id 'rng' is not TLS credentials"),
        ("who", "Object with id 'who' is not TLS credentials"),
    ] {
        here.set(Text::TlsCreds, id);
        there.set(Text::TlsCreds, id);
        assert_eq!((out(&tcp), into(&tcp)), (words.to_owned(), words.to_owned()));
    }
    // Each has the other's.
    let [client, server] = [&here, &there].map(|world| {
        let mut list = world.migrations.objects().list().into_iter();
        list.find_map(|(id, object)| (id == "creds").then_some(object)).unwrap()
    });
    for (world, object) in [(&here, server), (&there, client)] {
        world.migrations.objects().add("other", object).unwrap();
        world.set(Text::TlsCreds, "other");
    }
    assert_eq!(out(&tcp), "Expected TLS credentials for a client endpoint");
    assert_eq!(into(&tcp), "Expected TLS credentials for a server endpoint");
    there.set(Text::TlsCreds, "creds");
    there.set(Text::TlsAuthz, "nobody");
    assert_eq!(into(&tcp), "Cannot find QAuthZ object ID nobody");
    there.set(Text::TlsAuthz, "rng");
    assert_eq!(into(&tcp), "Object 'rng' is not a QAuthZ subclass");
    assert_eq!((here.take(), there.take()), (vec![], vec![]), "nothing has begun");
}

#[test]
fn whoever_says_nothing_is_left_by_a_cancel_and_keeps_nobody_waiting() {
    let Pair { here, there, .. } = Pair::new();
    // A destination that takes the connection and is silent.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let going = here.migrate(&place).unwrap();
    let (_silent, _) = listener.accept().unwrap();
    here.migrations.cancel(engine::By::Unnamed).unwrap();
    assert!(going.wait());
    assert_eq!(here.take().last().unwrap(), "MIGRATION{cancelled} running");
    // Sources that do the same, more than are heard at a time.
    let (arriving, place) = listen(&there);
    let Address::Tcp { host, port } = &place else { panic!("no port") };
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect((host.as_str(), *port)).unwrap()).collect();
    arrives(&here, &there, arriving, &place);
    drop(silent);
}

/// As without TLS, wherever the link is cut, in the handshake too.
#[test]
fn a_link_cut_anywhere_leaves_one_machine_at_most() {
    let probe = |from_source: usize, from_target: usize| {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("m")).unwrap();
        let behind = folder.path().join("behind");
        let Pair { here, there, .. } = Pair::new();
        here.set(Text::TlsHostname, "localhost");
        let arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
        let proxy = cut_link(&behind, listener, from_source, from_target);
        assert!(here.migrate(&unix(folder.path())).unwrap().wait());
        let went = proxy.join().unwrap();
        let error = here.migrations.report().unwrap().error;
        // Where nobody has shown who he is the next one may still come.
        let waits = there.engine.status().migration == Some(MigrationStatus::Setup);
        if error.is_none() || !waits {
            assert!(arriving.wait());
        }
        (here.state(), there.state(), error, went)
    };
    let (.., error, [out, back]) = probe(usize::MAX, usize::MAX);
    assert_eq!(error, None);
    let mut unknown = 0;
    let cuts_out = (0..out).step_by(out.div_ceil(30)).chain([out - 60]).map(|out| (out, usize::MAX));
    let cuts_back = (0..back).step_by(back.div_ceil(20)).map(|back| (usize::MAX, back));
    for (out, back) in cuts_out.chain(cuts_back) {
        match probe(out, back) {
            (RunState::Running, RunState::InMigrate, error, _) => assert!(error.is_some()),
            (RunState::PostMigrate, RunState::Running, ..) => {}
            (RunState::PostMigrate, RunState::InMigrate, error, _) => {
                unknown += 1;
                assert!(error.unwrap().starts_with("whether the destination runs the machine is unknown"));
            }
            other => panic!("cut after {out} bytes out, {back} back: {other:?}"),
        }
    }
    assert!(unknown > 0, "no cut has met COMMIT");
}

#[test]
fn what_is_wrong_with_a_folder_is_said_when_the_object_is_made() {
    let authority = Authority::new(&Odd::default());
    let both = [Endpoint::Client, Endpoint::Server];
    // `@` stands for the folder, `%` for the side.
    let says = |break_it: &dyn Fn(&Folder, Endpoint), expected: &str, sides: &[Endpoint]| {
        for &endpoint in sides {
            let folder = Folder::of(&authority, endpoint);
            break_it(&folder, endpoint);
            let error = folder.load(endpoint).unwrap_err().to_string();
            let path = folder.path().display().to_string();
            assert_eq!(error, expected.replace('%', endpoint.name()).replace('@', &path));
        }
    };
    let remove = |name: &'static str| {
        move |folder: &Folder, side: Endpoint| {
            std::fs::remove_file(folder.file(&name.replace('%', side.name()))).unwrap();
        }
    };
    let write = |name: &'static str, text: &'static str| {
        move |folder: &Folder, side: Endpoint| {
            std::fs::write(folder.file(&name.replace('%', side.name())), text).unwrap();
        }
    };
    for name in ["ca-cert.pem", "%-cert.pem", "%-key.pem"] {
        let expected = format!("Unable to access credentials @/{name}: No such file or directory");
        says(&remove(name), &expected, &both);
    }
    says(
        &write("ca-cert.pem", "junk"),
        "Unable to import CA certificate list @/ca-cert.pem: no certificate is in it",
        &both,
    );
    says(
        &write("%-cert.pem", "junk"),
        "Unable to import % certificate @/%-cert.pem: no certificate is in it",
        &both,
    );
    says(
        &write("ca-crl.pem", "junk"),
        "Unable to import CA revocation list @/ca-crl.pem: no revocation list is in it",
        &both,
    );
    says(
        &write("%-key.pem", "junk"),
        "Cannot load certificate '@/%-cert.pem' & key '@/%-key.pem': the key cannot be used (no items found); keys with a password are not taken",
        &both,
    );
    let not_a_file = |folder: &Folder, side: Endpoint| {
        let path = folder.file(&format!("{}-key.pem", side.name()));
        std::fs::remove_file(&path).unwrap();
        std::process::Command::new("mkfifo").arg(path).status().unwrap();
    };
    says(&not_a_file, "Unable to access credentials @/%-key.pem: it is no regular file", &both);
    let swapped = |folder: &Folder, side: Endpoint| {
        let key = folder.file(&format!("{}-key.pem", side.name()));
        std::fs::copy(Folder::of(&authority, side).file(&format!("{}-key.pem", side.name())), key).unwrap();
    };
    says(
        &swapped,
        "Cannot load certificate '@/%-cert.pem' & key '@/%-key.pem': The certificate and the given key do not match.",
        &both,
    );
    let odd = |odd: Odd| move |folder: &Folder, side: Endpoint| authority_of(folder, side, &odd);
    fn authority_of(folder: &Folder, side: Endpoint, odd: &Odd) {
        let authority = Authority::new(&Odd::default());
        authority.trust(folder.path());
        authority.vouch(folder.path(), side, odd);
    }
    says(&odd(Odd { expired: true, ..Odd::default() }), "The % certificate @/%-cert.pem has expired", &both);
    says(
        &odd(Odd { early: true, ..Odd::default() }),
        "The % certificate @/%-cert.pem is not yet active",
        &both,
    );
    says(
        &odd(Odd { ca: true, ..Odd::default() }),
        "The certificate @/%-cert.pem basic constraints show a CA, but we need one for a %",
        &both,
    );
    says(
        &odd(Odd { purpose: true, ..Odd::default() }),
        "Certificate @/%-cert.pem purpose does not allow use with a TLS %",
        &both,
    );
    let ca = |odd: Odd| move |folder: &Folder, _: Endpoint| Authority::new(&odd).trust(folder.path());
    says(
        &ca(Odd::default()),
        "Our own certificate @/%-cert.pem failed validation against @/ca-cert.pem: The certificate hasn't got a known issuer",
        &both,
    );
    says(&ca(Odd { expired: true, ..Odd::default() }), "The CA certificate @/ca-cert.pem has expired", &both);
    says(
        &ca(Odd { ca: true, ..Odd::default() }),
        "The certificate @/ca-cert.pem basic constraints do not show a CA",
        &both,
    );
    // A client may have no certificate, but not half of one.
    let folder = Folder::empty();
    authority.trust(folder.path());
    assert!(folder.load(Endpoint::Client).is_ok());
    assert!(folder.load(Endpoint::Server).is_err());
}
