//! The stub as it is spoken to, packet by packet, on real harts.

mod support;

use proptest::prelude::*;
use runstate::{ActionChange, ManagementRequest, ShutdownAction, ShutdownCause};
use std::io::Write;
use support::asm::*;
use support::{BASE, Rig, framed};

const DATA: u64 = BASE + 0x4000;

/// Counts in a0 and keeps the count in memory at a2.
fn counting() -> Vec<u32> {
    vec![auipc(12, 4), addi(10, 10, 1), sd(10, 12, 0), jal(0, -8)]
}

/// Starts hart 1, which counts in a0 at `BASE + 0x100`; counts in a1 itself.
fn two() -> Vec<u32> {
    let mut code = vec![0x13; 0x42];
    code[..6].copy_from_slice(&[
        auipc(10, 0),
        addi(10, 10, 0x100),
        addi(17, 0, 2),
        ECALL,
        addi(11, 11, 1),
        jal(0, -4),
    ]);
    code[0x40..0x42].copy_from_slice(&[addi(10, 10, 1), jal(0, -4)]);
    code
}

/// Suspends to RAM at once, and counts in a0 when it is woken.
fn sleeping() -> Vec<u32> {
    let mut code = vec![auipc(10, 0), addi(10, 10, 0x40), addi(17, 0, 0), ECALL, jal(0, 0)];
    code.resize(0x10, 0x13);
    code.extend([addi(10, 10, 1), jal(0, -4)]);
    code
}

/// Powers off at once.
fn ending() -> Vec<u32> {
    vec![addi(17, 0, 1), ECALL, jal(0, 0)]
}

fn stay_when_off(rig: &Rig) {
    let change = ActionChange { shutdown: Some(ShutdownAction::Pause), ..ActionChange::default() };
    rig.ask(ManagementRequest::SetActions(change));
}

#[test]
fn the_first_words_of_gdb_are_answered() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.connect();
    gdb.stream.write_all(b"+").unwrap();
    gdb.send("qSupported:multiprocess+;swbreak+;hwbreak+");
    assert_eq!(gdb.byte(), b'+', "acknowledged");
    assert!(gdb.reply().starts_with("PacketSize=4000;QStartNoAckMode+;"));
    rig.events.wait_for("STOP paused");
    gdb.ok("QStartNoAckMode");
    assert_eq!(gdb.ask("vMustReplyEmpty"), "");
    assert_eq!(gdb.ask("?"), "T05thread:01;");
    assert_eq!(gdb.ask("qAttached"), "1");
    assert_eq!(gdb.ask("qfThreadInfo"), "m01,02");
    assert_eq!(gdb.ask("qsThreadInfo"), "l");
    assert_eq!(gdb.ask("vCont?"), "vCont;c;C;s;S");
    assert_eq!((gdb.ask("T2"), gdb.ask("T3"), gdb.ask("Hg3")), ("OK".into(), "E16".into(), "E16".into()));
}

#[test]
fn the_target_describes_itself_in_parts() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    let mut xml = String::new();
    loop {
        let part = gdb.ask(&format!("qXfer:features:read:target.xml:{:x},800", xml.len()));
        xml.push_str(&part[1..]);
        if part.starts_with('l') {
            break;
        }
    }
    for feature in ["riscv.cpu", "riscv.fpu", "riscv.csr", "riscv.virtual"] {
        assert!(xml.contains(&format!("org.gnu.gdb.{feature}")), "{feature}");
    }
    assert!(xml.ends_with("</target>"));
    assert_eq!(gdb.ask("qXfer:features:read:target.xml:ffffffff,10"), "l");
    let threads = gdb.ask("qXfer:threads:read::0,1000");
    assert!(
        threads.contains("name=\"hart 0\">started<") && threads.contains("name=\"hart 1\">stopped<"),
        "{threads}"
    );
}

