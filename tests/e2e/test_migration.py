"""Machines on the move between two processes: every state by every way, and whoever fails on the way.

The guest checks its own memory and clocks on arrival (`churn`, `check`).
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import unittest

from qemu.qmp import EventListener

from vm import NEEDS_RESET, NOT_ASLEEP, PATIENCE, PROGRAM, Embedded, Scenario

MIGRATED = "Can't migrate the vm that was paused due to previous migration"


class Moving:
    """What a machine has besides, whose migrations are told by events."""

    def __init__(self, *arguments, **options):
        super().__init__("-no-shutdown", *arguments, **options)
        self._moves = None

    async def __aenter__(self):
        await super().__aenter__()
        self._moves = EventListener(names={"MIGRATION"})
        self.client.register_listener(self._moves)
        await self.capability("events")
        return self

    async def capability(self, name, state=True):
        await self.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])

    async def told(self, *ends):
        """Waits until a migration is told to be at one of `ends`; gives all that was told up to it."""
        seen = []
        while not seen or seen[-1] not in ends:
            try:
                event = await asyncio.wait_for(self._moves.get(), PATIENCE)
            except asyncio.TimeoutError:
                raise AssertionError(f"none of {ends} after {seen}: {await self.qmp('query-migrate')}") from None
            seen.append(event["data"]["status"])
        return seen


class Mover(Moving, Embedded):
    """The embedded guest, on the move."""


class Moves(Scenario):
    @contextlib.asynccontextmanager
    async def pair(self, source=(), target=(), **options):
        """A machine at its prompt, one that waits for it, and the address that they meet at."""
        with tempfile.TemporaryDirectory(prefix="dormouse-move-") as folder:
            async with Mover(*source, **options) as here, Mover("-incoming", "defer", *target, **options) as there:
                if "-S" not in source:
                    await here.up()
                yield here, there, f"unix:{folder}/m"

    async def move(self, here, there, place):
        await there.qmp("migrate-incoming", uri=place)
        await here.qmp("migrate", uri=place)
        await self.arrived(here, there)

    async def arrived(self, here, there):
        """Sees that both sides are content."""
        self.assertEqual(await here.told("completed", "failed"), ["setup", "active", "device", "completed"])
        self.assertEqual(await there.told("completed", "failed"), ["setup", "active", "completed"])
        self.assertEqual(await here.status(), "postmigrate")


class Ways(Moves):
    async def churned(self, here, there, move):
        """Moves a guest that works on its memory and its clocks."""
        here.console.type("fill 16\nchurn 8 1\n")
        await here.console.expect("churning")
        await move()
        self.assertEqual(here.events(), ["STOP"])
        self.assertEqual((there.events(), await there.status()), (["RESUME"], "running"))
        there.console.type("\ncheck\n")
        await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
        await there.console.expect("checked 4096 pages, 0 wrong")

    async def test_unix_with_every_figure(self):
        async with self.pair() as (here, there, place):
            await self.churned(here, there, lambda: self.move(here, there, place))
            info = await here.qmp("query-migrate")
            self.assertEqual(info["status"], "completed")
            self.assertEqual((info["ram"]["total"], info["ram"]["remaining"]), (256 << 20, 0))
            self.assertGreaterEqual(info["ram"]["dirty-sync-count"], 2)
            self.assertGreaterEqual(info["ram"]["normal-bytes"], 16 << 20)
            self.assertGreater(info["ram"]["transferred"], info["ram"]["downtime-bytes"])
            self.assertLessEqual(info["downtime"], info["total-time"])
            self.assertIn("Migration status: completed\r\n", await here.hmp("info migrate"))
            self.assertEqual((await there.qmp("query-migrate"))["status"], "completed")
            self.assertNotIn("arrival", await here.qmp("x-query-lifecycle"))
            arrival = (await there.qmp("x-query-lifecycle"))["arrival"]
            self.assertEqual(arrival["applied-ns"], 0)
            self.assertEqual(arrival["downtime-ns"], arrival["resumed"]["wall-ns"] - arrival["left-wall-ns"])
            self.assertGreater(arrival["downtime-ns"], 0)
            self.assertIn("arrived: with guest time", await there.hmp("info lifecycle"))

    async def test_tcp_with_a_port_that_the_system_chose(self):
        async with self.pair() as (here, there, _):
            await there.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
            address = (await there.qmp("query-migrate"))["socket-address"][0]
            parts = {"transport": "socket", "type": "inet", "host": address["host"], "port": address["port"]}

            async def move():
                await here.qmp("migrate", channels=[{"channel-type": "main", "addr": parts}])
                await self.arrived(here, there)

            await self.churned(here, there, move)

    async def test_descriptors_of_a_socket(self):
        async with self.pair() as (here, there, _):
            ours, theirs = socket.socketpair()
            for vm, end in ((here, ours), (there, theirs)):
                vm.client.send_fd_scm(end.fileno())
                await vm.qmp("getfd", fdname="move")
                end.close()

            async def move():
                await there.qmp("migrate-incoming", uri="fd:move")
                await here.qmp("migrate", uri="fd:move")
                await self.arrived(here, there)

            await self.churned(here, there, move)

    async def test_files_and_programs(self):
        with tempfile.TemporaryDirectory(prefix="dormouse-move-") as folder:
            for out, into in (
                (f"file:{folder}/f,offset=0x1000", f"file:{folder}/f,offset=0x1000"),
                (f"exec:gzip -1 > {folder}/g", f"exec:gzip -dc {folder}/g"),
                (f"exec:cat > {folder}/h", f"file:{folder}/h"),
            ):
                with self.subTest(out=out):
                    async with self.pair() as (here, there, _):

                        async def move():
                            await here.qmp("migrate", uri=out)
                            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                            await there.qmp("migrate-incoming", uri=into)
                            self.assertEqual((await there.told("completed", "failed"))[-1], "completed")

                        await self.churned(here, there, move)

    async def test_a_mapped_file_is_read_as_the_guest_needs_it(self):
        with tempfile.TemporaryDirectory(prefix="dormouse-move-") as folder:
            for place in (f"file:{folder}/f", f"file:{folder}/g,offset=0x1234"):
                with self.subTest(place=place):
                    async with self.pair() as (here, there, _):

                        async def move():
                            await here.capability("mapped-ram")
                            await here.qmp("migrate", uri=place)
                            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                            await there.qmp("migrate-incoming", uri=place)
                            self.assertEqual((await there.told("completed", "failed"))[-1], "completed")

                        await self.churned(here, there, move)

    async def test_descriptors_of_a_pipe_and_of_a_number(self):
        """A pipe goes one way, `fd:NUMBER` is one that was left open for the program."""
        reader, writer = os.pipe()
        with open(reader, "rb"), open(writer, "wb"):
            async with Mover() as here, Mover("-incoming", f"fd:{reader}", inherited=(reader,)) as there:
                await here.up()
                here.client.send_fd_scm(writer)
                await here.qmp("getfd", fdname="pipe")

                async def move():
                    await here.qmp("migrate", uri="fd:pipe")
                    self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                    await there.event("RESUME")

                here.console.type("fill 16\nchurn 8 1\n")
                await here.console.expect("churning")
                await move()
                there.console.type("\ncheck\n")
                await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
                await there.console.expect("checked 4096 pages, 0 wrong")

    async def test_people_begin_it_and_do_other_things_meanwhile(self):
        """HMP: `migrate -d` returns at once, `migrate` when it is over."""
        async with self.pair() as (here, there, place):
            await there.qmp("migrate-incoming", uri=place)
            here.console.type("fill 16\n")
            await here.console.expect("filled 4096 pages")
            await here.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
            self.assertEqual(await here.hmp(f"migrate -d {place}"), "")
            self.assertIn(await here.status(), ("running", "finish-migrate"))
            self.assertIn("Migration status: ", await here.hmp("info migrate"))
            self.assertEqual(await here.hmp("migrate_set_parameter max-bandwidth 0"), "")
            await self.arrived(here, there)
            await here.qmp("cont")
            missing = "Failed to connect to '/nonexistent/m': No such file or directory"
            self.assertEqual(await here.hmp("migrate unix:/nonexistent/m"), f"Error: {missing}\r\n")

    async def test_a_guest_that_writes_too_fast_is_slowed_down_if_that_is_wanted(self):
        async with self.pair() as (here, there, place):
            here.console.type("fill 16\nchurn 8 1000\n")
            await here.console.expect("churning")
            await here.capability("auto-converge")
            # As long as anything at all is left it goes on, and a round takes long enough for the guest to write something.
            await here.qmp("migrate-set-parameters", downtime_limit=0, max_bandwidth=32 << 20)
            await there.qmp("migrate-incoming", uri=place)
            await here.qmp("migrate", uri=place)
            percent = 0
            while percent < 30:
                info = await here.qmp("query-migrate")
                self.assertIn(info["status"], ("setup", "active"))
                percent = info.get("cpu-throttle-percentage", 0)
            self.assertEqual(await here.status(), "running")
            await here.qmp("migrate-set-parameters", downtime_limit=2000)
            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
            there.console.type("\ncheck\n")
            await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")

    async def test_a_place_on_the_command_line(self):
        with tempfile.TemporaryDirectory(prefix="dormouse-move-") as folder:
            place = f"unix:{folder}/m"
            async with Mover() as here, Embedded("-incoming", place) as there:
                await here.up()
                await here.qmp("migrate", uri=place)
                self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                await there.event("RESUME")
                await there.alive()

    async def test_ten_moves_in_a_row(self):
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-move-"))
            here = await stack.enter_async_context(Mover())
            await here.up()
            here.console.type("fill 8\nchurn 4 1\n")
            await here.console.expect("churning")
            for number in range(10):
                there = await stack.enter_async_context(Mover("-incoming", "defer"))
                await self.move(here, there, f"unix:{folder}/{number}")
                await here.qmp("quit")
                here = there
            here.console.type("\ncheck\n")
            await here.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
            await here.console.expect("checked 2048 pages, 0 wrong")

    async def test_a_figure_may_be_changed_while_it_goes(self):
        async with self.pair() as (here, there, place):
            here.console.type("fill 64\n")
            await here.console.expect("filled 16384 pages")
            await here.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
            await there.qmp("migrate-incoming", uri=place)
            await here.qmp("migrate", uri=place)
            await here.told("active")
            while (await here.qmp("query-migrate"))["ram"]["transferred"] < 1 << 18:
                pass
            self.assertEqual((await here.qmp("query-migrate"))["status"], "active", "64 s are not over yet")
            await here.refused(
                "migrate-set-capabilities",
                "There's a migration process in progress",
                capabilities=[{"capability": "events", "state": False}],
            )
            await here.qmp("migrate-set-parameters", max_bandwidth=0)
            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
            there.console.type("check\n")
            await there.console.expect("checked 16384 pages, 0 wrong")


class States(Moves):
    async def sleeps(self, vm):
        await vm.fall_asleep()

    async def stops(self, vm):
        await vm.qmp("stop")

    async def sleeps_and_is_stopped(self, vm):
        await vm.fall_asleep()
        await vm.qmp("stop")

    async def is_reset(self, vm):
        await vm.qmp("stop")
        await vm.qmp("system_reset")

    async def is_off(self, vm):
        vm.console.type("poweroff\n")
        await vm.event("SHUTDOWN")
        await vm.event("STOP")

    async def panics(self, vm):
        await vm.qmp("set-action", panic="pause")
        vm.console.type("panic\n")
        await vm.event("GUEST_PANICKED")
        await vm.event("STOP")

    async def is_bitten(self, vm):
        await vm.qmp("set-action", watchdog="pause")
        vm.console.type("watchdog 10\n")
        await vm.console.expect("armed")
        await vm.advance(11)
        await vm.event("WATCHDOG")
        await vm.event("STOP")

    async def nothing(self, _vm):
        pass

    async def test_each_arrives_under_its_name(self):
        """The table of what a state is at the destination, with and without -S, and what `cont` makes of it there."""
        for make, before, with_start, without, after in (
            (self.nothing, "running", "running", "paused", "running"),
            (self.sleeps, "suspended", "suspended", "paused", "suspended"),
            (self.stops, "paused", "paused", "paused", "running"),
            (self.sleeps_and_is_stopped, "paused", "paused", "paused", "suspended"),
            (self.is_reset, "prelaunch", "prelaunch", "prelaunch", "running"),
            (self.is_off, "shutdown", "shutdown", "shutdown", None),
            (self.panics, "guest-panicked", "guest-panicked", "guest-panicked", "running"),
            (self.is_bitten, "watchdog", "watchdog", "watchdog", "running"),
        ):
            for words, expected in (((), with_start), (("-S",), without)):
                with self.subTest(state=before, by=make.__name__, words=words):
                    async with self.pair(target=words) as (here, there, place):
                        await make(here)
                        self.assertEqual(await here.status(), before)
                        here.events()
                        await self.move(here, there, place)
                        live = before in ("running", "suspended")
                        self.assertEqual(here.events(), ["STOP"] if live else [])
                        self.assertEqual(await there.status(), expected)
                        told = {"running": ["RESUME"], "suspended": ["RESUME", "SUSPEND"]}
                        self.assertEqual(there.events(), told.get(expected, []))
                        await self.goes_on(there, after)
                        await self.left_behind(here, before, after)

    async def goes_on(self, there, after):
        if after is None:
            return await there.refused("cont", NEEDS_RESET)
        await there.qmp("cont")
        self.assertEqual(await there.status(), after)
        if after == "suspended":
            there.events()
            await there.qmp("system_wakeup")
            self.assertEqual(there.events(), ["WAKEUP"])

    async def left_behind(self, here, before, after):
        """B1, B9: the source says postmigrate, may not go once more, and may be taken back by `cont` alone."""
        await here.refused("migrate", MIGRATED, uri="unix:/nonexistent")
        await here.qmp("stop")
        self.assertEqual((here.events(), await here.status()), ([], "postmigrate"))
        await here.refused("system_wakeup", NOT_ASLEEP)
        if after is None:
            return await here.refused("cont", NEEDS_RESET)
        await here.qmp("cont")
        self.assertEqual(await here.status(), after)

    async def test_a_sleeper_arrives_and_its_alarm_wakes_it_there(self):
        async with self.pair() as (here, there, place):
            await here.fall_asleep(30)
            await self.move(here, there, place)
            self.assertEqual((await there.status(), there.events()), ("suspended", ["RESUME", "SUSPEND"]))
            await there.advance(31)
            await there.event("WAKEUP")
            await there.awake()

    async def test_what_is_said_while_it_waits_counts_on_arrival(self):
        async with self.pair() as (here, there, place):
            await there.qmp("stop")
            await there.refused("migrate", "Guest is waiting for an incoming migration", uri=place)
            await self.move(here, there, place)
            self.assertEqual((await there.status(), there.events()), ("paused", []))
            await self.says(there, "cont", ["RESUME"], "running")
            await there.alive()


class Failures(Moves):
    async def test_cancelled_where_it_waits_with_what_was_asked_meanwhile(self):
        """B5: a stop in finish-migrate is there after a cancel; without one the guest goes on."""
        for asked, events, status in ((None, ["RESUME"], "running"), ("stop", [], "paused")):
            with self.subTest(asked=asked):
                async with self.pair() as (here, there, place):
                    await here.capability("pause-before-switchover")
                    await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
                    await here.qmp("migrate", uri=place)
                    await here.told("pre-switchover")
                    self.assertEqual((here.events(), await here.status()), (["STOP"], "finish-migrate"))
                    await here.refused("cont", "Migration is not finalized yet")
                    await here.refused("migrate", "There's a migration process in progress", uri=place)
                    if asked:
                        await here.qmp(asked)
                    await here.qmp("migrate_cancel")
                    self.assertEqual(await here.told("cancelled", "failed"), ["cancelling", "cancelled"])
                    self.assertNotIn("error-desc", await here.qmp("query-migrate"))
                    self.assertEqual((here.events(), await here.status()), (events, status))
                    self.assertEqual((await there.told("failed"))[-1], "failed")
                    # B14: and the next one may come.
                    await here.capability("pause-before-switchover", False)
                    await self.move_again(here, there, place)

    async def test_a_page_that_the_host_has_lost_does_not_go_as_zeros(self):
        async with self.pair() as (here, there, place):
            here.console.type("fill 4\n")
            await here.console.expect("filled 1024 pages")
            await here.qmp("x-test-host-memory-error", address=0x81005000)
            await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
            await here.qmp("migrate", uri=place)
            self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
            info = await here.qmp("query-migrate")
            self.assertEqual(info["error-desc"], "the host has lost a page of guest memory")
            self.assertEqual((await there.told("completed", "failed"))[-1], "failed")

    async def move_again(self, here, there, place):
        await there.qmp("migrate-incoming", uri=place)
        await here.qmp("migrate", uri=place)
        self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
        self.assertEqual((await there.told("completed", "failed"))[-1], "completed")

    async def test_a_destination_that_is_killed_leaves_the_source_as_it_was(self):
        for phase in ("active", "pre-switchover"):
            with self.subTest(phase=phase):
                async with self.pair() as (here, there, place):
                    here.console.type("fill 32\n")
                    await here.console.expect("filled 8192 pages")
                    await here.capability("pause-before-switchover")
                    if phase == "active":
                        await here.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
                    await there.qmp("migrate-incoming", uri=place)
                    await here.qmp("migrate", uri=place)
                    await here.told(phase)
                    there.process.send_signal(signal.SIGKILL)
                    await there.exit_status()
                    if phase == "pre-switchover":
                        await here.qmp("migrate-continue", state="pre-switchover")
                    self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
                    self.assertEqual(await here.status(), "running")
                    self.assertIn("error-desc", await here.qmp("query-migrate"))
                    here.console.type("check\n")
                    await here.console.expect("checked 8192 pages, 0 wrong")

    async def test_a_source_that_is_killed_leaves_a_destination_that_may_be_tried_again(self):
        async with self.pair() as (here, there, place):
            await here.capability("pause-before-switchover")
            await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
            await here.qmp("migrate", uri=place)
            await here.told("pre-switchover")
            here.process.send_signal(signal.SIGKILL)
            self.assertEqual((await there.told("failed"))[-1], "failed")
            self.assertEqual(await there.status(), "inmigrate")
            async with Mover() as other:
                await other.up()
                await self.move_again(other, there, place)
                await there.alive()

    async def test_what_is_no_machine_ends_the_process_unless_it_may_stay(self):
        """B14, B25."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"this is no machine at all" * 10)
            file.flush()
            done = subprocess.run(
                [PROGRAM, "-nodefaults", "-display", "none", "-incoming", f"file:{file.name}"],
                capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(b"load of migration failed: ", done.stderr + done.stdout)
            async with self.pair() as (here, there, place):
                bad = "Failed to bind socket to /nonexistent/m: No such file or directory"
                await there.refused("migrate-incoming", bad, uri="unix:/nonexistent/m", exit_on_error=False)
                await there.qmp("migrate-incoming", uri=f"file:{file.name}", exit_on_error=False)
                self.assertEqual((await there.told("failed"))[-1], "failed")
                self.assertIn("load of migration failed", (await there.qmp("query-migrate"))["error-desc"])
                await self.move_again(here, there, place)
                await there.alive()

    async def test_another_machine_says_what_is_different(self):
        with tempfile.TemporaryDirectory(prefix="dormouse-move-") as folder:
            place = f"unix:{folder}/m"
            async with Mover() as here, Mover("-incoming", "defer", memory="128M") as there:
                await here.up()
                await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
                await here.qmp("migrate", uri=place)
                self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
                text = "the saved machine has 268435456 bytes of RAM, this machine has 134217728"
                self.assertEqual((await here.qmp("query-migrate"))["error-desc"], text)
                self.assertEqual((await here.status(), here.events()), ("running", []))


if __name__ == "__main__":
    unittest.main()
