"""Postcopy with real guests: they run over there while their memory is still here, the connection is cut and taken up
again, and what is asked of them meanwhile is done.

The pace is set so that next to nothing comes unasked: what the guest over there touches it has asked for.
"""

import asyncio
import contextlib
import signal
import tempfile
import unittest

from test_migration import Mover
from test_travels import Traveller
from vm import BOOT_PATIENCE, Scenario

SLOW = 1 << 16  # bytes a second
PAUSED = "the connection was cut by migrate-pause"
NO_RESUME = "Cannot resume if there is no paused migration"
NO_RECOVER = "Migrate recover can only be run when postcopy is paused."


class Postcopy(Scenario):
    @contextlib.asynccontextmanager
    async def pair(self, kind=Mover, source=(), target=(), **options):
        """A machine at its prompt, one that waits for it, both able to do it; and where they meet."""
        with tempfile.TemporaryDirectory(prefix="dormouse-postcopy-") as folder:
            there = kind("-incoming", "defer", *target, **options)
            async with kind(*source, **options) as here, there:
                for vm in (here, there):
                    await vm.capability("postcopy-ram")
                await here.up()
                yield here, there, f"unix:{folder}/m"

    async def pace(self, here, most):
        await here.qmp("migrate-set-parameters", max_bandwidth=most, max_postcopy_bandwidth=most)

    async def leaves(self, here, there, place, to=None):
        """Has the guest run over there with nearly all of its memory here."""
        await self.pace(here, SLOW)
        await there.qmp("migrate-incoming", uri=place)
        await here.qmp("migrate", uri=to or place)
        await here.told("active")
        await here.qmp("migrate-start-postcopy")
        self.assertEqual(await here.told("postcopy-active", "failed"), ["device", "postcopy-active"])
        self.assertEqual(await there.told("postcopy-active", "failed"), ["setup", "active", "postcopy-active"])

    async def follows(self, here, there):
        """Lets the rest of memory follow."""
        await self.pace(here, 0)
        for vm in (here, there):
            self.assertEqual((await vm.told("completed", "failed"))[-1], "completed")
        self.assertEqual(await here.status(), "postmigrate")
        self.assertEqual((await here.qmp("query-migrate"))["ram"]["remaining"], 0)

    async def checks(self, there):
        there.console.type("\ncheck\n")
        await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
        await there.console.expect("checked 4096 pages, 0 wrong")

    async def works(self, here):
        here.console.type("fill 16\nchurn 8 1\n")
        await here.console.expect("churning")

    async def cut(self, here, there, by):
        await by.qmp("migrate-pause")
        for vm in (here, there):
            self.assertEqual((await vm.told("postcopy-paused", "failed"))[-1], "postcopy-paused")

    async def recovers(self, here, there, place):
        await there.qmp("migrate-recover", uri=place)
        await here.qmp("migrate", uri=place, resume=True)
        self.assertEqual(
            await here.told("postcopy-active", "postcopy-paused"),
            ["postcopy-recover-setup", "postcopy-recover", "postcopy-active"],
        )
        self.assertEqual(
            await there.told("postcopy-active", "postcopy-paused"), ["postcopy-recover", "postcopy-active"]
        )


