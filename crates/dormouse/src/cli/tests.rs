use super::options::*;
use super::*;
use backends::{CharKind, CharSpec, SocketAddress, SocketSpec};
use migration::{CredentialOptions, Endpoint, ObjectOptions};
use proptest::prelude::*;
use runstate::{PanicAction, RebootAction, ShutdownAction, WatchdogAction};

fn run(line: &str) -> Options {
    let Command::Run(options) = parse(line.split_whitespace()).unwrap() else { panic!("{line}: no machine") };
    *options
}

fn error(line: &str) -> String {
    match parse(line.split_whitespace()) {
        Err(error) => error.to_string(),
        Ok(command) => panic!("{line}: accepted as {command:?}"),
    }
}

fn printed(line: &str) -> String {
    let Command::Print(text) = parse(line.split_whitespace()).unwrap() else { panic!("{line}: no text") };
    text
}

#[test]
fn defaults() {
    let options = run("");
    assert_eq!(options.machine.kind, MachineKind::Virt);
    assert!(options.machine.suspend && options.machine.aclint && options.machine.wakeup_rtc);
    assert_eq!(options.smp, Smp { cpus: 1, maxcpus: 1, sockets: 1, cores: 1, threads: 1 });
    assert_eq!(options.memory, 128 << 20);
    assert_eq!(options.serials, [CharSpec::mon_stdio()]);
    assert_eq!(options.monitors, []);
    assert_eq!(options.actions, runstate::Actions::default());
    assert!(!options.start_stopped && !options.daemonize && !options.test_clock);
}

#[test]
fn one_and_two_dashes() {
    assert_eq!(run("--name guest=a").name.as_deref(), Some("a"));
    assert_eq!(run("-name a").name.as_deref(), Some("a"));
    assert_eq!(error("---name a"), "---name: invalid option");
    assert_eq!(error("-S -foo"), "-foo: invalid option");
    assert_eq!(error("-Sm"), "-Sm: invalid option");
    assert_eq!(error("-initrd"), "-initrd: requires an argument");
    assert_eq!(error("-"), "-: not an option (a disk is given with -drive file=...)");
}

#[test]
fn the_machine_and_its_properties() {
    let machine = run("-M virt,suspend=off,aclint=no,dumpdtb=a,,b.dtb -machine wakeup-rtc=off").machine;
    assert!(!machine.suspend && !machine.aclint && !machine.wakeup_rtc);
    assert_eq!(machine.dumpdtb, Some("a,b.dtb".into()));
    assert_eq!(run("-M none").machine.kind, MachineKind::None);
    assert_eq!(
        error("-M foo"),
        "-M foo: unsupported machine type: \"foo\". Use -machine help to list supported machines"
    );
    assert_eq!(error("-M virt,foo=1"), "-M virt,foo=1: Property 'virt-machine.foo' not found");
    assert!(printed("-M help").contains("virt"));
}

#[test]
fn accelerators_fall_back() {
    assert_eq!(run("-accel tcg,thread=multi").warnings, []);
    let said: Vec<_> = run("-M virt,accel=kvm:tcg").warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["invalid accelerator kvm", "falling back to tcg"]);
    assert_eq!(run("-accel kvm -accel tcg").warnings.len(), 2);
    assert_eq!(error("-accel kvm"), "-accel kvm: invalid accelerator kvm");
    assert_eq!(error("-accel tcg,foo=1"), "-accel tcg,foo=1: Property 'tcg-accel.foo' not found");
}

#[test]
fn processors() {
    assert_eq!(run("-cpu max").cpu, CpuModel::Max);
    assert_eq!(run("-cpu rv64,zba=off,sstc").cpu_properties, [("zba".into(), false), ("sstc".into(), true)]);
    assert_eq!(error("-cpu foo"), "-cpu foo: unable to find CPU model 'foo'");
    assert_eq!(error("-cpu rv64,foo=on"), "-cpu rv64,foo=on: Property 'rv64-riscv-cpu.foo' not found");
    assert_eq!(error("-cpu rv64,c=2"), "-cpu rv64,c=2: Parameter 'c' expects 'on' or 'off'");
    assert!(printed("-cpu help").contains("rv64"));
}

