"""Every clock of the guest after pauses and sleeps (the host's clocks are moved, so ten seconds need no waiting)."""

import time

from vm import Debian, Embedded, Scenario

# What a few commands on the console may take, in seconds; never counted as an error of a clock.
SLACK = 20
# Linux's own rounding of a sleep: its RTC drivers and its resume path count whole seconds.
ROUNDING = 2


def advance_of(before, after):
    return {name: after[name] - before[name] for name in before}


class Clocks(Scenario):
    async def test_pause_stands_still(self):
        async with Debian(words="quiet shell") as vm:
            await vm.up()
            await vm.program("clk")
            start, before = time.monotonic(), await vm.clocks()
            await vm.qmp("stop")
            await vm.advance(1000)
            await vm.qmp("cont")
            moved = advance_of(before, await vm.clocks())
            host = time.monotonic() - start
            for name in ("mono", "boot", "raw", "real", "csr"):
                self.assertGreaterEqual(moved[name], 0, name)
                self.assertLess(moved[name], host + 0.1, f"{name} ran while the machine was stopped")
            self.assertAlmostEqual(moved["boot"], moved["mono"], delta=0.1)
            self.assertAlmostEqual(moved["real"], moved["mono"], delta=0.1)
            self.assertGreaterEqual(moved["rtc"], 999, "the RTC follows the host's wall clock")
            self.assertLess(moved["rtc"], 1000 + host + 2)

    async def test_sleep_counts_for_boottime_and_wall_only(self):
        async with Debian(words="quiet shell") as vm:
            await vm.up()
            await vm.program("clk")
            for _ in range(2):
                start, before = time.monotonic(), await vm.clocks()
                await vm.fall_asleep()
                await vm.advance(1000)
                await vm.qmp("system_wakeup")
                await vm.awake()
                moved = advance_of(before, await vm.clocks())
                host = time.monotonic() - start
                self.assertLess(host, SLACK)
                self.assertLess(moved["mono"], host + 0.1, "MONOTONIC excludes sleep")
                for name in ("boot", "real", "rtc"):
                    self.assertAlmostEqual(moved[name], 1000 + host, delta=ROUNDING + host, msg=name)
                    self.assertGreaterEqual(moved[name], 1000 - ROUNDING, name)
                self.assertGreaterEqual(moved["csr"], 1000, "guest time goes on while the guest sleeps")
                vm.events()

    async def test_pause_within_sleep_is_slept_through(self):
        async with Debian(words="quiet shell") as vm:
            await vm.up()
            await vm.program("clk")
            start, before = time.monotonic(), await vm.clocks()
            await vm.fall_asleep()
            await vm.advance(100)
            await vm.qmp("stop")
            await vm.advance(500)
            await vm.qmp("cont")
            await vm.advance(100)
            await vm.qmp("system_wakeup")
            await vm.awake()
            moved = advance_of(before, await vm.clocks())
            host = time.monotonic() - start
            self.assertLess(moved["mono"], host + 0.1)
            for name in ("boot", "real", "rtc"):
                self.assertAlmostEqual(moved[name], 700 + host, delta=ROUNDING + host, msg=name)
            self.assertGreaterEqual(moved["csr"], 200)
            self.assertLess(moved["csr"], 200 + host + 0.1, "guest time stands while stopped, asleep or not")

    async def test_rtc_tells_the_hosts_time(self):
        async with Debian(words="quiet shell") as vm:
            await vm.up()
            await vm.program("clk")
            self.assertAlmostEqual((await vm.clocks())["rtc"], time.time(), delta=SLACK)
            # No clock jumps by what the kernel took for a sleep at boot.
            self.assertAlmostEqual((await vm.clocks())["real"], time.time(), delta=SLACK)

    async def test_embedded_guest_tells_how_long_it_slept(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.fall_asleep(alarm=3600)
            await vm.advance(3600)
            await vm.event("WAKEUP")
            match = await vm.console.expect(r"awake after ([0-9.]+) s by the RTC, monotonic moved ([0-9.]+) s")
            for moved in match.groups():
                self.assertGreaterEqual(float(moved), 3600)
                self.assertLess(float(moved), 3600 + SLACK)

    async def test_rtc_on_guest_time_stands_in_a_pause(self):
        async with Embedded("-rtc", "base=2000-01-01T00:00:00,clock=vm") as vm:
            await vm.up()
            await vm.qmp("stop")
            await vm.advance(1000)
            await vm.qmp("cont")
            vm.console.type("clocks\n")
            epoch = float((await vm.console.expect(r"epoch ([0-9.]+) s"))[1])
            self.assertGreaterEqual(epoch, 946684800)
            self.assertLess(epoch, 946684800 + SLACK)


class UnderLoad(Scenario):
    async def test_thousand_stops_lose_no_tick(self):
        async with Debian(words="quiet shell") as vm:
            await vm.up()
            await vm.program("tick")
            vm.events()
            vm.console.type("tick\n")
            await vm.console.expect("TICK start")
            start = time.monotonic()
            for _ in range(1000):
                await vm.qmp("stop")
                await vm.advance(1)
                await vm.qmp("cont")
            self.assertEqual(vm.events(), ["STOP", "RESUME"] * 1000)
            vm.console.type("\n")
            match = await vm.console.expect(
                r"TICK mono=([0-9.]+) expected=(\d+) counted=(\d+) back=(\d+) gap_us=(\d+)"
            )
            host = time.monotonic() - start
            self.assertEqual(match[2], match[3], "ticks expected and counted")
            self.assertEqual(match[4], "0", "the clock went back")
            self.assertLess(float(match[1]), host + 0.1, "guest time ran while stopped")
            self.assertLess(int(match[5]), 900_000, "a stop was seen as a jump of the clock")
            await vm.alive()
