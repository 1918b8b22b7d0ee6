"""Plain `rtcwake` of Debian's util-linux on the stock kernel, in all its modes.

Waiting is done by moving the host's clocks. rtcwake sets the alarm one second later than asked, and Linux rounds the length
of a sleep to whole seconds.
"""

import re

from vm import Scenario, UtilLinux

LENGTH = 20


class Rtcwake:
    """The modes; `harts` says on how many harts."""

    harts = 0

    def guest(self, *arguments):
        return UtilLinux(*arguments, harts=self.harts)

    async def start(self, vm, mode, seconds=LENGTH):
        """Starts rtcwake and does not wait for it."""
        vm.console.type(f"rtcwake -m {mode} -s {seconds}; echo ended-$?.\n")

    async def test_mem(self):
        async with self.guest() as vm:
            await vm.up()
            for _ in range(2):
                before = await vm.clocks()
                await self.start(vm, "mem")
                await vm.event("SUSPEND")
                rtc0 = await vm.wake_source("rtc0")
                self.assertEqual(rtc0["armed-by"], "interrupt-controller")
                self.assertLessEqual(rtc0["left-ns"], (LENGTH + 1) * 10**9)
                await vm.advance(LENGTH - 2)
                self.assertEqual((vm.events(), await vm.status()), ([], "suspended"))
                await vm.advance(3)
                await vm.event("WAKEUP")
                await vm.console.expect(r"ended-0\.")
                self.assertEqual(await vm.last_wake(), "rtc0")
                after = await vm.clocks()
                for clock in ("boot", "rtc"):
                    self.assertAlmostEqual(after[clock] - before[clock], LENGTH + 1, delta=4, msg=clock)
                self.assertAlmostEqual(after["real"], after["rtc"], delta=2)
            self.assertIn("rtc0: not armed; 2 delivered\r\n", await vm.hmp("info wakeup"))

    async def test_freeze(self):
        async with self.guest() as vm:
            await vm.up()
            await self.start(vm, "freeze")
            await vm.console.expect("wakeup from .freeze.")
            await self.idle(vm)
            self.assertEqual(await vm.status(), "running")
            await vm.advance(LENGTH + 1)
            await vm.console.expect(r"ended-0\.")
            self.assertEqual(vm.events(), [], "that kind of sleep is the guest's own affair")

    async def idle(self, vm):
        """Waits until the guest has nothing to do: its harts retire no instruction any more."""
        await vm.console.expect("PM: suspend entry")
        while await vm.busy() > 0.05:
            pass

    async def test_no_show_and_disable(self):
        async with self.guest() as vm:
            await vm.up()
            shell = vm.console.shell
            self.assertIn("alarm: off", await shell("rtcwake -m show"))
            await shell(f"rtcwake -m no -s {LENGTH}")
            self.assertIn("alarm: on", await shell("rtcwake -m show"))
            self.assertIsNotNone((await vm.wake_source("rtc0")).get("alarm-ns"))
            await shell("rtcwake -m disable")
            self.assertIn("alarm: off", await shell("rtcwake -m show"))
            self.assertIsNone((await vm.wake_source("rtc0")).get("alarm-ns"))
            await shell(f"rtcwake -m no -s {LENGTH}")
            await vm.advance(LENGTH + 1)
            self.assertIn("alarm: off", await shell("rtcwake -m show"), "it has fired, and nobody sleeps")
            self.assertEqual(vm.events(), [])

    async def test_on(self):
        async with self.guest() as vm:
            await vm.up()
            await self.start(vm, "on")
            await vm.console.expect("wakeup using")
            while (await vm.wake_source("rtc0")).get("alarm-ns") is None:
                pass
            await vm.advance(LENGTH + 1)
            await vm.console.expect(r"ended-0\.")
            self.assertEqual(vm.events(), [])

    async def test_wakeup_before_the_alarm(self):
        async with self.guest() as vm:
            await vm.up()
            await self.start(vm, "mem", 1000)
            await vm.event("SUSPEND")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.console.expect(r"ended-0\.")
            self.assertEqual(await vm.last_wake(), "management")
            self.assertIn("alarm: off", await vm.console.shell("rtcwake -m show"))

    async def test_a_forbidden_alarm_does_not_wake(self):
        async with self.guest("-x-wake", "rtc0=off") as vm:
            await vm.up()
            await self.start(vm, "mem")
            await vm.event("SUSPEND")
            await vm.advance(LENGTH + 1)
            self.assertEqual((vm.events(), await vm.status()), ([], "suspended"))
            self.assertRegex(await vm.hmp("info wakeup"), "rtc0: .*, forbidden, due; 1 forbidden")
            await vm.qmp("x-set-wake-policy", rtc0=True)
            self.assertEqual(vm.events(), ["WAKEUP"], "allowed, it is due already")
            await vm.console.expect(r"ended-0\.")


class OneHart(Rtcwake, Scenario):
    harts = 1


class TwoHarts(Rtcwake, Scenario):
    harts = 2


class GoldfishAlone(Scenario):
    """Without the RTC that can wake: rtcwake refuses, and the two steps that work all the same."""

    async def refuse(self, vm):
        await vm.up()
        refused = await vm.console.shell(f"! rtcwake -m mem -s {LENGTH} 2>&1")
        self.assertIn("not enabled for wakeup events", refused)
        self.assertEqual(vm.events(), [])

    async def test_alarm_then_sleep(self):
        for clock in ("host", "vm"):
            with self.subTest(clock=clock):
                async with UtilLinux("-machine", "wakeup-rtc=off", "-rtc", f"clock={clock}") as vm:
                    await self.refuse(vm)
                    await vm.console.shell(f"rtcwake -m no -s {LENGTH}")
                    await vm.fall_asleep()
                    self.assertEqual((await vm.wake_source("rtc0"))["armed-by"], "device")
                    await vm.advance(LENGTH - 2)
                    self.assertEqual(await vm.status(), "suspended")
                    await vm.advance(3)
                    await vm.event("WAKEUP")
                    await vm.awake()
                    self.assertEqual(await vm.last_wake(), "rtc0")


class WithoutSuspend(Scenario):
    """`-machine suspend=off` takes suspend away, and says so."""

    async def test_linux_finds_no_deep_sleep(self):
        async with UtilLinux("-machine", "suspend=off") as vm:
            await vm.up()
            self.assertFalse((await vm.qmp("query-current-machine"))["wakeup-suspend-support"])
            await vm.refused("system_wakeup", "wake-up from suspend is not supported by this guest")
            self.assertEqual((await vm.qmp("x-query-wakes"))["sources"], [])
            self.assertIn("the machine cannot suspend", await vm.hmp("info wakeup"))
            modes = await vm.console.shell("cat /sys/power/mem_sleep /sys/power/state")
            self.assertIn("[s2idle]", modes)
            self.assertNotIn("deep", modes)
            self.assertNotIn("SBI SUSP", await vm.console.shell("dmesg | grep -i 'SUSP extension' || true"))
            refused = await vm.console.shell("! echo deep > /sys/power/mem_sleep")
            self.assertIn("Invalid argument", refused)
            self.assertEqual(vm.events(), [])

    async def test_with_suspend_linux_finds_it(self):
        async with UtilLinux() as vm:
            await vm.up()
            self.assertIn("[deep]", await vm.console.shell("cat /sys/power/mem_sleep"))
            self.assertTrue(re.search("SBI SUSP extension detected", await vm.console.shell("dmesg")))