#[test]
fn numbers_of_harts() {
    let smp = |line| {
        let Smp { cpus, maxcpus, sockets, cores, threads } = run(line).smp;
        [cpus, maxcpus, sockets, cores, threads]
    };
    assert_eq!(smp("-smp 4"), [4, 4, 4, 1, 1]);
    assert_eq!(smp("-smp 2,sockets=2,cores=1,threads=1"), [2, 2, 2, 1, 1]);
    assert_eq!(smp("-smp sockets=2,cores=3"), [6, 6, 2, 3, 1]);
    assert_eq!(smp("-smp cpus=4,sockets=2"), [4, 4, 2, 2, 1]);
    assert_eq!(smp("-smp 2,maxcpus=8"), [2, 8, 8, 1, 1]);
    assert_eq!(smp("-smp 64")[0], MAX_CPUS);
    assert_eq!(
        error("-smp 5000"),
        "-smp 5000: Invalid SMP CPUs 5000. The max CPUs supported by machine 'virt' is 64"
    );
    assert!(error("-smp 0").ends_with("CPU topology parameters must be greater than zero"));
    assert!(error("-smp 2,sockets=3").contains("must match maxcpus: sockets (3) * cores (0)"));
    assert!(error("-smp 3,maxcpus=2").contains("maxcpus (2) < smp_cpus (3)"));
    assert_eq!(error("-smp foo"), "-smp foo: Parameter 'cpus' expects a number");
    let huge = "-smp sockets=18446744073709551615,cores=18446744073709551615";
    assert!(error(huge).contains("Invalid SMP CPUs"));
}

#[test]
fn memory_sizes() {
    for (text, size) in [("512", 512 << 20), ("1G", 1 << 30), ("size=131072k", 128 << 20), ("1b", 4096)] {
        assert_eq!(run(&format!("-m {text}")).memory, size, "{text}");
    }
    assert!(error("-m foo").starts_with("-m foo: Parameter 'size' expects a size"));
    assert_eq!(error("-m 0"), "-m 0: a memory size of 0 bytes is not possible");
    assert!(error("-m 18446744073709551615b").contains("not possible"));
}

#[test]
fn a_memory_backend_gives_the_size() {
    let object = "-object memory-backend-ram,id=ram,size=1G";
    assert_eq!(run(&format!("-M virt,memory-backend=ram {object}")).memory, 1 << 30);
    assert_eq!(error("-M virt,memory-backend=ram"), "Memory backend 'ram' not found");
    assert!(error(&format!("-M virt,memory-backend=ram -m 1M {object}")).contains("must match"));
}

#[test]
fn boot_files_go_with_a_kernel() {
    let boot = run("-kernel k -initrd i -append a -dtb d -bios fw").boot;
    assert_eq!(boot.bios, Bios::File("fw".into()));
    assert_eq!(
        (boot.kernel, boot.initrd, boot.append, boot.dtb),
        (Some("k".into()), Some("i".into()), Some("a".into()), Some("d".into()))
    );
    assert_eq!(error("-append x"), "-append only allowed with -kernel option");
    assert_eq!(error("-initrd x"), "-initrd only allowed with -kernel option");
    assert_eq!(run("-bios none").boot.bios, Bios::None);
}

#[test]
fn wake_policy() {
    use runstate::{WakePolicy, WakeSwitch};
    assert_eq!(run("-S").wake_policy, WakePolicy::ALL);
    let policy = run("-x-wake rtc1=off,serial0=off -x-wake rtc1=on,power-button=off").wake_policy;
    let off: Vec<_> = WakeSwitch::ALL.into_iter().filter(|switch| !policy.is_on(*switch)).collect();
    assert_eq!(off, [WakeSwitch::Serial0, WakeSwitch::PowerButton]);
    assert_eq!(error("-x-wake rtc=off"), "-x-wake rtc=off: Invalid parameter 'rtc'");
    assert_eq!(error("-x-wake rtc0=maybe"), "-x-wake rtc0=maybe: Parameter 'rtc0' expects 'on' or 'off'");
}

