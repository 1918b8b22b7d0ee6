"""A Debian guest under load that moves from process to process, awake and asleep, and shall not notice.

DORMOUSE_MOVES says how many times (default: 10).
"""

import contextlib
import os
import re
import tempfile
import time
import unittest

from test_migration import Moving, Moves
from vm import Debian

MOVES = int(os.environ.get("DORMOUSE_MOVES", "10"))

# Each writes to /bad what must not be: memory that changes, processes that fail, time that goes back.
LOAD = (
    "seq 1 100000 > /s; sum=$(md5sum < /s); : > /bad",
    'while :; do cp /s /t; [ "$(md5sum < /t)" = "$sum" ] || echo memory >> /bad; done & true',
    "while :; do [ $(echo $(true | cat; echo fork)) = fork ] || echo fork >> /bad; done & true",
    "last=0; while :; do usleep 3000; now=$(date +%s); [ $now -ge $last ] || echo time >> /bad; last=$now; done & true",
)


class Traveller(Moving, Debian):
    """Debian, on the move, by the host's clocks."""

    def __init__(self, *arguments):
        super().__init__(*arguments, test_clock=False, harts=2)

    async def behind(self):
        """How many seconds the guest's wall clock is behind the host's, or a little less."""
        host = time.time()
        return host - (await self.clocks())["real"]

    async def complaints(self):
        """What the kernel has to say at level warning and above, but for what a busy host makes it say."""
        printed = await self.console.shell("dmesg -r | grep -v 'hrtimer: interrupt took'")
        return set(re.findall(r"^<[0-4]>.*", printed.replace("\r", ""), re.M))


class Travels(Moves):
    async def test_a_guest_under_load_does_not_notice_that_it_moves(self):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-travel-"))
        async with contextlib.AsyncExitStack() as stack:
            here = await stack.enter_async_context(Traveller())
            await here.up()
            await here.program("clk")
            complaints, behind, held = await here.complaints(), await here.behind(), 0.0
            for line in LOAD:
                await here.console.shell(line)
            for number in range(MOVES):
                there = await stack.enter_async_context(Traveller("-incoming", "defer"))
                asleep = number % 2 == 1
                if asleep:
                    await here.fall_asleep()
                await self.move(here, there, f"unix:{folder}/{number}")
                held += (await here.qmp("query-migrate"))["downtime"] / 1000
                await here.qmp("quit")
                await here.exit_status()
                here = there
                self.assertEqual(here.events(), ["RESUME", "SUSPEND"] if asleep else ["RESUME"])
                if asleep:
                    await self.says(here, "system_wakeup", ["WAKEUP"], "running")
                    await here.awake()
                await here.alive()
            lost = await here.behind() - behind
            # The guest's time stands at each switch-over while it is awake, and for no longer.
            self.assertLess(abs(lost), held + 1, f"{lost} s lost in {MOVES} moves, {held} s of them at switch-overs")
            await here.console.shell("kill $(jobs -p); wait; true")
            printed = await here.console.shell("echo bad=$(cat /bad). stalled=$(ps | grep -c ' [D] ').")
            self.assertIn("bad=. stalled=0.", printed)
            self.assertEqual(await here.complaints() - complaints, set())
            if MOVES > 10:
                print(f"{MOVES} moves: {lost:.3f} s lost, {held:.3f} s at switch-overs", flush=True)


if __name__ == "__main__":
    unittest.main()
