"""The embedded guest as a user meets it: no kernel given, input from a pipe or a terminal."""

import re
import subprocess
import unittest

from vm import PROGRAM, Embedded, Scenario


def piped(text, *arguments):
    """Runs the program with this input to its end."""
    return subprocess.run(
        [PROGRAM, *arguments], input=text.encode(), capture_output=True, timeout=120, check=False
    )


class Pipe(unittest.TestCase):
    def test_clocks_sleep_clocks_poweroff(self):
        done = piped("clocks\nsleep 2\nclocks\npoweroff\n")
        text = done.stdout.decode()
        self.assertEqual(done.returncode, 0, (text, done.stderr))
        epochs = [float(epoch) for epoch in re.findall(r"epoch ([0-9.]+) s", text)]
        self.assertEqual(len(epochs), 2, text)
        self.assertGreaterEqual(epochs[1] - epochs[0], 2, "the RTC counts the sleep")
        slept = float(re.search(r"awake after ([0-9.]+) s", text)[1])
        self.assertGreaterEqual(slept, 2)
        self.assertLess(slept, 30)

    def test_no_character_is_lost(self):
        names = [f"word{number}" for number in range(300)]
        done = piped("\n".join(names) + "\npoweroff\n")
        found = re.findall(r"(word\d+): unknown command", done.stdout.decode())
        self.assertEqual(found, names)
        self.assertEqual(done.returncode, 0)

    def test_what_was_typed_ahead_outlives_a_reset(self):
        done = piped("clocks\nreset\nclocks\npoweroff\n")
        text = done.stdout.decode()
        self.assertEqual(done.returncode, 0, text)
        self.assertEqual(len(re.findall(r"epoch ", text)), 2, text)

    def test_end_of_input_is_no_end_of_the_machine(self):
        # The input ends before the guest has slept; the machine lives on until the guest powers off.
        done = piped("sleep 1\npoweroff\n")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"awake after", done.stdout)


class Prompt(Scenario):
    async def test_help_names_every_command(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("help\n")
            await vm.up()
            for name in ("clocks", "sleep", "spin", "fill", "check", "churn", "harts", "panic", "reset", "poweroff", "help"):
                self.assertRegex(vm.console.text, rf"\n{name} ")

    async def test_memory_is_filled_churned_and_checked(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("fill 4\nchurn 2 1\n")
            await vm.console.expect("filled 1024 pages")
            await vm.console.expect("churning")
            vm.console.type("\ncheck\nfill 4000\n")
            await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
            await vm.console.expect("checked 1024 pages, 0 wrong")
            await vm.console.expect("fill: expected a number of MiB that fits into RAM")

    async def test_harts_wait_in_firmware(self):
        async with Embedded(harts=4) as vm:
            await vm.up()
            vm.console.type("harts\n")
            await vm.console.expect("hart 0 started, this one")
            await vm.console.expect("hart 3 stopped")
            await vm.console.expect("4 harts")

    async def test_busy_harts_stop_and_go_on(self):
        async with Embedded(harts=4) as vm:
            await vm.up()
            vm.console.type("spin 4\n")
            await vm.console.expect("spinning on 4 harts")
            for _ in range(50):
                await self.says(vm, "stop", ["STOP"], "paused")
                await self.says(vm, "cont", ["RESUME"], "running")
            vm.console.type("\n")
            await vm.console.expect(r"spun \d+ rounds")
            await vm.up()
            # The others see a moment later that it is over.
            states = ["started"]
            while "started" in states:
                vm.console.type("harts\n")
                listing = await vm.console.expect(r"hart 1 (\w+)\s+hart 2 (\w+)\s+hart 3 (\w+)")
                states = listing.groups()
            self.assertEqual(states, ("stopped",) * 3)

    async def test_thirty_two_harts(self):
        async with Embedded(harts=32) as vm:
            await vm.up()
            vm.console.type("harts\n")
            await vm.console.expect("32 harts")
            self.assertEqual(len(await vm.qmp("query-cpus-fast")), 32)
