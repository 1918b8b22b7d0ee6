"""Every state by a real cause: what the guest, its watchdog and the host's side of it do, and what is done about it.

The tables are those of QEMU (spec/run-state.md 3.7), each row by a real guest.
"""

import re
import unittest

from vm import NEEDS_RESET, NOT_ASLEEP, Debian, Embedded

RUNNING, PANICKED, OFF, BITTEN = "running", "guest-panicked", "shutdown", "watchdog"

# -action panic=, shutdown=; the action that GUEST_PANICKED tells; the events behind it; the state, or the exit status.
PANIC = [
    ("shutdown", "poweroff", "poweroff", ["SHUTDOWN"], 0),
    ("exit-failure", "poweroff", "poweroff", ["SHUTDOWN"], 1),
    ("shutdown", "pause", "pause", ["STOP"], PANICKED),
    ("exit-failure", "pause", "poweroff", ["SHUTDOWN", "STOP"], OFF),
    ("pause", "poweroff", "pause", ["STOP"], PANICKED),
    ("pause", "pause", "pause", ["STOP"], PANICKED),
    ("none", "poweroff", "run", [], RUNNING),
    ("none", "pause", "run", [], RUNNING),
]

# -action watchdog=; the events behind WATCHDOG; the state, or the exit status.
WATCHDOG = [
    ("reset", ["RESET"], RUNNING),
    ("shutdown", ["POWERDOWN"], RUNNING),
    ("poweroff", ["SHUTDOWN"], 0),
    ("pause", ["STOP"], BITTEN),
    ("debug", [], RUNNING),
    ("none", [], RUNNING),
    ("inject-nmi", [], RUNNING),
]


class Causes(unittest.IsolatedAsyncioTestCase):
    async def ends(self, vm, events, end):
        """The rest of the events, then the exit status or the state."""
        for name in events:
            data = await vm.event(name)
            if name == "SHUTDOWN":
                self.assertTrue(data["guest"])
        if isinstance(end, int):
            self.assertEqual(await vm.exit_status(), end)
            return
        self.assertEqual(await vm.status(), end)
        self.assertEqual(vm.events(), [])


