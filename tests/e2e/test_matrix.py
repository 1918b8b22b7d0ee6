"""Every state of a machine by every way of keeping and moving it, one guest a cell.

A guest fills memory before and checks it after; the busy one rewrites it all the while and watches its clocks. The events
and the state of every cell are those of the tables below.
"""

import asyncio
import dataclasses
import pathlib
import signal
import tempfile
import unittest

from test_migration import MIGRATED, Mover
from vm import NEEDS_RESET, PATIENCE, Scenario


async def says(debugger, packet, answer):
    """Sends gdb's packet, and sees this answer."""
    reader, writer = debugger
    writer.write(f"${packet}#{sum(packet.encode()) % 256:02x}".encode())
    await asyncio.wait_for(reader.readuntil(f"${answer}#".encode()), PATIENCE)


class States:
    """How a machine at its prompt, with 4 MiB filled, comes into each state."""

    async def running(self, vm):
        pass

    async def busy(self, vm):
        vm.console.type("churn 4 8\n")
        await vm.console.expect("churning")

    async def suspended(self, vm):
        await vm.fall_asleep()

    async def alarm(self, vm):
        await vm.fall_asleep(30)

    async def paused(self, vm):
        await vm.qmp("stop")

    async def paused_asleep(self, vm):
        await vm.fall_asleep()
        await vm.qmp("stop")

    async def prelaunch(self, vm):
        await vm.qmp("stop")
        await vm.qmp("system_reset")

    async def shutdown(self, vm):
        vm.console.type("poweroff\n")
        await vm.event("SHUTDOWN")
        await vm.event("STOP")

    async def panicked(self, vm):
        vm.console.type("panic\n")
        await vm.event("GUEST_PANICKED")
        await vm.event("STOP")

    async def bitten(self, vm):
        vm.console.type("watchdog 10\n")
        await vm.console.expect("armed")
        await vm.up()
        await vm.advance(11)
        await vm.event("WATCHDOG")
        await vm.event("STOP")

    async def broken(self, vm):
        await vm.qmp("x-test-hart-panic", cpu_index=0)
        await vm.event("STOP")

    async def stepped(self, vm):
        """A debugger has had it execute one instruction, and stays."""
        vm.debugger = await asyncio.open_unix_connection(vm.gdb)
        for packet, answer in (("QStartNoAckMode", "OK"), ("vCont;s:1", "T05thread:01;")):
            await says(vm.debugger, packet, answer)


@dataclasses.dataclass(frozen=True)
class Row:
    """A state: who makes it, what it is called, what `cont` makes of it, or None where that is refused, and what it is called
    where it has been loaded or has arrived."""

    make: str
    name: str
    after: str | None = "running"
    other: str | None = None

    @property
    def there(self):
        return self.other or self.name

    @property
    def live(self):
        return self.name in ("running", "suspended")


ROWS = (
    Row("running", "running"),
    Row("busy", "running"),
    Row("suspended", "suspended", after="suspended"),
    Row("alarm", "suspended", after="suspended"),
    Row("paused", "paused"),
    Row("paused_asleep", "paused", after="suspended"),
    Row("prelaunch", "prelaunch"),
    Row("shutdown", "shutdown", after=None),
    Row("panicked", "guest-panicked"),
    Row("bitten", "watchdog"),
    Row("broken", "internal-error", after=None),
    # The debugger stays behind, and somebody has to lift its hold: it goes as a manager's.
    Row("stepped", "debug", other="paused"),
)

# What arrives live tells so.
ARRIVES = {"running": ["RESUME"], "suspended": ["RESUME", "SUSPEND"]}