#[test]
fn actions() {
    let actions = run("-no-reboot -no-shutdown -action panic=exit-failure,watchdog=pause").actions;
    assert_eq!(actions.reboot, RebootAction::Shutdown);
    assert_eq!(actions.shutdown, ShutdownAction::Pause);
    assert_eq!(actions.panic, PanicAction::ExitFailure);
    assert_eq!(actions.watchdog, WatchdogAction::Pause);
    assert_eq!(run("-watchdog-action inject-nmi").actions.watchdog, WatchdogAction::InjectNmi);
    assert_eq!(
        error("-action reboot=foo"),
        "-action reboot=foo: Parameter 'reboot' does not accept value 'foo'"
    );
    assert_eq!(error("-action foo=1"), "-action foo=1: Invalid parameter 'foo'");
    let watchdog = error("-watchdog-action foo");
    assert_eq!(watchdog, "-watchdog-action foo: Parameter 'watchdog' does not accept value 'foo'");
}

#[test]
fn clocks() {
    let options = run("-rtc base=2006-06-17T16:01:21,clock=vm,driftfix=slew -icount shift=3,sleep=on");
    assert_eq!(options.rtc.base, "2006-06-17T16:01:21".parse().unwrap());
    assert_eq!(options.rtc.clock, clock::RtcClock::Vm);
    assert_eq!(options.icount.unwrap().bits(), 3);
    assert_eq!(options.warnings, [Warning::Driftfix, Warning::CountedInput]);
    assert!(error("-rtc base=foo").contains("'foo'"));
    assert_eq!(error("-rtc foo=1"), "-rtc foo=1: Invalid parameter 'foo'");
    assert_eq!(error("-icount shift=foo"), "-icount shift=foo: icount: Invalid shift value");
    assert!(error("-icount 99").contains("out of range"));
    assert_eq!(error("-icount 1 -smp 2"), "-icount is supported with one CPU only, and -smp asks for 2");
    assert!(run("-x-test-clock -S").test_clock);
    let off = run("-x-test-clock off -S");
    assert!(!off.test_clock && off.start_stopped);
    assert_eq!(run("-x-hart-nice 10").hart_nice, Some(10));
    assert_eq!(error("-x-hart-nice 20"), "-x-hart-nice 20: a nice value is a number from 0 to 19");
}

#[test]
fn uuids() {
    let uuid = run("-uuid 11111111-2222-3333-4444-5555aBcDeF00").uuid.unwrap();
    assert_eq!(uuid[..5], [0x11, 0x11, 0x11, 0x11, 0x22]);
    assert_eq!(uuid[10..], [0x55, 0x55, 0xab, 0xcd, 0xef, 0]);
    for bad in ["foo", "11111111-2222-3333-4444-55555555555", "1111111--2222-3333-4444-555555555555"] {
        assert!(error(&format!("-uuid {bad}")).ends_with("failed to parse UUID string: wrong format"));
    }
}

#[test]
fn consoles_that_nobody_asked_for() {
    assert_eq!(run("-nographic").serials, [CharSpec::mon_stdio()]);
    assert_eq!(run("-nodefaults").serials, []);
    assert_eq!(run("-monitor unix:/m").serials, [CharSpec::plain(CharKind::Stdio { signal: true })]);
    assert_eq!(run("-qmp unix:/q").serials, [CharSpec::mon_stdio()]);
    assert_eq!(run("-qmp stdio").serials, [CharSpec::plain(CharKind::Null)]);
    assert_eq!(run("-serial none -monitor none").serials, []);
    assert_eq!(run("-daemonize").serials, []);
    assert_eq!(error("-daemonize -nographic"), "-nographic cannot be used with -daemonize");
    assert_eq!(error("-daemonize -serial stdio"), "cannot use stdio with -daemonize");
    assert_eq!(error("-serial stdio -monitor stdio"), "cannot use stdio by multiple character devices");
    assert_eq!(
        error("-serial null -serial null"),
        "the machine has one serial line, and -serial was given 2 times"
    );
}

