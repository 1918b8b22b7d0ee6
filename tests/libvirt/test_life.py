"""The life of a domain as libvirt sees it, with the embedded guest, which is up in milliseconds."""

import os
import signal

from host import PROGRAM, Case, Domain

PROMPT = "dormouse> "


class Life(Case):
    def test_domcapabilities(self):
        asked = ["--emulatorbin", PROGRAM, "--arch", "riscv64", "--machine", "virt", "--virttype", "qemu"]
        printed = self.host.virsh("domcapabilities", *asked)
        for expected in ("<domain>qemu</domain>", "<machine>virt</machine>", "<vcpu max='64'/>", "<channel supported='yes'>"):
            self.assertIn(expected, printed)

    def test_every_command_that_libvirt_gives_is_there(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            domain.virsh("suspend")
        log = (self.host.folder / "log" / "libvirtd.log").read_text(errors="replace")
        self.assertNotIn("CommandNotFound", log)

    def test_start_suspend_resume_reset_destroy(self):
        with Domain(self.host) as domain:
            self.says(domain, "start", "running (booted)", "Started Booted")
            console = domain.console(PROMPT)
            self.says(domain, "suspend", "paused (user)", "Suspended Paused")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
            domain.virsh("reset")
            self.assertEqual(domain.state(), "running (unpaused)")
            console.expect(PROMPT)
            self.says(domain, "destroy", "shut off (destroyed)", "Stopped Destroyed")

    def test_start_paused_and_reset_while_paused(self):
        with Domain(self.host) as domain:
            domain.virsh("start", "--paused")
            self.assertEqual(domain.state(), "paused (user)")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
            console = domain.console(PROMPT)
            self.says(domain, "suspend", "paused (user)", "Suspended Paused")
            domain.virsh("reset")
            self.assertEqual(domain.state(), "paused (user)")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
            console.expect(PROMPT)

    def test_the_monitor_is_an_inherited_descriptor_and_values_are_json(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            words = domain.argv()
            self.assertRegex(" ".join(words), r"-chardev socket,id=charmonitor,fd=\d+,server=on,wait=off")
            self.assertTrue(any(word.startswith('{"qom-type":"memory-backend-ram"') for word in words), words)

    def test_a_serial_line_to_a_file_in_a_descriptor_set(self):
        log = f"{self.host.folder}/serial.log"
        with Domain(self.host, serial=f"<serial type='file'><source path='{log}'/></serial>") as domain:
            domain.virsh("start")
            self.assertIn("path=/dev/fdset/0,append=on", " ".join(domain.argv()))
            domain.wait_for_text(log, PROMPT)

    def test_console(self):
        with Domain(self.host, serial="<serial type='pty'/>") as domain:
            domain.virsh("start")
            with self.host.terminal("console", domain.name) as terminal:
                terminal.knock(PROMPT)
                terminal.type("clocks\r")
                terminal.screen.expect(r"epoch [0-9.]+ s")
                terminal.type("\x1d")
                terminal.ended()
            self.assertEqual(domain.state(), "running (booted)")

    def test_the_guest_sleeps_and_is_woken(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            console = domain.console(PROMPT)
            console.type("sleep\n")
            domain.event("PMSuspended Memory")
            self.assertEqual(domain.state(), "pmsuspended (unknown)")
            self.assertIn("pmsuspended", self.host.refused("suspend", domain.name) + domain.state())
            self.says(domain, "dompmwakeup", "running (event wakeup)", "Started Event wakeup")
            console.expect("awake after")

    def test_the_guest_resets_and_powers_off(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            console = domain.console(PROMPT)
            console.type("reset\n")
            self.host.events.expect(f"event 'reboot' for domain '{domain.name}'")
            console.expect(PROMPT)
            self.assertEqual(domain.state(), "running (booted)")
            console.type("poweroff\n")
            domain.event("Stopped Shutdown")
            self.assertEqual(domain.state(), "shut off (shutdown)")

    def test_the_guest_crashes(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            domain.console(PROMPT).type("panic\n")
            domain.event("Stopped Crashed")
            self.assertEqual(domain.state(), "shut off (crashed)")

    def test_the_program_is_killed(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            os.kill(domain.pid(), signal.SIGKILL)
            domain.event("Stopped Failed")
            self.assertEqual(domain.state(), "shut off (crashed)")

    def test_the_monitor_is_passed_through(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            self.assertIn('"status":"running"', domain.virsh("qemu-monitor-command", '{"execute":"query-status"}'))
            self.assertEqual(domain.virsh("qemu-monitor-command", "--hmp", "info status"), "VM status: running")

    def test_a_generation_id_is_given(self):
        guid = "00112233-4455-6677-8899-aabbccddeeff"
        domain = Domain(self.host)
        domain.xml = domain.xml.replace("<memory", f"<genid>{guid}</genid>\n  <memory", 1)
        with domain:
            domain.virsh("start")
            asked = domain.virsh("qemu-monitor-command", '{"execute":"query-vm-generation-id"}')
            self.assertIn(f'"guid":"{guid}"', asked)

    def test_what_is_started_for_a_client_goes_with_it(self):
        with Domain(self.host) as domain:
            domain.virsh("start", "--autodestroy")
            domain.event("Stopped Destroyed")
            domain.wait_for("shut off (destroyed)")


class Restart(Case):
    """libvirtd ends and another takes over the machines that run."""

    def test_machines_are_found_again_in_every_state(self):
        with Domain(self.host) as runs, Domain(self.host) as held, Domain(self.host) as sleeps:
            for domain in (runs, held, sleeps):
                domain.virsh("start")
            console = sleeps.console(PROMPT)
            console.type("sleep\n")
            sleeps.event("PMSuspended Memory")
            self.says(held, "suspend", "paused (user)", "Suspended Paused")
            pids = [domain.pid() for domain in (runs, held, sleeps)]
            self.host.restart()
            self.assertEqual([domain.pid() for domain in (runs, held, sleeps)], pids)
            states = [domain.state().split()[0] for domain in (runs, held, sleeps)]
            self.assertEqual(states, ["running", "paused", "pmsuspended"])
            self.says(runs, "suspend", "paused (user)", "Suspended Paused")
            self.says(held, "resume", "running (unpaused)", "Resumed Unpaused")
            self.says(sleeps, "dompmwakeup", "running (event wakeup)", "Started Event wakeup")
            console.expect("awake after")
            self.says(runs, "destroy", "shut off (destroyed)", "Stopped Destroyed")

    def test_an_end_while_nobody_looks_is_seen(self):
        with Domain(self.host) as domain:
            domain.virsh("start")
            console = domain.console(PROMPT)
            self.host.restart(meanwhile=lambda: (console.type("poweroff\n"), domain.wait_for_status("shutdown")))
            domain.wait_for("shut off (shutdown)")
