"""The process as a manager or a person at a terminal has it: sockets, signals, background, end, terminal."""

import asyncio
import json
import os
import pathlib
import pty
import re
import select
import signal
import stat
import subprocess
import tempfile
import termios
import time
import unittest

from vm import NEEDS_RESET, PATIENCE, PROGRAM, Embedded, Scenario

MACHINE = ["-machine", "virt", "-nodefaults", "-display", "none"]


class Wire:
    """A monitor spoken to byte by byte, where the order on the wire is what is tested."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def unix(cls, path):
        """Connects; the greeting is not read yet."""
        return cls(*await asyncio.open_unix_connection(path))

    async def line(self):
        """The next line, decoded; None at the end of the connection."""
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        return json.loads(line) if line else None

    async def say(self, **command):
        """Sends a command and gives all lines up to its reply."""
        self.writer.write(json.dumps({**command, "id": "it"}).encode())
        lines = []
        while (line := await self.line()) is not None:
            lines.append(line)
            if line.get("id") == "it":
                break
        return lines

    async def negotiate(self):
        """Reads the greeting and leaves capabilities negotiation."""
        greeting = await self.line()
        await self.say(execute="qmp_capabilities")
        return greeting["QMP"]


async def gone(pid_descriptor):
    """Waits for the end of a process that may not be our child."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pid_descriptor, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), PATIENCE)
    finally:
        loop.remove_reader(pid_descriptor)
        os.close(pid_descriptor)


class Monitors(Scenario):
    async def test_greeting_names_the_version_and_quit_answers_before_the_end(self):
        async with Embedded() as vm:
            await vm.client.disconnect()
            vm.client = None
            wire = await Wire.unix(vm.socket)
            greeting = await wire.negotiate()
            self.assertEqual(greeting["version"]["qemu"]["major"], 10)
            self.assertIn("dormouse", greeting["version"]["package"])
            event, reply = await wire.say(execute="quit")
            self.assertEqual(event["event"], "SHUTDOWN")
            self.assertEqual(event["data"], {"guest": False, "reason": "host-qmp-quit"})
            self.assertEqual(reply, {"return": {}, "id": "it"})
            self.assertIsNone(await wire.line(), "something came after the reply of quit")
            self.assertEqual(await vm.exit_status(), 0)

    async def test_quit_is_told_to_every_monitor(self):
        with tempfile.TemporaryDirectory() as folder:
            address = os.path.join(folder, "second")
            async with Embedded("-qmp", f"unix:{address},server=on,wait=off") as vm:
                second = await Wire.unix(address)
                await second.negotiate()
                await vm.qmp("quit")
                event = await second.line()
                self.assertEqual((event["event"], event["data"]["reason"]), ("SHUTDOWN", "host-qmp-quit"))
                self.assertIsNone(await second.line())

    async def test_qmp_on_standard_streams(self):
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *MACHINE, "-qmp", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        wire = Wire(process.stdout, process.stdin)
        await wire.negotiate()
        self.assertEqual((await wire.say(execute="query-status"))[-1]["return"]["status"], "running")
        await wire.say(execute="quit")
        self.assertEqual(await asyncio.wait_for(process.wait(), PATIENCE), 0)

    async def test_human_monitor_on_a_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            address = os.path.join(folder, "human")
            async with Embedded("-monitor", f"unix:{address},server=on,wait=off") as vm:
                await vm.up()
                reader, writer = await asyncio.open_unix_connection(address)

                async def until(text):
                    return (await asyncio.wait_for(reader.readuntil(text.encode()), PATIENCE)).decode()

                self.assertRegex(await until("(qemu) "), r"^dormouse .*monitor - type 'help' for more information\r\n")
                writer.write(b"info status\n")
                self.assertIn("VM status: running\r\n", await until("\r\n(qemu) "))
                writer.write(b"stop\n")
                await until("\r\n(qemu) ")
                self.assertEqual(vm.events(), ["STOP"])
                writer.write(b"cont\n")
                await until("\r\n(qemu) ")
                self.assertEqual(vm.events(), ["RESUME"])
                writer.write(b"nonsense\n")
                self.assertIn("unknown command: 'nonsense'\r\n", await until("\r\n(qemu) "))
                writer.write(b"quit\n")
                self.assertEqual(await vm.event("SHUTDOWN"), {"guest": False, "reason": "host-qmp-quit"})
                self.assertEqual(await vm.exit_status(), 0)

    async def test_sockets_are_private_and_removed(self):
        async with Embedded() as vm:
            self.assertEqual(stat.S_IMODE(os.stat(vm.socket).st_mode), 0o600)
            await vm.qmp("quit")
            await vm.exit_status()
            self.assertFalse(os.path.exists(vm.socket))

    async def test_start_is_no_event(self):
        # A client is heard only when the machine runs: whether it hears the RESUME of the start is no matter of luck.
        for _ in range(20):
            async with Embedded() as vm:
                self.assertEqual(await vm.status(), "running")
                self.assertEqual(vm.events(), [])