#[test]
fn monitors() {
    let options = run("-serial none -qmp unix:a,server=on,wait=off -qmp-pretty stdio -monitor tcp::1");
    let kinds: Vec<_> = options.monitors.iter().map(|monitor| monitor.kind).collect();
    let control = |pretty| MonitorKind::Control { pretty };
    assert_eq!(kinds, [control(false), control(true), MonitorKind::Readline]);
    let address = SocketAddress::Unix("a".into());
    let expected = SocketSpec { address, server: true, wait: false, reconnect: None };
    assert_eq!(options.monitors[0].on, CharSpec::plain(CharKind::Socket(expected)));
    assert_eq!(error("-mon chardev=x"), "chardev \"x\" not found");
    let pretty = "-mon chardev=c,pretty=on: 'pretty' is not compatible with HMP monitors";
    assert_eq!(error("-chardev null,id=c -mon chardev=c,pretty=on"), pretty);
    assert_eq!(error("-mon mode=control"), "-mon mode=control: Parameter 'chardev' is missing");
    assert!(error("-chardev null,id=a -chardev null,id=a").ends_with("Duplicate ID 'a' for chardev"));
    let twice = "-serial chardev:c -mon chardev=c -chardev";
    assert!(error(&format!("{twice} stdio,id=c")).starts_with("chardev \"c\" is already in use"));
    assert_eq!(run(&format!("{twice} stdio,id=c,mux=on")).monitors.len(), 1);
}

#[test]
fn monitors_for_some_commands_and_some_users() {
    let chardev = "-chardev socket,id=c,path=q,server=on,wait=off -mon chardev=c,mode=control";
    let options = run(&format!("{chardev},x-allow=query-*:stop,x-peer-uid=1000"));
    let monitor = &options.monitors[0];
    let allow = monitor.allow.as_ref().unwrap();
    assert!(allow.allows("query-status") && allow.allows("stop") && !allow.allows("cont"));
    assert_eq!(monitor.peer_uid, Some(1000));
    assert!(
        error(&format!("{chardev},x-allow=stop:"))
            .ends_with("x-allow: '' is not the name of a command, or the beginning of one followed by '*'")
    );
    assert!(error(&format!("{chardev},x-peer-uid=4294967296")).ends_with("expects the number of a user"));
    let tcp = "-chardev socket,id=c,port=0,server=on,wait=off -mon chardev=c,x-peer-uid=0";
    assert_eq!(error(tcp), "-mon chardev=c: x-peer-uid needs a unix socket");
    let many = "-qmp unix:a,server=on ".repeat(64);
    assert_eq!(error(many.trim()), "there cannot be more than 63 monitors, and 64 were given");
}

