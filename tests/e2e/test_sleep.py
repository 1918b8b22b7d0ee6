"""The guest sleeps, and is stopped, continued, reset and woken while it does.

Every scenario runs twice: with the embedded guest, which starts in milliseconds, and with Debian's kernel.
"""

from vm import NOT_ASLEEP, Debian, Embedded, Scenario


class Sleep:
    """The scenarios; `guest` starts the machine."""

    guest = None

    async def test_stop_stop_cont_cont(self):
        async with self.guest() as vm:
            await vm.up()
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "stop", [], "paused")
            await self.says(vm, "cont", ["RESUME"], "running")
            await self.says(vm, "cont", [], "running")
            await vm.alive()

    async def test_sleep_is_seen_and_ended_by_wakeup(self):
        async with self.guest() as vm:
            await vm.up()
            self.assertTrue((await vm.qmp("query-current-machine"))["wakeup-suspend-support"])
            await vm.fall_asleep()
            self.assertEqual(await vm.status(), "suspended")
            self.assertEqual(await vm.hmp("info status"), "VM status: paused (suspended)\r\n")
            await self.says(vm, "cont", [], "suspended")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()
            await vm.refused("system_wakeup", NOT_ASLEEP)
            await vm.alive()
            self.assertEqual(vm.events(), [])

    async def test_stopped_asleep_it_stays_asleep(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep()
            await self.says(vm, "stop", ["STOP"], "paused")
            self.assertEqual(await vm.hmp("info status"), "VM status: paused\r\n")
            await vm.refused("system_wakeup", NOT_ASLEEP)
            self.assertEqual(await vm.status(), "paused")
            await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()
            await vm.alive()
            self.assertEqual(vm.events(), [])

    async def test_reset_while_stopped_asleep_waits_for_cont(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep()
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()
            await vm.alive()
            self.assertEqual(vm.events(), [])

    async def test_reset_of_a_live_sleeper_runs_on(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep()
            await self.says(vm, "system_reset", ["RESET"], "running")
            await vm.up()
            await self.says(vm, "cont", [], "running")
            await vm.alive()

    async def test_sleeps_twice(self):
        async with self.guest() as vm:
            await vm.up()
            for _ in range(2):
                await vm.fall_asleep()
                await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
                await vm.awake()

    async def test_alarm_wakes(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep(alarm=30)
            await vm.advance(31)
            await vm.event("WAKEUP")
            self.assertEqual(await vm.status(), "running")
            await vm.awake()

    async def test_alarm_that_falls_due_while_stopped_wakes_once_after_cont(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep(alarm=30)
            await self.says(vm, "stop", ["STOP"], "paused")
            await vm.advance(60)
            self.assertEqual(await vm.status(), "paused")
            self.assertEqual(vm.events(), [])
            await self.says(vm, "cont", ["RESUME", "WAKEUP"], "running")
            await vm.awake()
            await vm.alive()
            self.assertEqual(vm.events(), [])

    async def test_reset_forgets_a_wake_that_fell_due(self):
        async with self.guest() as vm:
            await vm.up()
            await vm.fall_asleep(alarm=30)
            await self.says(vm, "stop", ["STOP"], "paused")
            await vm.advance(60)
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()
            await vm.alive()
            self.assertEqual(vm.events(), [])


class EmbeddedGuest(Sleep, Scenario):
    guest = Embedded

    async def test_alarm_due_at_once_is_not_lost(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.fall_asleep(alarm=0)
            await vm.event("WAKEUP")
            await vm.awake()

    async def test_typing_does_not_wake(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.fall_asleep()
            vm.console.type("clocks\n")
            self.assertEqual(await vm.status(), "suspended")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()
            await vm.console.expect(r"epoch ([0-9.]+) s")  # what was typed meanwhile is not lost


class DebianGuest(Sleep, Scenario):
    guest = Debian

    async def test_goldfish_alarm_wakes(self):
        async with Debian() as vm:
            await vm.up()
            await vm.program("alm")
            goldfish = await vm.console.shell("grep -l goldfish /sys/class/rtc/rtc*/name")
            device = goldfish.split("/rtc/")[1].split("/")[0]
            await vm.console.shell(f"alm 30 /dev/{device}")
            await vm.fall_asleep()
            await vm.advance(31)
            await vm.event("WAKEUP")
            await vm.awake()

    async def test_rtc0_is_the_clock_that_can_wake(self):
        async with Debian() as vm:
            await vm.up()
            await vm.console.shell("grep sun6i /sys/class/rtc/rtc0/name")
            await vm.console.shell("echo +30 > /sys/class/rtc/rtc0/wakealarm")
            await vm.fall_asleep()
            await vm.advance(31)
            await vm.event("WAKEUP")
            await vm.awake()

    async def test_two_harts_sleep_and_wake(self):
        async with Debian(harts=2) as vm:
            self.assertEqual(await vm.up(), 2)
            for _ in range(2):
                await vm.fall_asleep()
                await self.says(vm, "stop", ["STOP"], "paused")
                await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
                await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
                await vm.awake()
            self.assertIn("online-0-1.", await vm.console.shell("echo online-$(cat /sys/devices/system/cpu/online)."))
            self.assertNotIn("isn't stopped", await vm.console.shell("dmesg"))
