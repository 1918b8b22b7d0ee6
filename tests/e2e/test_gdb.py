"""gdb's own client on the stub, with a QMP client beside it."""

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from vm import BOOT_PATIENCE, PATIENCE, ROOT, Debian, Embedded, Scenario

GDB = shutil.which("gdb-multiarch")
PROMPT = "(gdb) "


class Gdb:
    """gdb on pipes: a command, and what it prints until the next prompt."""

    def __init__(self, *arguments):
        self._arguments = arguments

    async def __aenter__(self):
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            GDB, "-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off", "-ex", "set width 0",
            "-ex", "set architecture riscv:rv64", *self._arguments,
            stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        await self.until(re.escape(PROMPT))
        return self

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def until(self, pattern, patience=PATIENCE):
        """What is printed up to the end of a match."""
        text = ""
        deadline = asyncio.get_running_loop().time() + patience
        while not re.search(pattern, text):
            left = deadline - asyncio.get_running_loop().time()
            data = await asyncio.wait_for(self.process.stdout.read(1), max(left, 0.001))
            if not data:
                raise AssertionError(f"gdb ended before {pattern!r} came: {text!r}")
            text += data.decode("utf-8", "replace")
        return text

    def type(self, command):
        """Gives a command that does not end by itself."""
        self.process.stdin.write(f"{command}\n".encode())

    async def does(self, command, patience=PATIENCE):
        """Gives a command, and waits for its end."""
        self.type(command)
        return await self.until(re.escape(PROMPT), patience)

    async def number(self, expression):
        """The value of an expression."""
        printed = await self.does(f"printf \"%lu\\n\", {expression}")
        return int(re.search(r"^\d+", printed)[0])

    def interrupt(self):
        """Control-C."""
        self.process.send_signal(signal.SIGINT)


