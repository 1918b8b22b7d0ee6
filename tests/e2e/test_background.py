"""Background snapshots: `migrate` sends the machine as it was at the command, and it runs on."""

import asyncio
import os
import pathlib
import socket
import tempfile

from qemu.qmp import EventListener
from vm import PATIENCE, Embedded, Scenario

CAPABILITIES = ("events", "background-snapshot")


class Background(Scenario):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-background-")))

    async def enable(self, vm, *more):
        states = [{"capability": name, "state": True} for name in (*CAPABILITIES, *more)]
        await vm.qmp("migrate-set-capabilities", capabilities=states)

    async def send(self, vm, uri):
        """Sends one to its end; gives the words of all events meanwhile."""
        listener = EventListener(names={"STOP", "RESUME", "SUSPEND", "WAKEUP", "MIGRATION", "MIGRATION_PASS"})
        vm.client.register_listener(listener)
        words = []
        try:
            await vm.qmp("migrate", uri=uri)
            while not words or words[-1] not in ("completed", "failed", "cancelled"):
                event = await asyncio.wait_for(listener.get(), PATIENCE)
                words.append(event["data"]["status"] if event["event"] == "MIGRATION" else event["event"])
        finally:
            vm.client.remove_listener(listener)
        self.assertEqual(words[-1], "completed", await vm.qmp("query-migrate"))
        vm.events()
        return words

    async def test_running_asleep_and_stopped(self):
        """The recording of QEMU's, command by command, and each file restored."""
        place = [f"exec:cat>{self.folder}/bg{n}" for n in (1, 2, 3)]
        async with Embedded() as vm:
            await vm.up()
            await self.enable(vm)
            self.assertEqual(await self.send(vm, place[0]), ["setup", "active", "STOP", "RESUME", "completed"])
            self.assertEqual(await vm.status(), "running")
            told = await vm.qmp("query-migrate")
            self.assertEqual(told["status"], "completed")
            self.assertIn("downtime", told)
            await vm.fall_asleep()
            # RESUME into sleep tells of it: lifecycle rules, section 6.
            self.assertEqual(
                await self.send(vm, place[1]), ["setup", "active", "STOP", "RESUME", "SUSPEND", "completed"]
            )
            self.assertEqual(await vm.status(), "suspended")
            await self.says(vm, "stop", ["STOP"], "paused")
            self.assertEqual(await self.send(vm, place[2]), ["setup", "active", "completed"])
            self.assertEqual(await vm.status(), "paused")
            await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()
        for number, state in ((1, "running"), (2, "suspended"), (3, "paused")):
            async with Embedded("-incoming", f"exec:cat {self.folder}/bg{number}") as there:
                while (now := await there.status()) == "inmigrate":
                    pass
                self.assertEqual(now, state)
                there.events()
                if state == "paused":
                    await self.says(there, "cont", ["RESUME", "SUSPEND"], "suspended")
                if state != "running":
                    await self.says(there, "system_wakeup", ["WAKEUP"], "running")
                    await there.awake()
                await there.alive()

    async def busy(self, vm):
        await vm.up()
        vm.console.type("fill 32\nchurn 16 64\n")
        await vm.console.expect("churning")

    async def sound(self, vm):
        """The guest has written all the time, and finds what it wrote."""
        vm.console.type("\n")
        await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
        await vm.up()
        vm.console.type("check\n")
        await vm.console.expect("checked 8192 pages, 0 wrong")
        await vm.up()

    async def test_a_busy_guest_through_every_place(self):
        path = self.folder / "file"
        async with Embedded() as vm:
            await self.busy(vm)
            await self.enable(vm)
            await self.send(vm, f"file:{path}")
            async with Embedded("-incoming", f"unix:{self.folder}/m") as beside:
                # Through a socket there are two of them then.
                await self.send(vm, f"unix:{self.folder}/m")
                while await beside.status() == "inmigrate":
                    pass
                self.assertEqual((await vm.status(), await beside.status()), ("running", "running"))
                await self.sound(beside)
            await self.enable(vm, "mapped-ram")
            await self.send(vm, f"file:{path}.mapped")
            await self.sound(vm)
        for place in (path, f"{path}.mapped"):
            async with Embedded("-incoming", f"file:{place}") as there:
                await self.sound(there)

    async def test_a_reader_that_does_not_read_holds_up_nothing(self):
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(f"{self.folder}/m")
        server.listen()
        async with Embedded() as vm:
            await self.busy(vm)
            await self.enable(vm)
            await vm.qmp("migrate", uri=f"unix:{self.folder}/m")
            await vm.event("STOP")
            await vm.event("RESUME")
            # The guest writes on: all that it writes is copied, and nobody waits.
            await self.sound(vm)
            await self.says(vm, "stop", ["STOP"], "paused")
            self.assertEqual((await vm.qmp("query-migrate"))["status"], "active")
            # Nothing else may begin, and nothing of it is lost by a reset.
            await vm.refused("migrate", "There's a migration process in progress", uri="exec:cat")
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await vm.qmp("migrate_cancel")
            while (await vm.qmp("query-migrate"))["status"] != "cancelled":
                pass
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()
        self.assertTrue(os.path.exists(f"{self.folder}/m"))

    async def test_what_does_not_go_together(self):
        async with Embedded() as vm:
            await vm.up()
            await self.enable(vm)
            for other in ("postcopy-ram", "return-path", "pause-before-switchover", "auto-converge"):
                await vm.refused(
                    "migrate-set-capabilities",
                    f"Background-snapshot is not compatible with {other}",
                    capabilities=[{"capability": other, "state": True}],
                )
