"""Other people's clients: qemu.qmp's shell, its mode for the human monitor and its wrapper, a daemon that is connected to."""

import asyncio
import contextlib
import json
import os
import pathlib
import sys
import tempfile

from vm import PATIENCE, PROGRAM, Machine, Scenario

TOOLS = pathlib.Path(sys.executable).parent

# The least that is a machine; the guest of its own is at its prompt, or not yet begun with -S.
SMALL = ("-machine", "virt", "-nodefaults", "-display", "none", "-serial", "null")


async def run(*command, lines, folder):
    """Runs a tool with these lines on its standard input; gives what it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT,
        cwd=folder, env={**os.environ, "HOME": folder},
    )  # fmt: skip
    typed = "".join(f"{line}\n" for line in lines).encode()
    printed, _ = await asyncio.wait_for(process.communicate(typed), PATIENCE)
    return printed.decode()


class Shell(Scenario):
    async def asyncSetUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-shell-"))
        self.path = os.path.join(self.folder, "second")
        machine = Machine("-S", "-qmp", f"unix:{self.path},server=on,wait=off")
        self.vm = await self.enterAsyncContext(machine)

    async def shell(self, *options, lines):
        return await run(str(TOOLS / "qmp-shell"), *options, self.path, lines=lines, folder=self.folder)

    async def test_qmp_shell(self):
        lines = ["query-status", "cont", "query-status", "system_wakeup", "set-action reboot=shutdown", "nosuch", "stop x=1"]
        printed = await self.shell(lines=lines)
        self.assertIn("Connected to QEMU 10.0.2", printed)
        answers = [json.loads(line.split(") ", 1)[1]) for line in printed.splitlines() if line.startswith("(QEMU) {")]
        refused = [answer.get("error", {}).get("desc") for answer in answers]
        self.assertEqual(answers[0]["return"], {"running": False, "status": "prelaunch"})
        self.assertEqual(answers[2]["return"], {"running": True, "status": "running"})
        self.assertEqual(refused[:3] + refused[4:5], [None] * 4)
        self.assertEqual(refused[3], "Unable to wake up: guest is not in suspended state")
        self.assertEqual(refused[5:], ["The command nosuch has not been found", "Parameter 'x' is unexpected"])
        # Its connection has ended, and the next client is served.
        self.assertIn('"status": "running"', await self.shell("-v", lines=["query-status"]))
        self.assertEqual(await self.vm.status(), "running")

    async def test_qmp_shell_for_the_human_monitor(self):
        lines = ["info status", "cont", "info status", "stop", "info status", "frob", "stop now", "help stop", "info version", "cpu 0"]
        printed = await self.shell("-H", lines=lines)
        self.assertIn("Welcome to the HMP shell!", printed)
        states = [line for line in printed.splitlines() if "VM status" in line]
        self.assertEqual([state.split("VM status: ")[1] for state in states], ["paused (prelaunch)", "running", "paused"])
        for text in ("unknown command: 'frob'", "extraneous characters at the end of line", "stop|s  -- stop the machine", "10.0.2"):
            self.assertIn(text, printed)
        self.assertNotIn("Traceback", printed)
        self.assertNotIn("CommandNotFound", printed)

    async def test_pretty_shell(self):
        printed = await self.shell("-p", lines=["query-kvm"])
        self.assertIn('"enabled": false', printed)


class Wrapper(Scenario):
    """The wrapper listens and starts the program, whose monitor connects to it."""

    async def wrapped(self, *options, lines):
        with tempfile.TemporaryDirectory(prefix="dormouse-wrap-") as folder:
            command = (str(TOOLS / "qmp-shell-wrap"), *options, "--", os.path.abspath(PROGRAM), *SMALL, "-S")
            return await run(*command, lines=lines, folder=folder)

    async def test_qmp_shell_wrap(self):
        printed = await self.wrapped(lines=["query-status", "cont", "query-status", "quit"])
        for text in ("Connected", '"status": "prelaunch"', '"status": "running"'):
            self.assertIn(text, printed)

    async def test_qmp_shell_wrap_for_the_human_monitor(self):
        printed = await self.wrapped("-H", lines=["info status", "cont", "info status", "q"])
        for text in ("VM status: paused (prelaunch)", "VM status: running"):
            self.assertIn(text, printed)


class Client(Scenario):
    async def test_descriptors_and_commands_out_of_band(self):
        async with Machine("-S") as vm:
            reader, writer = os.pipe()
            with contextlib.ExitStack() as stack:
                stack.callback(os.close, reader)
                vm.client.send_fd_scm(writer)
                os.close(writer)
                await vm.qmp("getfd", fdname="pipe")
                # Out of band; and it is a round trip behind the descriptor.
                yank = await vm.client.execute("query-yank", oob=True)
                self.assertEqual(yank, [{"type": "chardev", "id": "compat_monitor0"}])
                await vm.qmp("closefd", fdname="pipe")
                self.assertEqual(os.read(reader, 1), b"", "the program has closed its end")
            await vm.refused("closefd", "File descriptor named 'pipe' not found", fdname="pipe")


class Daemon(Scenario):
    """A daemon that listens, and that the monitor connects to, again whenever it is there."""

    async def test_a_monitor_connects_and_connects_again(self):
        with tempfile.TemporaryDirectory(prefix="dormouse-daemon-") as folder:
            path = os.path.join(folder, "daemon")
            arrived = asyncio.Queue()
            chardev = f"socket,id=event,path={path},reconnect-ms=20"
            # It is not there when the program starts.
            async with Machine("-S", "-chardev", chardev, "-mon", "chardev=event,mode=control") as vm:
                for state in ("prelaunch", "running"):
                    async with await asyncio.start_unix_server(lambda *ends: arrived.put_nowait(ends), path):
                        reader, writer = await asyncio.wait_for(arrived.get(), PATIENCE)
                        self.assertIn("QMP", json.loads(await reader.readline()))
                        writer.write(b'{"execute":"qmp_capabilities"}{"execute":"query-status"}')
                        self.assertEqual(json.loads(await reader.readline()), {"return": {}})
                        self.assertEqual(json.loads(await reader.readline())["return"]["status"], state)
                        if state == "prelaunch":
                            await vm.qmp("cont")
                            self.assertEqual(json.loads(await reader.readline())["event"], "RESUME")
                        else:
                            await vm.qmp("quit")
                            event = json.loads(await reader.readline())
                            self.assertEqual((event["event"], event["data"]["guest"]), ("SHUTDOWN", False))
                            self.assertEqual(await reader.readline(), b"")
                        writer.close()
                    os.unlink(path)
                self.assertEqual(await vm.exit_status(), 0)