class Moves(Postcopy):
    async def test_a_guest_at_work_has_its_memory_when_it_needs_it(self):
        async with self.pair() as (here, there, place):
            await self.works(here)
            here.events()
            await self.leaves(here, there, place)
            self.assertEqual((here.events(), await here.status()), (["STOP"], "finish-migrate"))
            await there.event("RESUME")
            await self.checks(there)
            info = await here.qmp("query-migrate")
            self.assertEqual(info["status"], "postcopy-active")
            self.assertGreater(info["ram"]["remaining"], 0)
            self.assertGreater(info["ram"]["postcopy-requests"], 100, "16 MiB of the guest's were checked")
            self.assertGreater(info["ram"]["postcopy-bytes"], 16 << 20)
            self.assertIn("downtime", info)
            self.assertNotIn("expected-downtime", info)
            await here.refused("migrate_cancel", "Postcopy migration in progress, cannot cancel.")
            await here.refused("cont", "Migration is not finalized yet")
            await here.refused("migrate", "There's a migration process in progress", uri=place)
            await there.refused("migrate", "There's a migration process in progress", uri=place)
            await self.follows(here, there)
            await there.alive()

    async def test_a_guest_that_writes_faster_than_is_sent_moves_all_the_same(self):
        async with self.pair(harts=2) as (here, there, place):
            here.console.type("fill 16\nchurn 8 1000\n")
            await here.console.expect("churning")
            await here.qmp("migrate-set-parameters", downtime_limit=0, max_bandwidth=16 << 20)
            await there.qmp("migrate-incoming", uri=place)
            await here.qmp("migrate", uri=place)
            while (await here.qmp("query-migrate")).get("ram", {}).get("dirty-sync-count", 0) < 3:
                pass
            await here.qmp("migrate-start-postcopy")
            for vm in (here, there):
                told = await vm.told("completed", "failed")
                self.assertEqual(told[-2:], ["postcopy-active", "completed"])
            await self.checks(there)

    async def test_five_moves_in_a_row(self):
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-postcopy-"))
            here = await stack.enter_async_context(Mover(harts=2))
            await here.capability("postcopy-ram")
            await here.up()
            await self.works(here)
            for number in range(5):
                there = await stack.enter_async_context(Mover("-incoming", "defer", harts=2))
                await there.capability("postcopy-ram")
                await self.leaves(here, there, f"unix:{folder}/{number}")
                await self.follows(here, there)
                await here.qmp("quit")
                here = there
            await self.checks(here)

    async def test_b7_every_state_arrives_under_its_name(self):
        async def nothing(_vm):
            pass

        async def stopped(vm):
            await vm.qmp("stop")

        async def asleep(vm):
            await vm.fall_asleep()

        async def asleep_and_stopped(vm):
            await vm.fall_asleep()
            await vm.qmp("stop")

        for make, words, name, events, after in (
            (nothing, ("-S",), "paused", [], "running"),
            (stopped, (), "paused", [], "running"),
            (asleep, (), "suspended", ["RESUME", "SUSPEND"], "suspended"),
            (asleep_and_stopped, (), "paused", [], "suspended"),
        ):
            with self.subTest(state=make.__name__):
                async with self.pair(target=words) as (here, there, place):
                    here.console.type("fill 16\n")
                    await here.console.expect("filled 4096 pages")
                    await make(here)
                    await self.leaves(here, there, place)
                    self.assertEqual((await there.status(), await here.status()), (name, "finish-migrate"))
                    self.assertEqual(there.events(), events)
                    await there.qmp("cont")
                    self.assertEqual(await there.status(), after)
                    if after == "suspended":
                        there.events()
                        await self.says(there, "system_wakeup", ["WAKEUP"], "running")
                        await there.awake()
                    there.console.type("check\n")
                    await there.console.expect("checked 4096 pages, 0 wrong")
                    await self.follows(here, there)

    async def test_an_alarm_wakes_a_sleeper_whose_memory_is_not_there(self):
        async with self.pair() as (here, there, place):
            await here.fall_asleep(30)
            await self.leaves(here, there, place)
            self.assertEqual(await there.status(), "suspended")
            await there.advance(31)
            await there.event("RESUME")
            await there.event("SUSPEND")
            await there.event("WAKEUP")
            await there.awake()
            await self.follows(here, there)

    async def test_a_destination_that_is_not_to_do_it_refuses(self):
        async with self.pair() as (here, there, place):
            await there.capability("postcopy-ram", False)
            await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
            await here.qmp("migrate", uri=place)
            self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
            self.assertIn("capability postcopy-ram is not on", (await here.qmp("query-migrate"))["error-desc"])
            self.assertEqual(await here.status(), "running")


