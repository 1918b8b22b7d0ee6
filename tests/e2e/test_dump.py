"""Guest memory as a core file: written while the machine stands, readable by gdb, and never a reason to lose the guest."""

import asyncio
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from vm import Embedded

DUMPING = "There is a dump in process, please wait."


def gdb(core, *commands):
    """What gdb prints of a core file."""
    program = shutil.which("gdb-multiarch")
    if not program:
        raise unittest.SkipTest("no gdb-multiarch")
    commands = ("set pagination off", f"core-file {core}", *commands)
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run([program, "-batch", "-nx", *words], capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


class Dump(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-dump-")))
        self.core = self.folder / "core"

    async def test_gdb_reads_registers_of_every_hart_and_memory(self):
        async with Embedded(harts=2) as vm:
            await vm.up()
            await vm.qmp("stop")
            registers = await vm.hmp("info registers")
            vm.events()
            await vm.qmp("dump-guest-memory", paging=False, protocol=f"file:{self.core}")
            self.assertEqual((vm.events(), await vm.status()), ([], "paused"))
            self.assertEqual((await vm.qmp("query-dump"))["status"], "completed")
            prompt = ", ".join(repr(letter) for letter in "dormouse>")
            look = ("info threads", "thread 1", "p/x $pc", f"find /b 0x80200000, +0x100000, {prompt}")
            printed = gdb(self.core, *look)
            self.assertIn("LWP 1", printed)
            self.assertIn("LWP 2", printed)
            pc = next(line.split()[-1] for line in printed.splitlines() if line.startswith("$1 = "))
            self.assertIn(f"{int(pc, 16):x}", registers.lower(), (pc, registers))
            self.assertIn("pattern found", printed)
            self.assertEqual(self.core.stat().st_mode & 0o777, 0o600)

    async def test_a_running_machine_stands_meanwhile_and_a_sleeping_one_too(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.qmp("dump-guest-memory", paging=False, protocol=f"file:{self.core}")
            self.assertEqual((vm.events(), await vm.status()), (["STOP", "RESUME"], "running"))
            await vm.alive()
            await vm.fall_asleep()
            self.assertEqual(await vm.hmp(f"dump-guest-memory {self.core} 0x80000000 4096"), "")
            self.assertEqual((vm.events(), await vm.status()), (["STOP", "RESUME", "SUSPEND"], "suspended"))
            await vm.qmp("system_wakeup")
            await vm.awake()

    async def test_what_meets_a_detached_dump(self):
        async with Embedded() as vm:
            await vm.up()
            reader, writer = os.pipe()
            vm.client.send_fd_scm(writer)
            await vm.qmp("getfd", fdname="core")
            os.close(writer)
            await vm.qmp("dump-guest-memory", paging=False, protocol="fd:core", detach=True)
            self.assertEqual((vm.events(), await vm.status()), (["STOP"], "save-vm"))
            progress = await vm.qmp("query-dump")
            self.assertEqual((progress["status"], progress["total"]), ("active", 256 << 20))
            for command in ("stop", "cont"):
                await vm.refused(command, DUMPING)
            await vm.refused("dump-guest-memory", DUMPING, paging=False, protocol=f"file:{self.core}")
            self.assertFalse(self.core.exists(), "a refused dump has made its file")
            # QEMU aborts here (B21).
            await vm.qmp("system_reset")
            self.assertEqual((vm.events(), await vm.status()), ([], "save-vm"))
            await asyncio.to_thread(self.drain, reader)
            done = await vm.event("DUMP_COMPLETED")
            self.assertEqual(done, {"result": {"status": "completed", "completed": 256 << 20, "total": 256 << 20}})
            self.assertEqual(await vm.event("RESET"), {"guest": False, "reason": "host-qmp-system-reset"})
            await vm.event("RESUME")
            await vm.up()
            await vm.alive()

    def drain(self, reader):
        with os.fdopen(reader, "rb") as pipe:
            self.assertEqual(pipe.read(4), b"\x7fELF")
            while pipe.read(1 << 20):
                pass

    async def test_a_target_that_fails_fails_the_dump_alone(self):
        async with Embedded() as vm:
            await vm.up()
            full = "dump: failed to save memory: No space left on device"
            await vm.refused("dump-guest-memory", full, paging=False, protocol="file:/dev/full")
            self.assertEqual((vm.events(), await vm.status()), (["STOP", "RESUME"], "running"))
            self.assertEqual((await vm.qmp("query-dump"))["status"], "failed")
            await vm.qmp("dump-guest-memory", paging=False, protocol="file:/dev/full", detach=True)
            await vm.event("STOP")
            self.assertEqual((await vm.event("DUMP_COMPLETED"))["error"], full)
            await vm.event("RESUME")
            await vm.alive()

    async def test_what_cannot_be_dumped_is_refused_and_stops_nothing(self):
        async with Embedded() as vm:
            await vm.up()
            self.assertEqual((await vm.qmp("query-dump"))["status"], "none")
            self.assertEqual(await vm.qmp("query-dump-guest-memory-capability"), {"formats": ["elf"]})
            file = f"file:{self.core}"
            for text, arguments in [
                ("Invalid parameter 'protocol'", {"protocol": str(self.core)}),
                ("File descriptor named 'x' has not been found", {"protocol": "fd:x"}),
                ("Could not create '/no/such/core': No such file or directory", {"protocol": "file:/no/such/core"}),
                ("Parameter 'length' is missing", {"protocol": file, "begin": 0}),
                ("Parameter 'begin' is missing", {"protocol": file, "length": 1}),
                ("kdump-zlib is not available now", {"protocol": file, "format": "kdump-zlib"}),
                ("this feature or command is not currently supported", {"protocol": file, "paging": True}),
            ]:
                await vm.refused("dump-guest-memory", text, **{"paging": False, **arguments})
            self.assertEqual((vm.events(), await vm.status(), self.core.exists()), ([], "running", False))

    async def test_quit_ends_a_dump(self):
        async with Embedded() as vm:
            await vm.up()
            reader, writer = os.pipe()
            vm.client.send_fd_scm(writer)
            await vm.qmp("getfd", fdname="core")
            os.close(writer)
            await vm.qmp("dump-guest-memory", paging=False, protocol="fd:core", detach=True)
            await vm.qmp("quit")
            self.assertEqual(vm.events(), ["STOP", "SHUTDOWN"])
            self.assertEqual(await vm.exit_status(), 0)
            os.close(reader)
