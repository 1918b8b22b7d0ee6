"""Boot, power off, reboot: the guest's own doing as a manager sees it."""

import asyncio
import os
import tempfile

from qemu.qmp import QMPClient
from vm import NEEDS_RESET, PATIENCE, Debian, Embedded, Scenario


class Boot(Scenario):
    async def test_one_hart(self):
        async with Debian() as vm:
            self.assertEqual(await vm.up(), 1)
            self.assertEqual(await vm.status(), "running")
            self.assertEqual(vm.events(), [])

    async def test_two_harts(self):
        async with Debian(harts=2) as vm:
            self.assertEqual(await vm.up(), 2)
            self.assertEqual(len(await vm.qmp("query-cpus-fast")), 2)
            # Linux still has things to do when the shell is there already.
            shares = []
            while not shares or (shares[-1] > 0.1 and len(shares) < 30):
                shares.append(await vm.busy())
            self.assertLess(shares[-1], 0.1, f"a guest that waits at its prompt uses the CPU: {shares}")

    async def test_entropy_device(self):
        async with Debian("-device", "virtio-rng-device") as vm:
            await vm.up()
            await vm.console.shell("load")
            await vm.console.shell("[ $(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c) = 64 ]")

    async def test_ends_by_itself(self):
        async with Debian(words="quiet") as vm:
            await vm.console.expect("GUEST-READY", 180)
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_waits_for_cont_with_S(self):
        async with Embedded("-S") as vm:
            self.assertEqual(await vm.status(), "prelaunch")
            self.assertEqual(vm.console.text, "")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()


class PowerOff(Scenario):
    async def test_debian_power_off(self):
        async with Debian() as vm:
            await vm.up()
            vm.console.type("poweroff -f\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_debian_reboot(self):
        async with Debian() as vm:
            await vm.up()
            vm.console.type("reboot -f\n")
            self.assertEqual(await vm.event("RESET"), {"guest": True, "reason": "guest-reset"})
            self.assertEqual(await vm.up(), 1)
            self.assertEqual(await vm.status(), "running")

    async def test_no_shutdown_keeps_a_machine_that_only_a_reset_revives(self):
        async with Embedded("-no-shutdown") as vm:
            await vm.up()
            vm.console.type("poweroff\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            await vm.event("STOP")
            self.assertEqual(await vm.status(), "shutdown")
            await vm.refused("cont", NEEDS_RESET)
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()
            await vm.alive()

    async def test_no_reboot_ends_at_a_reboot(self):
        async with Embedded("-no-reboot") as vm:
            await vm.up()
            vm.console.type("reset\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-reset"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_guest_reset_runs_on(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("reset\n")
            self.assertEqual(await vm.event("RESET"), {"guest": True, "reason": "guest-reset"})
            await vm.up()
            await vm.alive()

    async def test_system_failure_powers_off(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("panic\n")
            self.assertEqual(await vm.event("GUEST_PANICKED"), {"action": "poweroff"})
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-panic"})
            self.assertEqual(await vm.exit_status(), 0)


class Management(Scenario):
    async def test_reset_of_a_running_guest(self):
        async with Embedded() as vm:
            await vm.up()
            await self.says(vm, "system_reset", ["RESET"], "running")
            await vm.up()
            await vm.alive()

    async def test_powerdown_is_announced(self):
        async with Embedded() as vm:
            await vm.up()
            await self.says(vm, "system_powerdown", ["POWERDOWN"], "running")

    async def test_quit(self):
        for asleep in (False, True):
            with self.subTest(asleep=asleep):
                async with Embedded() as vm:
                    await vm.up()
                    if asleep:
                        await vm.fall_asleep()
                    await vm.qmp("quit")
                    self.assertEqual(vm.events(), ["SHUTDOWN"])
                    self.assertEqual(await vm.exit_status(), 0)

    async def test_signal_ends_in_order(self):
        async with Embedded("-no-shutdown") as vm:
            await vm.up()
            vm.process.terminate()
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": False, "reason": "host-signal"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_two_clients_see_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            address = os.path.join(folder, "second")
            async with Embedded("-qmp", f"unix:{address},server=on,wait=off") as vm:
                await vm.up()
                second = QMPClient("second")
                await second.connect(address)
                with second.listener(names={"STOP", "RESUME"}) as listener:
                    await vm.qmp("stop")
                    # The reply has come on one connection: no older answer may be heard on the other.
                    self.assertEqual((await second.execute("query-status"))["status"], "paused")
                    await vm.qmp("cont")
                    self.assertEqual((await second.execute("query-status"))["status"], "running")
                    seen = [event["event"] for event in listener.clear()]
                await second.disconnect()
                self.assertEqual(seen, ["STOP", "RESUME"])
                self.assertEqual(vm.events(), seen)

    async def test_monitor_that_connects_out(self):
        with tempfile.TemporaryDirectory() as folder:
            address = os.path.join(folder, "out")
            manager = QMPClient("manager")
            await manager.start_server(address)
            async with Embedded("-qmp", f"unix:{address}") as vm:
                await asyncio.wait_for(manager.accept(), PATIENCE)
                await vm.up()
                self.assertEqual((await manager.execute("query-status"))["status"], "running")
                await manager.disconnect()
                await vm.alive()
