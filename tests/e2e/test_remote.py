"""`dormouse migrate` and `dormouse snapshot`: another process's machine is asked, and how far it is is shown."""

import asyncio
import contextlib
import os
import pty
import signal
import tempfile

from test_migration import Mover
from vm import PATIENCE, PROGRAM, Scenario

SLOW = {"max-bandwidth": 1 << 20}


class Remote(Scenario):
    @contextlib.asynccontextmanager
    async def machine(self, *arguments):
        """A guest at its prompt with some memory to move, the path of its monitor, and a folder."""
        with tempfile.TemporaryDirectory(prefix="dormouse-remote-") as folder:
            place = f"{folder}/qmp"
            os.mkdir(f"{folder}/snaps")
            options = ("-qmp", f"unix:{place},server=on,wait=off", "-x-snapshots", f"{folder}/snaps", *arguments)
            async with Mover(*options) as machine:
                await machine.up()
                machine.console.type("fill 16\n")
                await machine.console.expect("filled 4096 pages")
                yield machine, place, folder

    async def ask(self, *arguments):
        """Runs the program to its end; gives its status and what it said."""
        process = await asyncio.create_subprocess_exec(PROGRAM, *arguments, stderr=asyncio.subprocess.PIPE)
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, said.decode()

    async def test_a_machine_moves_and_the_end_is_told(self):
        async with self.machine() as (here, place, folder), Mover("-incoming", f"unix:{folder}/m") as there:
            status, said = await self.ask("migrate", place, f"unix:{folder}/m")
            self.assertRegex(said, r"^dormouse: moved to unix:.*: .* sent in \d+ ms, \d+ passes; the guest stood for \d+ ms\n$")
            self.assertEqual((status, await here.status()), (0, "postmigrate"))
            await there.event("RESUME")
            await there.alive()

    async def test_a_terminal_sees_a_bar_and_an_interrupt_cancels(self):
        async with self.machine() as (here, place, folder), Mover("-incoming", f"unix:{folder}/m"):
            await here.qmp("migrate-set-parameters", **SLOW)
            ours, theirs = pty.openpty()
            process = await asyncio.create_subprocess_exec(PROGRAM, "migrate", place, f"unix:{folder}/m", stderr=theirs)
            os.close(theirs)
            seen = await asyncio.to_thread(read_until, ours, b"active, pass 1")
            self.assertRegex(seen, rb"\[[=> ]{32}\] +\d+ %")
            process.send_signal(signal.SIGINT)
            rest = await asyncio.to_thread(read_until, ours, b"dormouse: cancelled")
            self.assertIn(b"dormouse: cancelled", rest)
            os.close(ours)
            self.assertEqual(await asyncio.wait_for(process.wait(), PATIENCE), 1)
            self.assertEqual((await here.qmp("query-migrate"))["status"], "cancelled")
            await here.alive()

    async def test_what_it_waits_for_is_said(self):
        async with self.machine() as (here, place, folder), Mover("-incoming", f"unix:{folder}/m"):
            await here.capability("pause-before-switchover")
            process = await asyncio.create_subprocess_exec(
                PROGRAM, "migrate", place, f"unix:{folder}/m", stderr=asyncio.subprocess.PIPE
            )
            said = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
            self.assertEqual(said, b"dormouse: the machine stands and waits for migrate-continue\n")
            await here.qmp("migrate-continue", state="pre-switchover")
            said = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
            self.assertRegex(said, rb"^dormouse: moved to ")
            self.assertEqual(await process.wait(), 0)

    async def test_what_fails_is_told_with_its_reason(self):
        async with self.machine() as (here, place, folder):
            nobody = f"unix:{folder}/nobody"
            status, said = await self.ask("migrate", place, nobody)
            self.assertEqual(status, 1)
            self.assertIn("nobody", said)
            self.assertEqual(await here.status(), "running")
            status, said = await self.ask("migrate", f"{folder}/absent", nobody)
            self.assertEqual((status, said), (1, f"dormouse: cannot reach the monitor at '{folder}/absent': No such file or directory (os error 2)\n"))
            status, said = await self.ask("snapshot", "load", place, "absent")
            self.assertEqual(status, 1)
            self.assertIn("absent", said)
            self.assertEqual(await here.qmp("query-jobs"), [])

    async def test_snapshots_are_saved_loaded_and_deleted(self):
        async with self.machine() as (here, place, _):
            self.assertEqual(await self.ask("snapshot", "save", place, "one"), (0, "dormouse: snapshot 'one' saved\n"))
            self.assertEqual([it["name"] for it in await here.qmp("x-snapshot-list")], ["one"])
            self.assertEqual(await self.ask("snapshot", "load", place, "one"), (0, "dormouse: snapshot 'one' loaded\n"))
            await here.alive()
            self.assertEqual(await self.ask("snapshot", "delete", place, "one"), (0, "dormouse: snapshot 'one' deleted\n"))
            self.assertEqual(await here.qmp("x-snapshot-list"), [])


def read_until(descriptor, text):
    """What a terminal is shown up to `text`, or up to its end."""
    seen = b""
    while text not in seen:
        try:
            part = os.read(descriptor, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    return seen
