"""Counted time (`-icount`): a run repeats exactly, and sleeping costs no host time."""

import pathlib
import re
import subprocess
import time
import unittest

from vm import DEBIAN, PROGRAM

COUNTED = ["-icount", "shift=1", "-rtc", "clock=vm,base=2026-01-01"]
PATIENCE = 240  # seconds for a boot, counted, on a busy machine


def run(*arguments, typed=b""):
    """Runs a counted machine to its end; gives what it wrote on its serial line."""
    done = subprocess.run(
        [PROGRAM, "-machine", "virt", "-nodefaults", "-display", "none", "-serial", "stdio", *COUNTED, *arguments],
        input=typed, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise AssertionError((done.returncode, done.stderr, done.stdout[-1500:]))
    return done.stdout.decode("utf-8", "replace")


class Counted(unittest.TestCase):
    def test_an_hour_of_sleep_takes_no_host_time(self):
        start = time.monotonic()
        text = run(typed=b"sleep 3600\nclocks\npoweroff\n")
        self.assertLess(time.monotonic() - start, 60)
        slept, moved = re.search(r"awake after ([0-9.]+) s by the RTC, monotonic moved ([0-9.]+) s", text).groups()
        self.assertEqual((slept, moved), ("3600.000000", "3600.000000"))
        self.assertIn("2026-01-01 01:00:00 UTC", text)

    def test_embedded_guest_repeats(self):
        # Nothing is typed ahead of the power-off, so nothing but the guest itself says when a character is printed.
        self.assertEqual(run(typed=b"poweroff\n"), run(typed=b"poweroff\n"))

    @unittest.skipUnless(DEBIAN, "no Debian guest")
    def test_debian_boots_sleeps_and_wakes_the_same_twice(self):
        guest = pathlib.Path(DEBIAN)
        script = ["clk", "alm 30", "echo mem >/sys/power/state", "clk"]
        words = " ".join("cmd=" + command.replace(" ", "+") for command in script)
        arguments = [
            "-m", "256M", "-kernel", str(guest / "Image"), "-initrd", str(guest / "initrd.cpio.gz"),
            "-append", f"console=ttyS0 {words}",
        ]  # fmt: skip
        first = run(*arguments)
        if "clk: not found" in first:
            self.skipTest("the Debian guest was made without clk")
        boottime = [float(seconds) for seconds in re.findall(r"CLK - mono=[0-9.]+ boot=([0-9.]+)", first)]
        self.assertEqual(len(boottime), 2, first[-1500:])
        self.assertAlmostEqual(boottime[1] - boottime[0], 30, delta=3)
        self.assertEqual(first, run(*arguments))