#[test]
fn devices_and_objects() {
    let line =
        r#"-device {"driver":"virtio-rng-device","rng":"r","id":"rng0"} -object rng-random,id=r,filename=/f"#;
    let rng = |id: Option<&str>, slot, source| VirtioOption {
        id: id.map(str::to_owned),
        slot,
        kind: VirtioKind::Rng(source),
    };
    assert_eq!(run(line).virtio, [rng(Some("rng0"), 0, RngSource::File("/f".into()))]);
    let two = "-device virtio-rng-device -device virtio-rng-device,bus=virtio-mmio-bus.0,id=first";
    let builtin = RngSource::Builtin;
    assert_eq!(run(two).virtio, [rng(None, 1, builtin.clone()), rng(Some("first"), 0, builtin)]);
    let many = "-device virtio-rng-device ".repeat(9);
    assert_eq!(error(many.trim()), "No 'virtio-bus' bus found for device 'virtio-rng-device'");
    assert!(
        error("-device virtio-rng-device,bus=virtio-mmio-bus.8")
            .ends_with("Bus 'virtio-mmio-bus.8' not found")
    );
    let twice = "-device virtio-rng-device,id=a -device virtio-rng-device,id=a";
    assert!(error(twice).ends_with("Duplicate ID 'a' for device"));
    assert_eq!(error("-device foo"), "-device foo: 'foo' is not a valid device model name");
    assert!(error("-device virtio-net-device,netdev=n").ends_with("is not supported by this program yet"));
    assert!(error("-device virtio-rng-device,rng=x").ends_with("object 'x' not found"));
    assert!(error("-object foo,id=a").ends_with("Parameter 'qom-type' does not accept value 'foo'"));
    assert!(error("-object {\"qom-type\":").contains("JSON parse error"));
    let creds = r#"-object {"qom-type":"tls-creds-x509","id":"t","dir":"/d","endpoint":"server","verify-peer":false}"#;
    let options = |verify_peer, endpoint| {
        let dir = "/d".into();
        ObjectOptions::Credentials(CredentialOptions { dir, endpoint, verify_peer, sanity_check: true })
    };
    let made = |line: &str| run(line).objects;
    assert_eq!(made(creds), [("t".to_owned(), options(false, Endpoint::Server))]);
    let client = options(true, Endpoint::Client);
    assert_eq!(made("-object tls-creds-x509,id=t,dir=/d"), [("t".to_owned(), client)]);
    let who = ("w".to_owned(), ObjectOptions::Identity("O=a,CN=b".to_owned()));
    assert_eq!(made("-object authz-simple,id=w,identity=O=a,,CN=b"), [who]);
    assert_eq!(made("-object rng-builtin,id=r"), [("r".to_owned(), ObjectOptions::Fixed("rng-builtin"))]);
    for (line, expected) in [
        ("-object tls-creds-x509,dir=/d", "Parameter 'id' is missing"),
        ("-object tls-creds-x509,id=t,dir=/d,endpoint=x", "Parameter 'endpoint' does not accept value 'x'"),
        ("-object tls-creds-x509,id=t,verify-peer=maybe", "Parameter 'verify-peer' expects 'on' or 'off'"),
        ("-object tls-creds-x509,id=t,foo=on", "Invalid parameter 'foo'"),
        ("-object authz-simple,id=w", "Parameter 'identity' is missing"),
        ("-object rng-builtin,id=t -object tls-creds-x509,id=t", "Duplicate ID 't' for object"),
    ] {
        assert!(error(line).ends_with(expected), "{line}: {}", error(line));
    }
    assert!(error("-object {\"qom-type\":[]}").contains("JSON object with plain members expected"));
}

#[test]
fn ports_of_consoles() {
    const SERIAL: &str = "-device virtio-serial-device,id=s";
    let ports = |line: &str| {
        let options = run(&format!("{SERIAL} {line}"));
        match &options.virtio[0].kind {
            VirtioKind::Serial { max_ports, ports } => (*max_ports, ports.clone()),
            other => panic!("{other:?}"),
        }
    };
    let agent = "-chardev socket,id=c,fd=3,server=on,wait=off \
        -device virtserialport,bus=s.0,nr=1,chardev=c,id=channel0,name=org.qemu.guest_agent.0";
    let expected = PortOption {
        id: Some("channel0".into()),
        nr: 1,
        name: Some("org.qemu.guest_agent.0".into()),
        console: false,
        chardev: Some("c".into()),
    };
    assert_eq!(ports(agent), (31, vec![expected]));
    let numbers = |line: &str| ports(line).1.iter().map(|port| port.nr).collect::<Vec<_>>();
    assert_eq!(
        numbers("-device virtserialport -device virtconsole -device virtserialport,nr=4 -device virtconsole"),
        [1, 0, 4, 2]
    );
    for (line, complaint) in [
        (
            "-device virtserialport,nr=0",
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility.",
        ),
        (
            "-device virtserialport,nr=31",
            "virtio-serial-bus: Out-of-range port id specified, max. allowed: 30",
        ),
        (
            "-device virtserialport,nr=2 -device virtconsole,nr=2",
            "virtio-serial-bus: A port already exists at id 2",
        ),
        ("-device virtserialport,bus=t.0", "Bus 't.0' not found"),
        ("-device virtserialport,chardev=c", "Property 'virtserialport.chardev' can't find value 'c'"),
        (
            "-chardev null,id=c -device virtserialport,chardev=c -device virtconsole,chardev=c",
            "Property 'virtconsole.chardev' can't take value 'c', it's in use",
        ),
    ] {
        assert_eq!(error(&format!("{SERIAL} {line}")), complaint);
    }
    assert_eq!(
        error("-device virtserialport"),
        "No 'virtio-serial-bus' bus found for device 'virtserialport'"
    );
    assert!(
        error("-device virtio-serial-device,max_ports=0")
            .ends_with("has 1 to 31 ports, and max_ports asks for 0")
    );
    let full = "-device virtio-serial-device,max_ports=2 -device virtserialport -device virtserialport";
    assert_eq!(error(full), "virtio-serial-bus: Maximum port limit for this device reached (2)");
    assert!(error(&format!("{SERIAL} -device virtconsole,id=s")).ends_with("Duplicate ID 's' for device"));
}