class Matrix(Scenario):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-matrix-")))

    def machine(self, *arguments):
        return Mover("-x-snapshots", str(self.folder), "-action", "panic=pause,watchdog=pause", *arguments)

    async def each(self, way):
        """A new machine in every state, by one way."""
        for number, row in enumerate(ROWS):
            with self.subTest(state=row.make):
                folder, self.folder = self.folder, self.folder / str(number)
                self.folder.mkdir()
                try:
                    async with self.machine("-gdb", f"unix:{self.folder}/gdb,server=on,wait=off") as vm:
                        vm.gdb = f"{self.folder}/gdb"
                        await vm.up()
                        vm.console.type("fill 4\n")
                        await vm.console.expect("filled 1024 pages")
                        await vm.up()
                        await getattr(States(), row.make)(vm)
                        self.assertEqual(await vm.status(), row.name)
                        vm.events()
                        await way(vm, row)
                finally:
                    self.folder = folder

    async def sound(self, vm, row):
        """Brings the guest to life from wherever its state left it, and has it look at its memory and clocks."""
        if row.after is None:
            return await vm.refused("cont", NEEDS_RESET)
        await vm.qmp("cont")
        self.assertEqual(await vm.status(), row.after)
        vm.events()
        if row.after == "suspended":
            if row.make == "alarm":
                await vm.advance(31)
                await vm.event("WAKEUP")
            else:
                await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
        await self.checks(vm, row)

    async def checks(self, vm, row):
        """The guest runs: it answers, its memory is what it wrote, its clocks went forward."""
        if row.after == "suspended":
            await vm.awake()
        if row.make == "busy":
            vm.console.type("\n")
            await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
        if row.make == "prelaunch":
            # It was reset: there is a boot to see, and memory to fill once more.
            await vm.up()
            vm.console.type("fill 4\n")
            await vm.console.expect("filled 1024 pages")
        vm.console.type("check\n")
        await vm.console.expect("checked 1024 pages, 0 wrong")
        await vm.up()
        await vm.alive()

    def pair(self, row):
        """What a machine tells that is halted for a moment: nothing if it stood already."""
        return {"running": ["STOP", "RESUME"], "suspended": ["STOP", "RESUME", "SUSPEND"]}.get(row.name, [])

    async def job(self, vm, command, **arguments):
        """Runs a job to its end; it must succeed."""
        await vm.qmp(command, job_id="job", **arguments)
        while (jobs := await vm.qmp("query-jobs"))[0]["status"] != "concluded":
            pass
        self.assertNotIn("error", jobs[0])
        await vm.qmp("job-dismiss", id="job")

    async def saved(self, vm, row, name, **arguments):
        await self.job(vm, "x-snapshot-save", name=name, **arguments)
        self.assertEqual((vm.events(), await vm.status()), (self.pair(row), row.name))

    # ---- the ways ----

    async def test_saved_and_loaded_again(self):
        """A save leaves everything as it was; so does a load of what was saved in the same state."""

        async def way(vm, row):
            await self.saved(vm, row, "one")
            await self.job(vm, "x-snapshot-load", name="one")
            self.assertEqual((vm.events(), await vm.status()), (self.pair(row), row.name))
            await self.sound(vm, row)

        await self.each(way)

    async def loaded(self, row, name):
        """A new process with a snapshot: it runs and is awake, as on QEMU's command line, unless it is off."""
        async with self.machine("-loadvm", name) as vm:
            self.assertEqual(await vm.status(), row.name if row.after is None else "running")
            if row.after is None:
                return await vm.refused("cont", NEEDS_RESET)
            await self.checks(vm, row)

    async def test_a_new_process_loads_it(self):
        async def way(vm, row):
            await self.saved(vm, row, "one")
            await self.loaded(row, "one")

        await self.each(way)

    async def test_a_new_process_loads_a_difference(self):
        async def way(vm, row):
            await self.saved(vm, row, "one", incremental=True)
            await self.saved(vm, row, "two", incremental=True)
            listed = {entry["name"]: entry.get("parent") for entry in await vm.qmp("x-snapshot-list")}
            self.assertEqual(listed, {"one": None, "two": "one"})
            await self.loaded(row, "two")
            await self.sound(vm, row)

        await self.each(way)

    async def test_forks(self):
        """Two new processes begin from it side by side, and so does the machine itself; a sleeper sleeps on."""

        async def way(vm, row):
            await self.saved(vm, row, "one")
            fork = ("-x-snapshot-fork", "one")
            async with self.machine(*fork) as one, self.machine(*fork) as other:
                for forked in (one, other):
                    self.assertEqual(await forked.status(), row.after or row.name)
                    await self.sound(forked, row)
            await self.job(vm, "x-snapshot-fork", name="one")
            self.assertEqual((vm.events(), await vm.status()), (self.pair(row), row.name))
            await self.sound(vm, row)

        await self.each(way)

    async def arrives(self, here, there, row):
        """What both sides tell, and where the guest is now."""
        self.assertEqual((await there.told("completed", "failed"))[-1], "completed")
        self.assertEqual((there.events(), await there.status()), (ARRIVES.get(row.name, []), row.there))
        self.assertEqual((here.events(), await here.status()), (["STOP"] if row.live else [], "postmigrate"))
        await here.refused("migrate", MIGRATED, uri="unix:/nonexistent")
        await self.sound(there, row)

    async def test_precopy(self):
        async def way(here, row):
            place = f"unix:{self.folder}/m"
            async with self.machine("-incoming", "defer") as there:
                await there.qmp("migrate-incoming", uri=place)
                await here.qmp("migrate", uri=place)
                self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                await self.arrives(here, there, row)
                # The source, taken back, has the same guest at the same point.
                await self.sound(here, row)

        await self.each(way)

    async def test_precopy_by_tcp(self):
        async def way(here, row):
            async with self.machine("-incoming", "tcp:127.0.0.1:0") as there:
                [address] = (await there.qmp("query-migrate"))["socket-address"]
                await here.qmp("migrate", uri=f"tcp:{address['host']}:{address['port']}")
                self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
                await self.arrives(here, there, row)

        await self.each(way)

    async def test_postcopy(self):
        """It is over there, under its name, before its memory is."""

        async def way(here, row):
            place, slow = f"unix:{self.folder}/m", 1 << 16
            async with self.machine("-incoming", "defer") as there:
                for vm in (here, there):
                    await vm.capability("postcopy-ram")
                await here.qmp("migrate-set-parameters", max_bandwidth=slow, max_postcopy_bandwidth=slow)
                await there.qmp("migrate-incoming", uri=place)
                await here.qmp("migrate", uri=place)
                await here.told("active")
                await here.qmp("migrate-start-postcopy")
                for vm, name in ((here, "finish-migrate"), (there, row.there)):
                    self.assertEqual((await vm.told("postcopy-active", "failed"))[-1], "postcopy-active")
                    self.assertEqual(await vm.status(), name)
                await here.qmp("migrate-set-parameters", max_postcopy_bandwidth=0)
                self.assertEqual(await here.told("completed", "failed"), ["completed"])
                await self.arrives(here, there, row)
                await self.sound(here, row)

        await self.each(way)

    async def kept(self, out, into=None):
        """Goes one way, and is taken in afterwards."""

        async def way(here, row):
            await here.qmp("migrate", uri=out.format(self.folder))
            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
            async with self.machine("-incoming", "defer") as there:
                await there.qmp("migrate-incoming", uri=(into or out).format(self.folder))
                await self.arrives(here, there, row)

        await self.each(way)

    async def test_a_file(self):
        await self.kept("file:{}/f")

    async def test_programs(self):
        await self.kept("exec:gzip -1 > {}/f", "exec:gzip -dc {}/f")

    async def test_a_mapped_file(self):
        async def way(here, row):
            await here.capability("mapped-ram")
            place = f"file:{self.folder}/f"
            await here.qmp("migrate", uri=place)
            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
            async with self.machine("-incoming", "defer") as there:
                await there.capability("mapped-ram")
                await there.qmp("migrate-incoming", uri=place)
                await self.arrives(here, there, row)

        await self.each(way)

    async def test_a_background_snapshot(self):
        """The machine goes on as it was, and another one has what it was."""

        async def way(here, row):
            await here.capability("background-snapshot")
            place = f"file:{self.folder}/f"
            await here.qmp("migrate", uri=place)
            self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
            self.assertEqual((here.events(), await here.status()), (self.pair(row), row.name))
            async with self.machine("-incoming", "defer") as there:
                await there.qmp("migrate-incoming", uri=place)
                self.assertEqual((await there.told("completed", "failed"))[-1], "completed")
                self.assertEqual((there.events(), await there.status()), (ARRIVES.get(row.name, []), row.there))
                await self.sound(there, row)
            await self.sound(here, row)

        await self.each(way)

    async def interrupted(self, row, here, interrupt, *told):
        """A migration that ends at its switch-over leaves the source as it was, and able to go with another."""
        place = f"unix:{self.folder}/m"
        await here.capability("pause-before-switchover")
        async with self.machine("-incoming", "defer") as there:
            await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
            await here.qmp("migrate", uri=place)
            await here.told("pre-switchover")
            self.assertEqual((here.events(), await here.status()), (["STOP"] if row.live else [], "finish-migrate"))
            await interrupt(there)
            self.assertEqual(await here.told("cancelled", "failed"), list(told))
            self.assertEqual((here.events(), await here.status()), (self.pair(row)[1:], row.name))
        await here.capability("pause-before-switchover", False)
        await self.sound(here, row)

    async def test_cancelled_at_the_switch_over(self):
        async def way(here, row):
            async def cancel(_there):
                await here.qmp("migrate_cancel")

            await self.interrupted(row, here, cancel, "cancelling", "cancelled")

        await self.each(way)

    async def test_killed_while_memory_goes(self):
        async def way(here, row):
            await here.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
            place = f"unix:{self.folder}/m"
            async with self.machine("-incoming", place) as there:
                await here.qmp("migrate", uri=place)
                await here.told("active")
                there.process.send_signal(signal.SIGKILL)
                await there.exit_status()
                self.assertEqual((await here.told("cancelled", "failed")), ["failed"])
                self.assertEqual((here.events(), await here.status()), ([], row.name))
            await self.sound(here, row)

        await self.each(way)

    async def test_killed_at_the_switch_over(self):
        async def way(here, row):
            async def kill(there):
                there.process.send_signal(signal.SIGKILL)
                await there.exit_status()
                await here.qmp("migrate-continue", state="pre-switchover")

            await self.interrupted(row, here, kill, "device", "failed")

        await self.each(way)


if __name__ == "__main__":
    unittest.main()
