"""The serial line of a Linux guest: input that wakes it, and BREAK with its keys (SysRq)."""

from vm import Debian, Scenario


class SerialWake(Scenario):
    """Typing wakes the guest when it asked for that, and otherwise says that it did not."""

    async def test_typing_wakes_when_the_guest_enabled_it(self):
        async with Debian() as vm:
            await vm.up()
            await vm.console.shell("echo enabled > /sys/class/tty/ttyS0/power/wakeup")
            await vm.fall_asleep()
            self.assertEqual((await vm.wake_source("serial0"))["armed-by"], "interrupt-controller")
            vm.console.type("\n")
            await vm.event("WAKEUP")
            self.assertEqual(await vm.last_wake(), "serial0")
            await vm.awake()
            await vm.alive()

    async def test_typing_does_not_wake_when_it_is_forbidden(self):
        async with Debian("-x-wake", "serial0=off") as vm:
            await vm.up()
            await vm.console.shell("echo enabled > /sys/class/tty/ttyS0/power/wakeup")
            await vm.fall_asleep()
            vm.console.type("\n")
            while not (await vm.wake_source("serial0"))["forbidden"]:
                pass
            self.assertEqual((vm.events(), await vm.status()), ([], "suspended"))
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()

    async def test_typing_that_the_guest_masked_is_counted(self):
        async with Debian() as vm:
            await vm.up()
            await vm.fall_asleep()
            # Behind this the machine thread has put the devices to sleep.
            await vm.advance(0)
            vm.console.type("\n")
            while not (await vm.wake_source("serial0"))["masked"]:
                pass
            self.assertEqual((vm.events(), await vm.status()), ([], "suspended"))
            self.assertEqual((await vm.qmp("x-query-wakes"))["last-refused"]["fate"], "masked")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()


class SysRq(Scenario):
    """BREAK, then a key."""

    async def key(self, vm, key):
        await vm.qmp("chardev-send-break", id="serial0")
        vm.console.type(key)

    async def test_help_sync_remount_and_power_off(self):
        async with Debian(words="shell sysrq_always_enabled") as vm:
            await vm.up()
            await vm.console.shell("dmesg -n 8")
            await self.key(vm, "h")
            await vm.console.expect("sysrq: HELP")
            await self.key(vm, "s")
            await vm.console.expect("Emergency Sync complete")
            await self.key(vm, "u")
            await vm.console.expect("Emergency Remount complete")
            await self.key(vm, "o")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_default_settings_let_it_sync_and_power_off(self):
        async with Debian() as vm:
            await vm.up()
            await vm.console.shell("dmesg -n 8")
            await self.key(vm, "s")
            await vm.console.expect("Emergency Sync complete")
            await self.key(vm, "o")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})

    async def test_sent_while_stopped_it_comes_after(self):
        async with Debian() as vm:
            await vm.up()
            await vm.console.shell("dmesg -n 8")
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.key(vm, "s")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.console.expect("Emergency Sync complete")

    async def test_keys_of_the_terminals_multiplexer(self):
        async with Debian(serial="mon:stdio") as vm:
            await vm.up()
            await vm.console.shell("dmesg -n 8")
            vm.console.type("\x01bs")
            await vm.console.expect("Emergency Sync complete")