#[test]
fn registers_and_memory_are_read_and_written() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    assert_eq!(gdb.pc(), BASE);
    let general = gdb.ask("g");
    assert_eq!(general.len(), 33 * 16);
    let changed = format!("{}4100000000000000{}", &general[..16 * 10], &general[16 * 11..]);
    gdb.ok(&format!("G{changed}"));
    assert_eq!((gdb.register(10), gdb.pc()), (0x41, BASE));
    gdb.ok("Pb=0200000000000000");
    assert_eq!(gdb.register(11), 2);
    // f0, fcsr, satp, priv.
    gdb.ok("P21=000000000000f03f");
    assert_eq!(gdb.register(33), 0x3ff0_0000_0000_0000);
    assert_eq!(gdb.ask("p44").len(), 8, "32 bits");
    assert_eq!((gdb.register(65 + 0x180), gdb.register(65 + 4096)), (0, 1));
    for nothing in ["p1042", "p841", "P44000000=00"] {
        assert_eq!(gdb.ask(nothing), "E16");
    }
    gdb.ok(&format!("M{DATA:x},3:0a0b0c"));
    assert_eq!(gdb.ask(&format!("m{DATA:x},4")), "0a0b0c00");
    assert_eq!(rig.word(DATA), 0x0c_0b0a);
    // gdb escapes what it has to.
    let mut body = format!("X{:x},2:", DATA + 8).into_bytes();
    body.extend(*b"}\x03}\x5d");
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    gdb.stream.write_all(&[b"$", body.as_slice(), format!("#{sum:02x}").as_bytes()].concat()).unwrap();
    assert_eq!(gdb.reply(), "OK");
    assert_eq!(rig.word(DATA + 8), 0x7d23);
    assert_eq!(gdb.ask("m0,4"), "E0e");
    assert_eq!(gdb.ask(&format!("m{:x},8", BASE + (16 << 20) - 4)).len(), 8, "as far as there is memory");
    assert_eq!((gdb.ask("qqemu.PhyMemMode"), gdb.ask("Qqemu.PhyMemMode:1")), ("0".into(), "OK".into()));
    assert_eq!(gdb.ask("qqemu.PhyMemMode"), "1");
    assert_eq!(gdb.ask(&format!("m{DATA:x},2")), "0a0b");
    assert_eq!(gdb.ask("qRcmd,68656c70"), format!("O{}", "796f7520736169642068656c700a"));
    assert_eq!(gdb.reply(), "OK");
}

#[test]
fn a_breakpoint_is_hit_and_a_manager_sees_debug() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    rig.events.take();
    let at = BASE + 8;
    gdb.ok(&format!("Z0,{at:x},4"));
    for _ in 0..3 {
        assert_eq!(gdb.ask("vCont;c"), "T05thread:01;");
        assert_eq!(rig.events.take(), ["RESUME running", "STOP debug"]);
        assert_eq!(gdb.pc(), at);
        assert_eq!(rig.word(DATA) + 1, gdb.register(10), "before the store");
        assert_eq!(gdb.ask("?"), "T05thread:01;");
    }
    gdb.ok(&format!("z0,{at:x},4"));
    gdb.send("c");
    rig.events.wait_for("RESUME running");
    gdb.interrupt();
    assert_eq!(gdb.reply(), "T02thread:01;");
    assert_eq!(rig.events.take(), ["RESUME running", "STOP paused"]);
}

#[test]
fn a_watchpoint_tells_the_address_and_a_step_is_one_instruction() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z2,{DATA:x},8"));
    assert_eq!(gdb.ask("vCont;c"), format!("T05thread:01;watch:{DATA:x};"));
    assert_eq!((gdb.pc(), rig.word(DATA)), (BASE + 12, 1));
    gdb.ok(&format!("z2,{DATA:x},8"));
    for pc in [BASE + 4, BASE + 8, BASE + 12] {
        rig.events.take();
        assert_eq!(gdb.ask("vCont;s:1;c"), "T05thread:01;");
        assert_eq!(gdb.pc(), pc);
        assert_eq!(rig.events.take(), ["RESUME running", "STOP debug"]);
    }
    assert_eq!(gdb.ask(&format!("s{BASE:x}")), "T05thread:01;", "from another address");
    assert_eq!(gdb.pc(), BASE + 4);
}

#[test]
fn harts_are_threads() {
    let rig = Rig::running(&two());
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z1,{:x},4", BASE + 0x100));
    assert_eq!(gdb.ask("c"), "T05thread:02;");
    gdb.ok("Hg2");
    assert_eq!(gdb.pc(), BASE + 0x100);
    let before = gdb.register(10);
    gdb.ok("Hg1");
    let others = gdb.register(11);
    for _ in 0..2 {
        assert_eq!(gdb.ask("vCont;s:2"), "T05thread:02;");
    }
    assert_eq!((gdb.pc(), gdb.register(10)), (BASE + 0x100, before + 1), "the one that stopped is looked at");
    gdb.ok("Hg1");
    assert_eq!(gdb.register(11), others, "the other one is parked while one is stepped");
    gdb.ok(&format!("z1,{:x},4", BASE + 0x100));
    // One alone, until it is interrupted.
    gdb.ok("Hg2");
    let before = gdb.register(10);
    gdb.send("vCont;c:1");
    gdb.interrupt();
    assert!(gdb.reply().starts_with("T02"));
    gdb.ok("Hg2");
    assert_eq!(gdb.register(10), before);
    assert_eq!(gdb.ask("qThreadExtraInfo,2"), hex("hart 1 [started]"));
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_managers_stop_is_told_to_a_gdb_that_waits() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    gdb.send("vCont;c");
    rig.events.wait_for("RESUME running");
    rig.ask(ManagementRequest::Stop);
    assert_eq!(gdb.reply(), "T02thread:01;");
    // gdb lifts it, as in QEMU.
    gdb.send("vCont;c");
    rig.events.wait_for("RESUME running");
    gdb.interrupt();
    assert_eq!(gdb.reply(), "T02thread:01;");
}

