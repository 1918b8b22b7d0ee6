"""M-mode firmware in place of the built-in SBI: OpenSBI starts Debian, and there is no suspend to RAM."""

import pathlib
import unittest

from vm import BOOT_PATIENCE, Debian, Scenario

OPENSBI = pathlib.Path("/usr/lib/riscv64-linux-gnu/opensbi/generic")
NO_SUSPEND = "wake-up from suspend is not supported by this guest"


@unittest.skipUnless((OPENSBI / "fw_dynamic.bin").exists(), "opensbi is not installed")
class OpenSbi(Scenario):
    async def boots_without_suspend(self, image):
        async with Debian("-bios", str(OPENSBI / image), words="quiet shell") as vm:
            await vm.console.expect("OpenSBI v", BOOT_PATIENCE)
            self.assertFalse((await vm.qmp("query-current-machine"))["wakeup-suspend-support"])
            await vm.refused("system_wakeup", NO_SUSPEND)
            await vm.up()
            self.assertIn("[s2idle]", await vm.console.shell("cat /sys/power/mem_sleep"))
            await self.says(vm, "stop", ["STOP"], "paused")
            await vm.refused("system_wakeup", NO_SUSPEND)
            await self.says(vm, "cont", ["RESUME"], "running")
            vm.console.type("poweroff -f\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_fw_dynamic(self):
        await self.boots_without_suspend("fw_dynamic.bin")

    async def test_fw_jump(self):
        await self.boots_without_suspend("fw_jump.bin")