class Actions(Scenario):
    async def test_reboot_action_shuts_down(self):
        async with Embedded("-action", "reboot=shutdown,shutdown=pause") as vm:
            await vm.up()
            vm.console.type("reset\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-reset"})
            await vm.event("STOP")
            self.assertEqual(await vm.status(), "shutdown")
            await vm.refused("cont", NEEDS_RESET)
            await vm.qmp("set-action", reboot="reset")
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()

    async def test_no_reboot_ends_at_a_managers_reset(self):
        async with Embedded("-no-reboot") as vm:
            await vm.up()
            await vm.qmp("system_reset")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": False, "reason": "host-qmp-system-reset"})
            self.assertEqual(await vm.exit_status(), 0)

    async def test_set_action_keeps_a_machine_that_shuts_down(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.qmp("set-action", shutdown="pause")
            vm.console.type("poweroff\n")
            self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
            await vm.event("STOP")
            self.assertEqual(await vm.status(), "shutdown")


class Process(Scenario):
    async def test_every_terminating_signal_ends_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for before in ("running", "stopped", "asleep"):
                with self.subTest(number=number.name, before=before):
                    async with Embedded("-no-shutdown") as vm:
                        await vm.up()
                        if before == "stopped":
                            await vm.qmp("stop")
                        elif before == "asleep":
                            await vm.fall_asleep()
                        vm.events()
                        vm.process.send_signal(number)
                        self.assertEqual(
                            await vm.event("SHUTDOWN"), {"guest": False, "reason": "host-signal"}
                        )
                        self.assertEqual(await vm.exit_status(), 0)
                        self.assertEqual(vm.events(), [])

    async def test_signal_ends_the_wait_for_the_first_client(self):
        with tempfile.TemporaryDirectory() as folder:
            sock = os.path.join(folder, "qmp")
            command = [PROGRAM, *MACHINE, "-qmp", f"unix:{sock},server=on,wait=on"]
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            line = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
            self.assertIn(b"waiting for connection", line)
            process.terminate()
            self.assertEqual(await asyncio.wait_for(process.wait(), PATIENCE), 0)
            self.assertFalse(os.path.exists(sock))

    async def test_signal_ends_a_machine_whose_standard_error_nobody_reads(self):
        with tempfile.TemporaryDirectory() as folder:
            sock = os.path.join(folder, "qmp")
            command = [PROGRAM, *MACHINE, "-S", "-qmp", f"unix:{sock},server=on,wait=on"]
            reader, writer = os.pipe()
            process = await asyncio.create_subprocess_exec(*command, stderr=writer)
            os.close(writer)
            with os.fdopen(reader, "rb") as messages:
                self.assertIn(b"waiting for connection", messages.readline())
            # The reader has gone.
            wire = await Wire.unix(sock)
            await wire.negotiate()
            process.terminate()
            self.assertEqual(await asyncio.wait_for(process.wait(), PATIENCE), 0)
            wire.writer.close()

    async def test_pidfile_comes_and_goes(self):
        with tempfile.TemporaryDirectory() as folder:
            pidfile = pathlib.Path(folder) / "pid"
            async with Embedded("-pidfile", str(pidfile)) as vm:
                await vm.up()
                self.assertEqual(pidfile.read_text(), f"{vm.process.pid}\n")
                await vm.qmp("quit")
                self.assertEqual(await vm.exit_status(), 0)
            self.assertFalse(pidfile.exists())

    async def test_daemon_can_be_talked_to_when_the_parent_ends(self):
        with tempfile.TemporaryDirectory() as folder:
            pidfile, address = pathlib.Path(folder) / "pid", f"{folder}/qmp"
            done = await asyncio.to_thread(
                subprocess.run,
                [PROGRAM, *MACHINE, "-daemonize", "-pidfile", "pid", "-qmp", "unix:qmp,server=on,wait=off"],
                cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            process = os.pidfd_open(int(pidfile.read_text()))
            wire = await Wire.unix(address)
            await wire.negotiate()
            self.assertEqual((await wire.say(execute="query-status"))[-1]["return"]["status"], "running")
            await wire.say(execute="quit")
            self.assertIsNone(await wire.line())
            await gone(process)
            self.assertFalse(pidfile.exists())
            self.assertFalse(os.path.exists(address), "the socket is left behind")

    async def test_daemon_that_cannot_start_says_so_through_its_parent(self):
        done = await asyncio.to_thread(
            subprocess.run,
            [PROGRAM, *MACHINE, "-daemonize", "-kernel", "/nope"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"could not load kernel '/nope'", done.stderr)

    async def test_waiting_guest_uses_no_cpu(self):
        async with Embedded(harts=2) as vm:
            await vm.up()
            self.assertLess(await vm.busy(), 0.05, "waiting harts use the CPU")


class Terminal(unittest.TestCase):
    """`-nographic` on a pseudo-terminal."""

    def setUp(self):
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.before = termios.tcgetattr(self.slave)
        self.text, self.looked = "", 0

    def start(self, *arguments):
        process = subprocess.Popen(
            [PROGRAM, "-machine", "virt", "-nographic", *arguments],
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Reads until the pattern has come after what was expected last."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.compile(pattern).search(self.text, self.looked)):
            ready = select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]
            self.assertTrue(ready, f"{pattern!r} did not come: {self.text[-500:]!r}")
            self.text += os.read(self.master, 4096).decode("utf-8", "replace")
        self.looked = match.end()
        return match

    def ends_as_it_was(self, process):
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(termios.tcgetattr(self.slave), self.before, "the terminal is not as it was")

    def test_escape_keys(self):
        process = self.start()
        self.expect("dormouse> ")
        self.assertNotEqual(termios.tcgetattr(self.slave), self.before, "the terminal is not in raw mode")
        self.type("\x01h")
        self.expect("C-a x")
        self.type("\x01c")
        self.expect("dormouse .*monitor - type 'help'")
        self.expect(r"\(qemu\) ")
        self.type("info status\r")
        self.expect("VM status: running")
        self.expect(r"\(qemu\) ")
        self.type("\x01c")
        self.type("clocks\r")
        self.expect(r"epoch [0-9.]+ s")
        self.type("\x03")  # an ordinary key for the guest
        self.expect("dormouse> ")
        self.type("\x01x")
        self.ends_as_it_was(process)

    def test_terminal_is_put_back_after_a_signal(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number.name):
                process = self.start()
                self.expect("dormouse> ")
                process.send_signal(number)
                self.ends_as_it_was(process)

    def test_terminal_is_put_back_after_a_power_off(self):
        process = self.start()
        self.expect("dormouse> ")
        self.type("poweroff\r")
        self.ends_as_it_was(process)

    def test_terminal_is_put_back_after_an_error(self):
        process = self.start("-kernel", "/nope")
        self.assertEqual(process.wait(PATIENCE), 1)
        self.expect("dormouse: .*could not load kernel '/nope'")
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