#[test]
fn a_managers_cont_passes_the_breakpoint_and_the_next_request_of_gdb_stops_the_machine() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z0,{:x},4", BASE + 8));
    assert_eq!(gdb.ask("c"), "T05thread:01;");
    let count = gdb.register(10);
    rig.events.take();
    rig.ask(ManagementRequest::Cont);
    rig.events.wait_for("STOP debug");
    assert_eq!(rig.events.take(), ["RESUME running", "STOP debug"]);
    assert_eq!(gdb.register(10), count + 1, "one round further, and gdb was told nothing");
    gdb.ok(&format!("z0,{:x},4", BASE + 8));
    rig.ask(ManagementRequest::Cont);
    rig.events.take();
    gdb.pc();
    assert_eq!(rig.events.take(), ["STOP paused"]);
    rig.ask(ManagementRequest::Cont);
    rig.events.take();
    gdb.send("c");
    gdb.interrupt();
    assert_eq!(gdb.reply(), "T02thread:01;");
    assert_eq!(rig.events.take(), ["STOP paused"], "it ran already");
}

#[test]
fn a_refusal_to_go_on_is_a_stop_reply_with_its_reason() {
    let rig = Rig::held(&ending());
    stay_when_off(&rig);
    let mut gdb = rig.attach();
    assert_eq!(gdb.ask("c"), "T03thread:01;", "the guest has powered off");
    assert_eq!(rig.state(), "shutdown");
    for packet in ["c", "s", "vCont;c", "vCont;s:1;c"] {
        assert_eq!(gdb.ask(packet), format!("O{}", hex("Resetting the Virtual Machine is required\n")));
        assert_eq!(gdb.reply(), "T03thread:01;");
    }
    assert_eq!(gdb.pc(), BASE + 4, "it can still be looked at");
    // A reset keeps what gdb has set.
    gdb.ok(&format!("Z0,{:x},4", BASE + 4));
    rig.ask(ManagementRequest::SystemReset);
    assert_eq!(gdb.ask("c"), "T05thread:01;");
    assert_eq!(gdb.pc(), BASE + 4);
}

/// B11: QEMU's gdb continue of a sleeping guest says running, without a wake-up.
#[test]
fn b11_continue_and_step_leave_a_sleeping_guest_asleep() {
    for packet in ["vCont;c", "vCont;s:1;c"] {
        let rig = Rig::running(&sleeping());
        rig.events.wait_for("SUSPEND suspended");
        let mut gdb = rig.attach();
        rig.events.wait_for("STOP paused");
        rig.events.take();
        gdb.send(packet);
        rig.events.wait_for("SUSPEND suspended");
        assert_eq!(rig.events.take(), ["RESUME suspended", "SUSPEND suspended"]);
        assert_eq!(rig.state(), "suspended");
        gdb.interrupt();
        assert_eq!(gdb.reply(), "T02thread:01;");
        assert_eq!(rig.state(), "paused");
        gdb.ok(&format!("Z0,{:x},4", BASE + 0x44));
        gdb.send(packet);
        rig.events.wait_for("SUSPEND suspended");
        rig.ask(ManagementRequest::SystemWakeup);
        assert_eq!(gdb.reply(), "T05thread:01;", "the breakpoint after the wake-up");
        assert_eq!(gdb.pc(), BASE + 0x44);
        rig.events.wait_for("WAKEUP running");
    }
}

/// A hart that has ended its step executes nothing more, however soon its thread looks again.
#[test]
fn five_hundred_steps_are_five_hundred_instructions() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    for step in 0..500 {
        assert_eq!(gdb.ask("vCont;s:1;c"), "T05thread:01;");
        // The loop begins at the second instruction.
        assert_eq!(gdb.pc(), BASE + 4 + 4 * (step % 3), "after {step} steps and one");
    }
}

#[test]
fn a_step_into_sleep_ends_after_the_wake_up() {
    let rig = Rig::held(&sleeping());
    let mut gdb = rig.attach();
    for _ in 0..3 {
        assert_eq!(gdb.ask("vCont;s:1;c"), "T05thread:01;");
    }
    gdb.send("vCont;s:1;c");
    rig.events.wait_for("SUSPEND suspended");
    rig.ask(ManagementRequest::SystemWakeup);
    assert_eq!(gdb.reply(), "T05thread:01;");
    assert_eq!(gdb.pc(), BASE + 0x40, "at the first instruction");
}