#[test]
fn snapshots_have_a_directory_and_one_may_be_started_from() {
    let options = run("-x-snapshots dir -loadvm before -loadvm now");
    let load = |name: &str, fork| Some(Load { name: name.to_owned(), fork });
    assert_eq!((options.snapshots, options.load), (Some("dir".into()), load("now", false)));
    assert_eq!((run("").snapshots, run("").load), (None, None));
    assert_eq!(run("-x-snapshot-fork before").load, load("before", true));
    assert!(error("-loadvm a -x-snapshot-fork a").ends_with("both name a snapshot to start from"));
}

#[test]
fn a_generation_id_is_given_or_drawn() {
    let device = |id: Option<&str>, guid| Some(VmgenidOption { id: id.map(str::to_owned), guid });
    for drawn in ["-device vmgenid", "-device vmgenid,guid=auto"] {
        assert_eq!(run(drawn).vmgenid, device(None, None));
    }
    let given =
        r#"-device {"driver":"vmgenid","guid":"01020304-0506-0708-090a-0b0c0d0e0f10","id":"vmgenid0"}"#;
    assert_eq!(run(given).vmgenid, device(Some("vmgenid0"), Some(std::array::from_fn(|at| at as u8 + 1))));
    assert_eq!(run("").vmgenid, None);
    assert!(error("-device vmgenid,guid=7").ends_with("Property 'vmgenid.guid' doesn't take value '7'"));
    assert!(error("-device vmgenid,bus=b").ends_with("Property 'vmgenid.bus' not found"));
    assert!(error("-device vmgenid -device vmgenid").ends_with("at most one vmgenid device is permitted"));
    assert!(
        error("-device vmgenid,id=a -device virtio-rng-device,id=a").ends_with("Duplicate ID 'a' for device")
    );
}

#[test]
fn what_comes_later_says_so() {
    for line in ["-hda a", "-netdev user,id=n"] {
        assert_eq!(error(line), format!("{line}: not supported by this program yet"));
    }
    assert_eq!(error("-display gtk"), "-display gtk: 'gtk' is not supported by this program yet");
}

#[test]
fn gdb_has_a_place() {
    let tcp = |port| {
        let address = SocketAddress::Tcp { host: String::new(), port };
        CharSpec::plain(CharKind::Socket(SocketSpec { address, server: true, wait: false, reconnect: None }))
    };
    assert_eq!(run("").gdb, None);
    assert_eq!(run("-s").gdb, Some(tcp(1234)));
    assert_eq!(run("-gdb tcp::1,server=on,wait=on").gdb, Some(tcp(1)), "a port never waits");
    assert_eq!(run("-s -gdb none").gdb, None, "the last one counts");
    let unix = run("-gdb unix:/tmp/g,server=on,wait=off").gdb.unwrap();
    assert!(matches!(unix.kind, CharKind::Socket(SocketSpec { server: true, wait: false, .. })));
    assert_eq!(error("-gdb chardev:no"), "chardev \"no\" not found");
    assert_eq!(error("-gdb tcp:1234x"), "-gdb tcp:1234x: '1234x' is not an address of the form HOST:PORT");
    assert_eq!(error("-gdb stdio -serial stdio"), "cannot use stdio by multiple character devices");
}