class Debugged(Scenario):
    """Machines with a stub."""

    @classmethod
    def setUpClass(cls):
        if not GDB:
            raise unittest.SkipTest("gdb-multiarch is not installed")
        cls.folder = tempfile.TemporaryDirectory(prefix="dormouse-gdb-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.socket = os.path.join(cls.folder.name, "gdb")
        cls.stub = ("-gdb", f"unix:{cls.socket},server=on,wait=off")


class Guest(Debugged):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.elf = os.path.join(cls.folder.name, "guest.elf")
        if not shutil.which("riscv64-linux-gnu-gcc"):
            raise unittest.SkipTest("no cross compiler for the symbols of the embedded guest")
        binary = os.path.join(cls.folder.name, "guest.bin")
        subprocess.run([ROOT / "guest/build.sh", binary, cls.elf], check=True)
        same = pathlib.Path(binary).read_bytes() == (ROOT / "guest/dormouse-guest.bin").read_bytes()
        if not same:
            raise unittest.SkipTest("this cross compiler makes another embedded guest")

    @contextlib.asynccontextmanager
    async def attached(self, vm, first=()):
        """gdb with the guest's symbols, attached."""
        async with Gdb(self.elf) as gdb:
            for command in first:
                await gdb.does(command)
            printed = await gdb.does(f"target remote {self.socket}")
            self.assertIn("Remote debugging using", printed)
            # What attaching did is past: events come before replies.
            await vm.status()
            self.assertIn(vm.events(), ([], ["STOP"]))
            yield gdb

    async def test_break_step_registers_and_memory_from_the_first_instruction(self):
        async with Embedded("-S", *self.stub) as vm, self.attached(vm) as gdb:
            self.assertEqual(await gdb.number("$pc"), 0x8020_0000)
            self.assertIn("Supervisor", await gdb.does("info registers priv"))
            await gdb.does("break guest_main")
            self.assertRegex(await gdb.does("continue"), r"Breakpoint 1, .*guest_main")
            self.assertEqual((await vm.status(), vm.events()), ("debug", ["RESUME", "STOP"]))
            pc = await gdb.number("$pc")
            await gdb.does("stepi")
            self.assertIn(await gdb.number("$pc") - pc, (2, 4))
            self.assertEqual((await vm.status(), vm.events()), ("debug", ["RESUME", "STOP"]))
            # What is written is read, by gdb and by the guest.
            await gdb.does("set var $t6 = 0x1234567890")
            self.assertEqual(await gdb.number("$t6"), 0x1234567890)
            await gdb.does("set {int}0x80300000 = 42")
            self.assertEqual(await gdb.number("{int}0x80300000"), 42)
            self.assertIn("0x0", await gdb.does("print/x $satp"))
            for name in ("ft0", "fcsr", "sstatus", "mstatus", "stvec", "time"):
                self.assertNotIn("void", await gdb.does(f"print ${name}"), name)
            self.assertIn("Cannot access memory", await gdb.does("print {int}0x10"))
            # A function and its return.
            await gdb.does("delete")
            await gdb.does("break puts")
            await gdb.does("continue")
            self.assertRegex(await gdb.does("finish"), "Run till exit")
            self.assertEqual(await vm.status(), "debug")
            await gdb.does("detach")
            self.assertEqual(await vm.status(), "running")
            await vm.up()

    async def test_a_changed_instruction_is_executed(self):
        async with Embedded("-S", *self.stub) as vm, self.attached(vm) as gdb:
            await gdb.does("break guest_main")
            await gdb.does("continue")
            await gdb.does("delete")
            # li a0,42 and a jump to itself, where the guest's next instructions are.
            await gdb.does("set {int}$pc = 0x02a00513")
            await gdb.does("set {int}($pc+4) = 0x6f")
            await gdb.does("stepi")
            self.assertEqual(await gdb.number("$a0"), 42)
            pc = await gdb.number("$pc")
            await gdb.does("stepi 3")
            self.assertEqual(await gdb.number("$pc"), pc)

    async def test_a_watchpoint_shows_old_and_new(self):
        # The compiler numbers what is static in a function.
        name = re.search(rb"\0(spinning\.\d+)\0", pathlib.Path(self.elf).read_bytes())[1].decode()
        async with Embedded(*self.stub, harts=2) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                self.assertIn("Hardware watchpoint 1", await gdb.does(f"watch *(int*)&'{name}'"))
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("spin 2\n")
                printed = await gdb.until(re.escape(PROMPT))
                self.assertRegex(printed, r"(?s)hit Hardware watchpoint 1.*Old value = 0\s+New value = [12]\s")
                await gdb.does("delete")
                await gdb.does(f"rwatch *(int*)&'{name}'")
                self.assertIn("Hardware read watchpoint 2", await gdb.does("continue"))
                await gdb.does("detach")
            await vm.console.expect("spinning on 2 harts")
            vm.console.type("\n")
            await vm.up()

    async def test_two_harts_are_two_threads(self):
        async with Embedded(*self.stub, harts=2) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                await gdb.does("break spin_entry")
                self.assertRegex(await gdb.does("info threads"), r'"hart 1" \(stopped\)')
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("spin 2\n")
                self.assertIn('Thread 2 "hart 1" hit Breakpoint 1', await gdb.until(re.escape(PROMPT)))
                self.assertRegex(await gdb.does("info threads"), r'\* 2 .*"hart 1" \(started\).* spin_entry')
                await gdb.does("delete")
                await gdb.does("thread 1")
                first = await gdb.number("$pc")
                await gdb.does("thread 2")
                await gdb.does("set scheduler-locking on")
                for _ in range(5):
                    await gdb.does("stepi")
                self.assertEqual(await gdb.number("$mhartid"), 1)
                await gdb.does("thread 1")
                self.assertEqual(await gdb.number("$pc"), first, "it was parked all the time")
                await gdb.does("detach")
            vm.console.type("\n")
            await vm.up()

    async def test_stop_and_cont_of_a_manager_beside_gdb(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                self.assertEqual(await vm.status(), "paused")
                gdb.type("continue")
                await vm.event("RESUME")
                vm.events()
                await self.says(vm, "stop", ["STOP"], "paused")
                self.assertIn("SIGINT", await gdb.until(re.escape(PROMPT)), "gdb hears of it")
                await gdb.does("break streq")
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("clocks\n")
                self.assertIn("Breakpoint 1, ", await gdb.until(re.escape(PROMPT)))
                await vm.qmp("stop")
                self.assertEqual(await vm.status(), "debug", "the first hold names it")
                await gdb.does("delete")
                vm.events()
                # The manager lifts the debugger's hold; gdb's next word stops the machine again.
                await self.says(vm, "cont", ["RESUME"], "running")
                await vm.console.expect(r"epoch ")
                await vm.up()
                await gdb.does("print {int}0x80300000")
                self.assertEqual((await vm.status(), vm.events()), ("paused", ["STOP"]))
                await gdb.does("detach")
                self.assertEqual(await vm.status(), "running")
            await vm.alive()

    async def test_control_c_interrupts(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                gdb.type("continue")
                await vm.event("RESUME")
                gdb.interrupt()
                self.assertIn("SIGINT", await gdb.until(re.escape(PROMPT)))
                self.assertEqual(await vm.status(), "paused")

    async def test_gdb_that_is_killed_leaves_the_machine_running(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                await gdb.does("break streq")
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("clocks\n")
                await gdb.until(re.escape(PROMPT))
                vm.events()
                gdb.process.kill()
                await vm.event("RESUME")
            await vm.console.expect(r"epoch ")
            await vm.up()
            await vm.alive()
            # And the next one is served, while the manager's own hold would have stayed.
            await vm.qmp("stop")
            async with self.attached(vm) as gdb:
                gdb.process.kill()
                await gdb.process.wait()
            self.assertEqual(await vm.status(), "paused")

    async def test_b11_continue_leaves_the_guest_asleep(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            await vm.fall_asleep()
            async with self.attached(vm) as gdb:
                self.assertEqual(await vm.status(), "paused")
                gdb.type("continue")
                await vm.event("RESUME")
                await vm.event("SUSPEND")
                self.assertEqual(await vm.status(), "suspended")
                gdb.interrupt()
                await gdb.until(re.escape(PROMPT))
                self.assertEqual(await vm.status(), "paused")
                await gdb.does("break resume")
                vm.events()
                gdb.type("continue")
                await vm.event("RESUME")
                await vm.event("SUSPEND")
                await vm.qmp("system_wakeup")
                await vm.event("WAKEUP")
                self.assertIn("Breakpoint 1", await gdb.until(re.escape(PROMPT)))
                await gdb.does("detach")
            await vm.awake()

    async def test_a_machine_that_needs_a_reset_says_so_to_gdb(self):
        async with Embedded("-no-shutdown", *self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("poweroff\n")
                self.assertIn("SIGQUIT", await gdb.until(re.escape(PROMPT)))
                self.assertEqual(await vm.status(), "shutdown")
                printed = await gdb.does("continue")
                self.assertIn("Resetting the Virtual Machine is required", printed)
                self.assertEqual(await vm.status(), "shutdown")
                await gdb.does("break guest_main")
                await vm.qmp("system_reset")
                self.assertIn("Breakpoint 1, ", await gdb.does("continue"), "it outlives the reset")
                await gdb.does("detach")
            await vm.up()

    async def test_monitor_lines_and_the_end(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                self.assertIn("VM status: paused", await gdb.does("monitor info status"))
                self.assertIn("unknown command", await gdb.does("monitor frob"))
                gdb.type("continue")
                await vm.event("RESUME")
                await vm.qmp("quit")
                self.assertIn("exited normally", await gdb.until(re.escape(PROMPT)))
            self.assertEqual(await vm.exit_status(), 0)

    async def test_kill_ends_the_machine(self):
        async with Embedded(*self.stub) as vm:
            await vm.up()
            async with self.attached(vm) as gdb:
                await gdb.does("kill")
                self.assertEqual(await vm.exit_status(), 0)

    async def test_gdbserver_of_the_human_monitor(self):
        def human(line):
            return vm.qmp("human-monitor-command", command_line=line)

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        async with Embedded() as vm:
            await vm.up()
            place = f"tcp:127.0.0.1:{port}"
            said = await human(f"gdbserver {place}")
            self.assertEqual(said, f"Waiting for gdb connection on device '{place}'\r\n")
            async with Gdb(self.elf) as gdb:
                await gdb.does(f"target remote 127.0.0.1:{port}")
                self.assertEqual((await vm.status(), vm.events()), ("paused", ["STOP"]))
                self.assertEqual(await human("gdbserver none"), "Disabled gdbserver\r\n")
                await vm.event("RESUME")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), PATIENCE)
            self.assertIn("Could not open gdbserver", await human("gdbserver tcp:x"))
            await vm.alive()


class Linux(Debugged):
    async def test_a_function_of_the_kernel(self):
        async with Debian(*self.stub, harts=2) as vm:
            await vm.up()
            printed = await vm.console.shell("grep ' ksys_sync$' /proc/kallsyms")
            address = re.search(r"([0-9a-f]{16}) [Tt] ksys_sync", printed)
            self.assertIsNotNone(address, printed)
            async with Gdb() as gdb:
                await gdb.does(f"target remote {self.socket}")
                await gdb.does(f"break *0x{address[1]}")
                vm.events()
                gdb.type("continue")
                await vm.event("RESUME")
                vm.console.type("sync; echo synced-$?.\n")
                self.assertIn("hit Breakpoint 1", await gdb.until(re.escape(PROMPT), BOOT_PATIENCE))
                self.assertEqual(await vm.status(), "debug")
                self.assertEqual(await gdb.number("$pc"), int(address[1], 16))
                self.assertEqual(await gdb.number("$priv"), 1)
                for _ in range(20):
                    await gdb.does("stepi")
                await gdb.does("delete")
                await gdb.does("detach")
            await vm.console.expect(r"synced-0\.")
            await vm.alive()
