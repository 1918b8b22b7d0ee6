"""Debian's kernel with Debian's own guest agent: what libvirt asks of a guest is asked of a real one."""

import json
import os
import unittest

from host import BOOT_PATIENCE, DEBIAN, Case, Domain

AGENT = """<controller type='virtio-serial'><address type='virtio-mmio'/></controller>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend><address type='virtio-mmio'/></rng>"""


@unittest.skipUnless(DEBIAN and os.path.exists(f"{DEBIAN}/initrd-agent.cpio.gz"), "no Debian guest with an agent")
class Agent(Case):
    def start(self, domain):
        """Starts the domain; gives its console once the guest is at its prompt and libvirt knows of the agent."""
        domain.virsh("start")
        console = domain.console("# ")
        self.connected(domain)
        return console

    def connected(self, domain, patience=BOOT_PATIENCE):
        domain.event("state: 'connected' reason: 'channel event'", patience)

    def domain(self):
        boot = (
            f"<kernel>{DEBIAN}/Image</kernel><initrd>{DEBIAN}/initrd-agent.cpio.gz</initrd>"
            "<cmdline>console=ttyS0 shell</cmdline>"
        )
        return Domain(self.host, boot=boot, devices=AGENT, name="debian")

    def test_life_with_an_agent(self):
        with self.domain() as domain:
            console = self.start(domain)
            with self.subTest("the agent answers"):
                info = json.loads(domain.virsh("qemu-agent-command", '{"execute": "guest-info"}'))
                self.assertIn("version", info["return"])
            with self.subTest("dompmsuspend and dompmwakeup"):
                for _ in range(2):
                    self.says(domain, "dompmsuspend mem", "pmsuspended (unknown)", "PMSuspended Memory")
                    self.assertIn("domain is pmsuspended", self.host.refused("suspend", domain.name))
                    self.says(domain, "dompmwakeup", "running (event wakeup)", "Started Event wakeup")
                    console.shell("dmesg | grep 'PM: suspend exit'")
                    self.connected(domain)
            with self.subTest("suspend and resume"):
                self.says(domain, "suspend", "paused (user)", "Suspended Paused")
                self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
                console.shell("true")
            with self.subTest("reboot by the agent"):
                domain.virsh("reboot", "--mode", "agent")
                console.expect("GUEST-READY", BOOT_PATIENCE)
                self.connected(domain)
                self.assertEqual(domain.state(), "running (unpaused)")
            with self.subTest("shutdown by the agent"):
                domain.virsh("shutdown", "--mode", "agent")
                domain.event("Stopped Shutdown")
                self.assertEqual(domain.state(), "shut off (shutdown)")

    def test_life_by_the_power_button(self):
        with self.domain() as domain:
            console = self.start(domain)
            with self.subTest("reboot"):
                domain.virsh("reboot", "--mode", "acpi")
                console.expect("GUEST-READY", BOOT_PATIENCE)
                self.connected(domain)
                self.assertEqual(domain.state().split()[0], "running")
            with self.subTest("reset"):
                domain.virsh("reset")
                console.expect("GUEST-READY", BOOT_PATIENCE)
                self.connected(domain)
                self.assertEqual(domain.state().split()[0], "running")
            with self.subTest("shutdown"):
                domain.virsh("shutdown", "--mode", "acpi")
                domain.event("Stopped Shutdown")
                self.assertEqual(domain.state(), "shut off (shutdown)")

    def test_the_agent_is_found_again_by_another_libvirtd(self):
        with self.domain() as domain:
            self.start(domain)
            self.host.restart()
            self.says(domain, "dompmsuspend mem", "pmsuspended (unknown)", "PMSuspended Memory")
            self.says(domain, "dompmwakeup", "running (event wakeup)", "Started Event wakeup")