#[test]
fn a_migration_is_waited_for_or_taken_in() {
    assert_eq!((run("").incoming, run("-incoming defer").incoming), (None, Some(Incoming::Defer)));
    let Some(Incoming::From(place, address)) = run("-incoming tcp:0:4444").incoming else {
        panic!("nowhere")
    };
    assert_eq!((place.parse().ok(), place.as_str()), (Some(address), "tcp:0:4444"));
    assert_eq!(error("-incoming foo:bar"), "-incoming foo:bar: unknown migration protocol: foo:bar");
}

#[test]
fn version_and_help() {
    let version = printed("-version");
    assert!(version.starts_with("QEMU emulator version 10.0.2 (dormouse "), "{version}");
    assert_eq!(version.lines().count(), 1);
    for line in ["-h", "-help", "--help", "-S -help -foo"] {
        let text = printed(line);
        for option in table::OPTIONS {
            let listed = |line: &str| line.split([' ', ',']).next() == Some(&format!("-{}", option.name));
            assert!(text.lines().any(listed), "{} is not in the help", option.name);
        }
    }
}

#[test]
fn no_name_is_defined_twice() {
    let mut names: Vec<_> = table::OPTIONS
        .iter()
        .flat_map(|option| option.aliases.iter().copied().chain([option.name]))
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn counted_time_warns_of_what_keeps_a_run_from_repeating() {
    let warnings = |line: &str| run(line).warnings;
    assert_eq!(warnings("-icount shift=1"), [Warning::CountedRtc, Warning::CountedInput]);
    assert_eq!(warnings("-icount shift=1 -serial null -rtc base=2026-01-01"), [Warning::CountedRtc]);
    assert_eq!(warnings("-icount shift=1 -serial file:/tmp/o -rtc base=2026-01-01,clock=vm"), []);
    assert_eq!(warnings("-serial stdio"), []);
}

/// The command lines of libvirt, as recorded: one option a line, its value behind the first space.
mod libvirt {
    use super::*;

    const PROBE: &str = "-S
-no-user-config
-nodefaults
-nographic
-machine none,accel=kvm:tcg
-qmp unix:/var/lib/libvirt/qemu/qmp-CSW9Y3/qmp.monitor,server=on,wait=off
-pidfile /var/lib/libvirt/qemu/qmp-CSW9Y3/qmp.pid
-daemonize";

    const DOMAIN: &str = r#"-name guest=rv,debug-threads=on
-S
-object {"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-1-rv/master-key.aes"}
-machine virt,usb=off,dump-guest-core=off,memory-backend=riscv_virt_board.ram,acpi=off
-accel tcg
-cpu rv64
-m size=131072k
-object {"qom-type":"memory-backend-ram","id":"riscv_virt_board.ram","size":134217728}
-overcommit mem-lock=off
-smp 1,sockets=1,cores=1,threads=1
-uuid 11111111-2222-3333-4444-555555555555
-display none
-no-user-config
-nodefaults
-chardev socket,id=charmonitor,fd=21,server=on,wait=off
-mon chardev=charmonitor,id=monitor,mode=control
-rtc base=utc
-no-shutdown
-boot strict=on
-add-fd set=0,fd=22,opaque=serial0-source
-chardev file,id=charserial0,path=/dev/fdset/0,append=on
-serial chardev:charserial0
-audiodev {"id":"audio1","driver":"none"}
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-msg timestamp=on"#;

    fn arguments(lines: &str) -> Vec<String> {
        lines.lines().flat_map(|line| line.splitn(2, ' ')).map(str::to_owned).collect()
    }

    fn options(lines: &str) -> Options {
        let Command::Run(options) = parse(arguments(lines)).unwrap() else { panic!("no machine") };
        *options
    }

    #[test]
    fn probe() {
        let options = options(PROBE);
        assert_eq!(options.machine.kind, MachineKind::None);
        assert!(options.daemonize && options.start_stopped);
        assert_eq!(options.serials, []);
        assert_eq!(options.monitors.len(), 1);
        assert!(options.pidfile.is_some());
    }

    #[test]
    fn domain() {
        let options = options(DOMAIN);
        assert_eq!(options.name.as_deref(), Some("rv"));
        assert_eq!(options.memory, 128 << 20);
        assert_eq!(options.actions.shutdown, ShutdownAction::Pause);
        assert_eq!(options.serials, [CharSpec::plain(CharKind::Ref("charserial0".into()))]);
        assert_eq!(options.monitors.len(), 1);
        let opaque = Some("serial0-source".to_owned());
        assert_eq!(options.inherited, [InheritedFd { set: 0, fd: 22, opaque }]);
        assert!(options.logging.timestamps);
    }

    #[test]
    fn a_domain_may_wait_for_a_migration() {
        assert_eq!(options(&format!("{DOMAIN}\n-incoming defer")).incoming, Some(Incoming::Defer));
    }

    #[test]
    fn a_domain_with_disk_and_network_names_what_is_missing() {
        for (line, what) in [
            (r#"-blockdev {"driver":"qcow2","file":"f","node-name":"a"}"#, "'qcow2' is not supported"),
            (r#"-netdev {"type":"user","id":"hostnet0"}"#, "not supported"),
            (r#"-device {"driver":"virtio-balloon-device","id":"balloon0"}"#, "'virtio-balloon-device' is"),
        ] {
            let error = parse(arguments(&format!("{DOMAIN}\n{line}"))).unwrap_err().to_string();
            assert!(error.starts_with(line.split(' ').next().unwrap()), "{error}");
            assert!(error.contains(what) && error.ends_with("by this program yet"), "{error}");
        }
        let rng = "-chardev pty,id=p\n-object {\"qom-type\":\"rng-random\",\"id\":\"objrng0\",\"filename\":\"/dev/urandom\"}\n\
                   -device {\"driver\":\"virtio-rng-device\",\"rng\":\"objrng0\",\"id\":\"rng0\"}";
        let [device] = &options(&format!("{DOMAIN}\n{rng}")).virtio[..] else { panic!("one device") };
        assert_eq!(device.kind, VirtioKind::Rng(RngSource::File("/dev/urandom".into())));
    }

    #[test]
    fn a_domain_with_an_agent() {
        let lines = r#"-device {"driver":"virtio-serial-device","id":"virtio-serial0"}
-chardev socket,id=charchannel0,fd=23,server=on,wait=off
-device {"driver":"virtserialport","bus":"virtio-serial0.0","nr":1,"chardev":"charchannel0","id":"channel0","name":"org.qemu.guest_agent.0"}"#;
        let options = options(&format!("{DOMAIN}\n{lines}"));
        let VirtioKind::Serial { ports, .. } = &options.virtio[0].kind else {
            panic!("{:?}", options.virtio)
        };
        assert_eq!((ports[0].nr, ports[0].chardev.as_deref()), (1, Some("charchannel0")));
    }

    #[test]
    fn a_wrapper_that_listens_itself() {
        let options = options("-M virt\n-S\n-display none\n-serial none\n-qmp unix:qmp-shell-wrap-16207");
        let CharKind::Socket(socket) = &options.monitors[0].on.kind else { panic!("{options:?}") };
        assert!(!socket.server);
    }
}

fn word() -> impl Strategy<Value = String> {
    let names: Vec<_> = table::OPTIONS.iter().map(|option| format!("-{}", option.name)).collect();
    prop_oneof![
        3 => proptest::sample::select(names),
        2 => "[a-z]{0,6}(,[a-z]{1,8}=[a-z0-9.]{0,12}){0,4}",
        1 => "[0-9]{1,22}[kMGTPEx]?",
        1 => ".*",
    ]
}

proptest! {
    #[test]
    fn no_command_line_panics_or_gives_a_long_error(words in proptest::collection::vec(word(), 0..8)) {
        if let Err(error) = parse(words.iter().map(|word| word.replace('\n', " "))) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn no_value_of_any_option_panics(value in word()) {
        for option in table::OPTIONS {
            let _ = parse([format!("-{}", option.name), value.clone()]);
        }
    }
}