class Panic(Causes):
    async def outcome(self, words, rows):
        for panic, shutdown, told, events, end in rows:
            with self.subTest(panic=panic, shutdown=shutdown, by=words):
                async with Embedded("-action", f"panic={panic},shutdown={shutdown}") as vm:
                    await vm.up()
                    vm.console.type(words)
                    self.assertEqual(await vm.event("GUEST_PANICKED"), {"action": told})
                    await self.ends(vm, events, end)
                    if end == PANICKED:
                        await vm.qmp("cont")
                        self.assertEqual(vm.events(), ["RESUME"])
                        await vm.alive()
                    if end == OFF:
                        await vm.refused("cont", NEEDS_RESET)
                    if end == RUNNING:
                        await vm.alive()

    async def test_system_failure_has_the_outcome_of_the_action(self):
        await self.outcome("panic\n", PANIC)

    async def test_the_panic_device_has_the_outcome_of_the_action(self):
        await self.outcome("event 1\n", PANIC)

    async def test_a_crash_kernel_changes_nothing(self):
        async with Embedded("-action", "panic=pause") as vm:
            await vm.up()
            vm.console.type("event 2\n")
            self.assertEqual(await vm.event("GUEST_CRASHLOADED"), {"action": "run"})
            self.assertEqual(await vm.status(), RUNNING)
            await vm.alive()

    async def test_a_shutdown_by_the_panic_device_is_an_ordinary_one(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("event 4\n")
            await vm.event("GUEST_PVSHUTDOWN")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_the_actions_may_be_changed_while_it_runs(self):
        async with Embedded("-action", "panic=none") as vm:
            await vm.up()
            await vm.qmp("set-action")
            await vm.qmp("set-action", panic="pause")
            vm.console.type("event 1\n")
            self.assertEqual(await vm.event("GUEST_PANICKED"), {"action": "pause"})
            await vm.event("STOP")
            await vm.qmp("system_reset")
            self.assertEqual((vm.events(), await vm.status()), (["RESET"], "prelaunch"))


class Watchdog(Causes):
    async def test_it_has_the_outcome_of_the_action(self):
        for action, events, end in WATCHDOG:
            with self.subTest(action=action):
                async with Embedded("-action", f"watchdog={action}") as vm:
                    await vm.up()
                    vm.console.type("watchdog 10\n")
                    await vm.console.expect("armed")
                    await vm.advance(9)
                    self.assertEqual(vm.events(), [])
                    await vm.advance(2)
                    self.assertEqual(await vm.event("WATCHDOG"), {"action": action})
                    await self.ends(vm, events, end)
                    if end == BITTEN:
                        await vm.qmp("cont")
                        self.assertEqual(vm.events(), ["RESUME"])
                    if not isinstance(end, int):
                        await vm.up()
                        await vm.alive()

    async def test_its_action_may_be_changed_while_it_runs(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.qmp("watchdog-set-action", action="pause")
            self.assertEqual(await vm.hmp("watchdog_action none"), "")
            await vm.qmp("watchdog-set-action", action="pause")
            vm.console.type("watchdog 1\n")
            await vm.console.expect("armed")
            await vm.advance(2)
            self.assertEqual(await vm.event("WATCHDOG"), {"action": "pause"})
            await vm.event("STOP")
            self.assertEqual(await vm.status(), BITTEN)

    async def test_it_stands_while_the_guest_sleeps_or_is_held(self):
        async with Embedded("-action", "watchdog=pause") as vm:
            await vm.up()
            vm.console.type("watchdog 10\n")
            await vm.console.expect("armed")
            await vm.up()
            await vm.qmp("stop")
            await vm.advance(100)
            await vm.qmp("cont")
            self.assertEqual(vm.events(), ["STOP", "RESUME"])
            await vm.fall_asleep()
            await vm.advance(100)
            await vm.qmp("system_wakeup")
            self.assertEqual(vm.events(), ["WAKEUP"])
            await vm.awake()
            await vm.advance(9)
            self.assertEqual(vm.events(), [])
            await vm.advance(2)
            await vm.event("WATCHDOG")
            await vm.event("STOP")

    async def test_debians_stock_driver_arms_it(self):
        async with Debian("-action", "watchdog=pause") as vm:
            await vm.up()
            await vm.console.shell("load sunxi_wdt")
            await vm.console.shell("[ -c /dev/watchdog ]")
            # Fed every second of guest time, and left alone when its feeder is killed without the magic character.
            await vm.console.shell("watchdog -T 16 -t 1 /dev/watchdog")
            await vm.console.shell("kill -9 $(pidof watchdog)")
            await vm.advance(17)
            self.assertEqual(await vm.event("WATCHDOG"), {"action": "pause"})
            await vm.event("STOP")
            self.assertEqual(await vm.status(), BITTEN)


class Fault(Causes):
    async def test_a_hart_whose_thread_fails_breaks_the_machine_until_it_is_reset(self):
        async with Embedded(harts=2) as vm:
            await vm.up()
            await vm.qmp("x-test-hart-panic", cpu_index=0)
            await vm.event("STOP")
            self.assertEqual(await vm.status(), "internal-error")
            await vm.refused("cont", NEEDS_RESET)
            await vm.qmp("stop")
            await vm.qmp("system_reset")
            self.assertEqual((vm.events(), await vm.status()), (["RESET"], "prelaunch"))
            await vm.qmp("cont")
            await vm.up()
            await vm.alive()

    async def test_memory_that_the_host_loses_breaks_the_machine_until_it_is_reset(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("fill 4\n")
            await vm.console.expect("filled 1024 pages")
            [stack] = re.findall(r"x2/sp +([0-9a-f]+)", await vm.hmp("info registers"))
            # A page of data, which the guest comes to when it is told to; the page of its stack, which it needs at once.
            for page, touch in ((0x81005000, "check\n"), (int(stack, 16) & ~0xFFF, "clocks\n")):
                await vm.qmp("x-test-host-memory-error", address=page)
                vm.console.type(touch)
                await vm.event("STOP")
                self.assertEqual(await vm.status(), "internal-error")
                [hold] = (await vm.qmp("x-query-lifecycle"))["holds"]
                self.assertEqual(hold["owner"], "fault")
                self.assertIn(f"the host has lost the page at guest address {page:#x}", hold["cause"]["by"])
                await vm.refused("cont", NEEDS_RESET)
                await vm.qmp("system_reset")
                self.assertEqual((vm.events(), await vm.status()), (["RESET"], "prelaunch"))
                await vm.qmp("cont")
                await vm.event("RESUME")
                await vm.up()
                await vm.alive()


class Incoming(Causes):
    async def test_a_machine_that_waits_for_a_guest_starts_nothing(self):
        for words in ([], ["-S"]):
            async with Embedded("-incoming", "defer", *words) as vm:
                self.assertEqual(await vm.status(), "inmigrate")
                for command in ("stop", "cont", "stop", "cont"):
                    await vm.qmp(command)
                    self.assertEqual((vm.events(), await vm.status()), ([], "inmigrate"))
                await vm.qmp("system_reset")
                self.assertEqual((vm.events(), await vm.status()), (["RESET"], "inmigrate"))
                await vm.refused("system_wakeup", NOT_ASLEEP)
                await vm.refused(
                    "dump-guest-memory",
                    "Dump not allowed during incoming migration.",
                    paging=False,
                    protocol="file:/no/such/core",
                )
                self.assertEqual(vm.console.text, "")
                await vm.qmp("quit")
                self.assertEqual(vm.events(), ["SHUTDOWN"])
                self.assertEqual(await vm.exit_status(), 0)


class Ends(Causes):
    async def test_the_finisher_ends_with_the_guests_status(self):
        for status in (0, 7, 255):
            with self.subTest(status=status):
                async with Embedded() as vm:
                    await vm.up()
                    vm.console.type(f"fail {status}\n")
                    self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-panic"})
                    self.assertEqual(await vm.exit_status(), status)

    async def test_a_failure_sticks_to_a_later_quit(self):
        async with Embedded("-no-shutdown") as vm:
            await vm.up()
            vm.console.type("fail 7\n")
            await vm.event("SHUTDOWN")
            await vm.event("STOP")
            await vm.qmp("quit")
            self.assertEqual(await vm.exit_status(), 7)

    async def test_no_reboot_ends_at_a_managers_reset_too(self):
        async with Embedded("-action", "reboot=shutdown") as vm:
            await vm.up()
            await vm.qmp("system_reset")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": False, "reason": "host-qmp-system-reset"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_nmis_are_refused(self):
        async with Embedded("-S") as vm:
            await vm.refused("inject-nmi", "machine does not provide NMIs")


class Faults(Causes):
    """What QEMU was seen to get wrong (docs/qemu-faults.md), as far as no other test does it."""

    async def test_b12_an_alarm_on_guest_time_wakes(self):
        async with Embedded("-rtc", "clock=vm") as vm:
            await vm.up()
            await vm.fall_asleep(10)
            await vm.advance(9)
            self.assertEqual(vm.events(), [])
            await vm.advance(2)
            await vm.event("WAKEUP")
            await vm.awake()

    async def test_b15_a_reset_that_means_shutdown_can_be_had_back(self):
        async with Embedded("-action", "reboot=shutdown,shutdown=pause") as vm:
            await vm.up()
            for events in (["SHUTDOWN", "STOP"], ["SHUTDOWN"]):
                await vm.qmp("system_reset")
                self.assertEqual((vm.events(), await vm.status()), (events, OFF))
            await vm.qmp("set-action", reboot="reset")
            await vm.qmp("system_reset")
            self.assertEqual((vm.events(), await vm.status()), (["RESET"], "prelaunch"))
            await vm.qmp("cont")
            await vm.up()

    async def test_b16_sleep_and_reasons_of_a_stopped_guest_are_shown(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.fall_asleep()
            await vm.qmp("stop")
            shown = await vm.qmp("x-query-lifecycle")
            self.assertEqual((await vm.status(), shown["power"]), ("paused", "asleep"))
            self.assertEqual([hold["owner"] for hold in shown["holds"]], ["manager"])

    async def test_b23_suspend_that_is_off_is_not_there(self):
        async with Embedded("-machine", "virt,suspend=off") as vm:
            await vm.up()
            self.assertEqual(await vm.qmp("query-current-machine"), {"wakeup-suspend-support": False})
            vm.console.type("sleep 1\n")
            await vm.console.expect("no suspend to RAM")
            await vm.refused("system_wakeup", "wake-up from suspend is not supported by this guest")
            self.assertEqual((vm.events(), await vm.status()), ([], RUNNING))