class Lost(Postcopy):
    async def test_a_connection_is_cut_by_either_side_and_taken_up_again(self):
        async with self.pair() as (here, there, place):
            await self.works(here)
            await here.refused("migrate", NO_RESUME, uri=place, resume=True)
            await self.leaves(here, there, place)
            await there.refused("migrate-recover", NO_RECOVER, uri=place)
            await there.event("RESUME")
            for number, by in enumerate((here, there)):
                await self.cut(here, there, by)
                self.assertEqual((await by.qmp("query-migrate"))["error-desc"], PAUSED)
                self.assertEqual((await here.status(), await there.status()), ("finish-migrate", "running"))
                # The guest needs what is not there, and its host answers all the same.
                there.console.type("\n")
                await self.says(there, "stop", ["STOP"], "paused")
                await self.says(there, "cont", ["RESUME"], "running")
                await self.recovers(here, there, f"{place}{number}")
                self.assertNotIn("error-desc", await here.qmp("query-migrate"))
            there.console.type("check\n")
            await there.console.expect("checked 4096 pages, 0 wrong")
            await self.follows(here, there)
            await there.alive()

    async def test_what_lies_between_them_fails(self):
        async with self.pair() as (here, there, place):
            await self.works(here)
            path = place.removeprefix("unix:")
            links = []

            async def between(reader, writer):
                links.append(writer)
                there_reader, there_writer = await asyncio.open_unix_connection(path)
                links.append(there_writer)

                async def pass_on(source, sink):
                    while data := await source.read(1 << 16):
                        sink.write(data)
                        await sink.drain()

                with contextlib.suppress(ConnectionError):
                    await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer))

            server = await asyncio.start_unix_server(between, f"{path}-between")
            async with server:
                await self.leaves(here, there, place, f"unix:{path}-between")
                await there.event("RESUME")
                for link in links:
                    link.transport.abort()
                for vm in (here, there):
                    self.assertEqual((await vm.told("postcopy-paused", "failed"))[-1], "postcopy-paused")
                    self.assertIn("error-desc", await vm.qmp("query-migrate"))
                await self.recovers(here, there, place)
                await self.checks(there)
                await self.follows(here, there)

    async def test_people_do_the_same(self):
        async with self.pair() as (here, there, place):
            await self.works(here)
            await self.pace(here, SLOW)
            await there.hmp(f"migrate_incoming {place}")
            await here.hmp(f"migrate -d {place}")
            await here.told("active")
            self.assertEqual(await here.hmp("migrate_start_postcopy"), "")
            await here.told("postcopy-active")
            self.assertEqual(await here.hmp("migrate_pause"), "")
            for vm in (here, there):
                await vm.told("postcopy-paused")
            self.assertIn(f"Migration status: postcopy-paused ({PAUSED})", await here.hmp("info migrate"))
            self.assertEqual(await there.hmp(f"migrate_recover {place}"), "")
            self.assertEqual(await here.hmp(f"migrate -d -r {place}"), "")
            await here.told("postcopy-active")
            await self.follows(here, there)
            await self.checks(there)

    async def test_a_destination_that_is_killed_leaves_a_source_that_never_runs_by_itself(self):
        async with self.pair() as (here, there, place):
            await self.leaves(here, there, place)
            there.process.send_signal(signal.SIGKILL)
            await there.exit_status()
            self.assertEqual((await here.told("postcopy-paused", "failed"))[-1], "postcopy-paused")
            await here.refused("cont", "Migration is not finalized yet")
            await here.qmp("migrate", uri=place, resume=True)
            self.assertEqual((await here.told("postcopy-paused"))[-1], "postcopy-paused")
            self.assertIn("Failed to connect", (await here.qmp("query-migrate"))["error-desc"])
            self.assertEqual(await here.status(), "finish-migrate")
            await here.qmp("quit")
            self.assertEqual(await here.exit_status(), 0)

    async def test_a_source_that_is_killed_leaves_a_guest_that_can_be_reset_and_ended(self):
        for command in ("system_reset", "quit"):
            with self.subTest(command=command):
                async with self.pair() as (here, there, place):
                    await self.works(here)
                    await self.leaves(here, there, place)
                    await there.event("RESUME")
                    here.process.send_signal(signal.SIGKILL)
                    self.assertEqual((await there.told("postcopy-paused", "failed"))[-1], "postcopy-paused")
                    self.assertEqual(await there.status(), "running")
                    if command == "quit":
                        await there.qmp("quit")
                        self.assertEqual(await there.exit_status(), 0)
                        continue
                    await self.says(there, "system_reset", ["RESET"], "running")
                    self.assertEqual(await there.told("completed", "failed"), ["completed"])
                    await there.up()
                    await there.alive()


class Linux(Postcopy):
    async def test_linux_with_a_disk_goes_on_over_there(self):
        with tempfile.NamedTemporaryFile() as image:
            image.truncate(32 << 20)
            disk = ("-drive", f"file={image.name},if=none,id=d,format=raw", "-device", "virtio-blk-device,drive=d")
            async with self.pair(Traveller, disk, disk) as (here, there, place):
                shell = here.console.shell
                await shell("load", BOOT_PATIENCE)
                await shell("dd if=/dev/urandom of=/f bs=1M count=16 && md5sum < /f > /sum && dd if=/f of=/dev/vda bs=1M")
                await shell("sync; echo 3 > /proc/sys/vm/drop_caches")
                await shell("(while dd if=/dev/vda bs=64k | md5sum > /dev/null; do :; done) & true")
                complaints = await here.complaints()
                await self.leaves(here, there, place)
                # The disk's buffers are where memory is that may not be there: it waits, and keeps nobody waiting.
                await self.cut(here, there, here)
                there.console.type("\n")
                there.events()
                await self.says(there, "stop", ["STOP"], "paused")
                await self.says(there, "cont", ["RESUME"], "running")
                await self.recovers(here, there, place)
                await self.pace(here, 1 << 20)
                shell = there.console.shell
                await shell("md5sum < /f | cmp - /sum", BOOT_PATIENCE)
                await shell("echo 3 > /proc/sys/vm/drop_caches", BOOT_PATIENCE)
                await shell("dd if=/dev/vda bs=1M count=16 | md5sum | cmp - /sum", BOOT_PATIENCE)
                await self.follows(here, there)
                await shell("kill $!; dd if=/dev/vda bs=1M count=16 | md5sum | cmp - /sum", BOOT_PATIENCE)
                self.assertEqual(await there.complaints() - complaints, set())


if __name__ == "__main__":
    unittest.main()