#[test]
fn detaching_removes_breakpoints_and_starts_even_what_was_never_started() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z0,{:x},4", BASE + 8));
    gdb.ok("D");
    gdb.gone();
    assert_eq!(rig.events.take(), ["RESUME running"]);
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z2,{DATA:x},8"));
    assert_eq!(gdb.ask("c"), format!("T05thread:01;watch:{DATA:x};"));
}

#[test]
fn a_lost_connection_lifts_the_debuggers_hold_alone() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    gdb.ok(&format!("Z0,{:x},4", BASE + 8));
    assert_eq!(gdb.ask("c"), "T05thread:01;");
    rig.events.take();
    gdb.hang_up();
    assert_eq!(rig.events.take(), ["RESUME running"]);
    assert_eq!(rig.state(), "running");
    let gdb = rig.attach();
    rig.ask(ManagementRequest::Stop);
    gdb.hang_up();
    assert_eq!(rig.state(), "paused");
}

#[test]
fn kill_ends_the_machine_and_the_end_is_told_to_a_gdb_that_waits() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    gdb.ok("vKill;1");
    gdb.gone();
    assert_eq!(rig.engine.wait(), 0);
    assert_eq!(rig.events.take().last().map(String::as_str), Some("SHUTDOWN shutdown"));
}

#[test]
fn a_second_debugger_is_refused_while_the_first_is_there() {
    let rig = Rig::running(&counting());
    let mut first = rig.attach();
    first.pc();
    let mut second = rig.connect();
    second.gone();
    first.pc();
}

#[test]
fn damage_is_answered_by_minus_and_again_by_the_last_packet() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.connect();
    gdb.stream.write_all(b"$qC#00").unwrap();
    assert_eq!(gdb.byte(), b'-');
    assert_eq!(gdb.ask("qC"), "QC01");
    gdb.stream.write_all(b"-").unwrap();
    assert_eq!(gdb.reply(), "QC01");
    // Longer than a packet may be.
    gdb.stream.write_all(&framed(&"q".repeat(0x5000))).unwrap();
    assert_eq!(gdb.byte(), b'-');
    assert_eq!(gdb.ask("qC"), "QC01");
}

#[test]
fn a_packet_while_gdb_waits_is_answered_after_the_stop_that_it_is_owed() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    gdb.send("c");
    gdb.send("qC");
    assert_eq!(gdb.reply(), "T02thread:01;");
    assert_eq!(gdb.reply(), "QC01");
}

#[test]
fn there_is_a_bound_on_points() {
    let rig = Rig::held(&counting());
    let mut gdb = rig.attach();
    for at in 0..1024 {
        gdb.ok(&format!("Z0,{:x},4", DATA + 4 * at));
    }
    assert_eq!(gdb.ask("Z0,0,4"), "E1c");
    gdb.ok(&format!("Z0,{DATA:x},4"));
    gdb.ok(&format!("z0,{DATA:x},4"));
    gdb.ok("Z0,0,4");
}

#[test]
fn an_end_without_a_client_that_waits_says_nothing() {
    let rig = Rig::running(&counting());
    let mut gdb = rig.attach();
    rig.ask(ManagementRequest::Quit { cause: ShutdownCause::HostQmpQuit });
    assert_eq!(gdb.ask("p20"), "E16");
    assert!(gdb.ask("c").starts_with('O'));
}

/// Bodies that look like packets.
fn body() -> impl Strategy<Value = String> {
    let letters = "[?gGpPmMXZzcsCSDTHvqQ]";
    let names = "(vCont;[cs](:-?[0-9a-f]{1,3})?(;[csCS])?|Z[0-5],80000[0-9a-f]{3},[0-8]|z[0-5],80000[0-9a-f]{3},[0-8]|m8000[0-9a-f]{4},[0-9a-f]{1,4}|P[0-9a-f]{1,4}=[0-9a-f]{16})";
    prop_oneof![
        1 => (letters, "[0-9a-f,;:=-]{0,24}").prop_map(|(letter, rest)| letter + &rest),
        2 => names.prop_map(|text| text),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is sent, the stub lives, and the machine is left running when the client goes.
    #[test]
    fn no_packet_ends_the_stub(bodies in proptest::collection::vec(body(), 1..40), noise: Vec<u8>) {
        let rig = Rig::running(&two());
        let mut gdb = rig.attach();
        let mut bytes: Vec<u8> = bodies.iter().filter(|body| !body.starts_with('D')).flat_map(|body| framed(body)).collect();
        bytes.extend(&noise);
        // Whatever the noise has begun is ended, and then something is asked that has one answer.
        bytes.extend(b"#00\x03");
        bytes.extend(framed("qqemu.PhyMemMode"));
        let mut writer = gdb.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        while gdb.reply() != "0" {}
        sender.join().unwrap();
        gdb.hang_up();
        prop_assert_eq!(rig.state(), "running");
    }
}
