"""What is wrong is told in one line with exit status 1, or is a trap of the guest; never a panic, never a hang."""

import asyncio
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest

from vm import DEBIAN, PROGRAM, ROOT, Embedded, Machine, Scenario

HERE = pathlib.Path(__file__).resolve().parent


def image(code, size=0x1000, text_offset=0x200000):
    """A boot image with these instruction words behind its header; the header jumps there."""
    head = (0x0400006F).to_bytes(4, "little") + (0x13).to_bytes(4, "little")
    head += text_offset.to_bytes(8, "little") + size.to_bytes(8, "little") + bytes(8)
    head += (2).to_bytes(4, "little") + bytes(12) + b"RISCV\0\0\0" + b"RSC\x05" + bytes(4)
    assert len(head) == 64
    return head + b"".join(word.to_bytes(4, "little") for word in code)


class CommandLine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def run_program(self, *arguments):
        return subprocess.run(
            [PROGRAM, "-machine", "virt", "-nodefaults", "-display", "none", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def refused(self, *arguments, text=None):
        """The program must end with status 1 and one line of explanation (a second may give a hint)."""
        with self.subTest(arguments=" ".join(arguments)):
            done = self.run_program(*arguments)
            error = done.stderr.decode("utf-8", "replace")
            lines = [line for line in error.splitlines() if line.strip()]
            self.assertEqual(done.returncode, 1, error)
            self.assertIn(len(lines), (1, 2), error)
            self.assertTrue(lines[0].startswith("dormouse: "), error)
            self.assertNotIn("panicked", error)
            if text:
                self.assertIn(text, error)

    def test_kernels(self):
        good = image([0x10500073, 0xFFDFF06F])  # wfi; jump back
        self.refused("-kernel", "/nope", text="could not load kernel '/nope'")
        self.refused("-kernel", str(self.folder))
        self.refused("-kernel", self.file("empty", b""))
        self.refused("-kernel", self.file("short", good[:40]))
        self.refused("-kernel", self.file("foreign", pathlib.Path("/proc/self/exe").read_bytes()))
        self.refused("-kernel", self.file("huge-claim", image([0x13], size=1 << 60)))
        self.refused("-kernel", self.file("far", image([0x13], text_offset=1 << 62)))
        sparse = self.folder / "sparse"
        sparse.write_bytes(good)
        os.truncate(sparse, 4 << 30)
        self.refused("-m", "64M", "-kernel", str(sparse))
        elf = bytearray(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xf3\0\x01\0\0\0" + b"\xff" * 40)
        self.refused("-kernel", self.file("broken-elf", bytes(elf)))

    def test_initrds_and_trees(self):
        kernel = str(ROOT / "guest/dormouse-guest.bin")
        self.refused("-kernel", kernel, "-initrd", "/nope", text="/nope")
        huge = self.folder / "huge"
        huge.touch()
        os.truncate(huge, 4 << 30)
        self.refused("-m", "64M", "-kernel", kernel, "-initrd", str(huge))
        self.refused("-kernel", kernel, "-dtb", "/nope", text="/nope")
        self.refused("-kernel", kernel, "-dtb", self.file("no-tree", b"not a tree" * 10))
        self.refused("-kernel", kernel, "-dtb", self.file("cut-tree", b"\xd0\x0d\xfe\xed\x7f\xff\xff\xff" + bytes(56)))

    def test_sizes_and_counts(self):
        self.refused("-m", "1M")
        self.refused("-m", "many")
        self.refused("-m", "16777216T")
        self.refused("-smp", "0")
        self.refused("-smp", "5000", text="Invalid SMP CPUs 5000")
        self.refused("-smp", "two")

    def test_names_and_values(self):
        self.refused("-nonsense", text="-nonsense: invalid option")
        self.refused("-machine", "foo", text='unsupported machine type: "foo"')
        self.refused("-cpu", "foo", text="unable to find CPU model 'foo'")
        self.refused("-device", "foo", text="'foo' is not a valid device model name")
        self.refused("-append", "x", text="-append only allowed with -kernel option")
        self.refused("-action", "reboot=maybe")
        self.refused("-rtc", "clock=sundial")
        self.refused("-serial", "nonsense:")
        self.refused("-kernel")

    def test_sockets(self):
        self.refused("-qmp", f"unix:{self.folder}/none/qmp,server=on,wait=off")
        self.refused("-qmp", f"unix:{self.folder}/{'x' * 200},server=on,wait=off")
        self.refused("-qmp", f"unix:{self.folder}/nobody-listens")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refused("-qmp", f"tcp:127.0.0.1:{taken.getsockname()[1]},server=on,wait=off")


class Wire(unittest.IsolatedAsyncioTestCase):
    """A monitor that is spoken to badly goes on, and so does the machine."""

    async def talk(self, vm, data):
        """Sends bytes on a fresh connection, then asks for the status; gives the lines before that answer."""
        reader, writer = await asyncio.open_unix_connection(vm.socket, limit=1 << 26)
        await reader.readline()
        writer.write(b'{"execute":"qmp_capabilities"}')
        await reader.readline()
        writer.write(data + b'\xff{"execute":"query-status","id":"after"}')
        lines = []
        while True:
            line = await asyncio.wait_for(reader.readline(), 60)
            self.assertTrue(line, f"the monitor closed after {data[:60]!r}")
            answer = json.loads(line)
            if answer.get("id") == "after":
                writer.close()
                self.assertEqual(answer["return"]["status"], "running")
                return lines
            lines.append(answer)

    async def test_malformed_commands(self):
        cases = [
            b"hello ", b"{", b"}", b"[" * 5000, b'{"execute":5}', b'{"execute":"stop","arguments":5}',
            b'{"arguments":{}}', b'{"execute":"nothing-like-it"}', b'{"execute":"stop","extra":1}', b'"\x01"', b"\x00",
            b"\xff\xff\xff", b'{"a":"\\ud800"}', b"GET / HTTP/1.1\r\n\r\n", b'{"execute":"stop","arguments":{"x":1}}',
            b'"' + b"x" * (4 << 20), b"[1," * 100000,
        ]  # fmt: skip
        async with Embedded() as vm:
            await vm.up()
            await vm.client.disconnect()
            vm.client = None
            for case in cases:
                with self.subTest(case=case[:40]):
                    lines = await self.talk(vm, case)
                    self.assertTrue(lines, "no error was reported")
                    self.assertTrue(all("error" in line or "event" in line for line in lines), lines[:3])
                    self.assertLess(len(lines), 100, "one broken value gave an avalanche of errors")

    async def test_commands_glued_together(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.client.disconnect()
            vm.client = None
            lines = await self.talk(vm, b'{"execute":"query-status"}' * 1000)
            self.assertEqual(len([line for line in lines if "return" in line]), 1000)

    async def test_silent_client_holds_nobody_up(self):
        with tempfile.TemporaryDirectory() as folder:
            address = os.path.join(folder, "silent")
            async with Embedded("-qmp", f"unix:{address},server=on,wait=off") as vm:
                await vm.up()
                with socket.socket(socket.AF_UNIX) as silent:
                    silent.connect(address)
                    silent.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-commands"}' * 200)
                    for _ in range(2000):
                        await vm.qmp("stop")
                        await vm.qmp("cont")
                await vm.alive()


class WildGuests(Scenario):
    """A guest that goes wrong harms itself alone: the machine can be asked, stopped, reset and ended."""

    async def manageable(self, *arguments):
        async with Machine(*arguments) as vm:
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "cont", ["RESUME"], "running")
            await self.says(vm, "system_reset", ["RESET"], "running")
            await vm.qmp("quit")
            self.assertEqual(await vm.exit_status(), 0)

    async def test_code_that_goes_nowhere(self):
        programs = {
            "jumps to nothing": [0x00000067],
            "jumps out of memory": [0x0010029B, 0x03F29293, 0x00028067],  # addiw t0,zero?,1; slli t0,t0,63; jr t0
            "illegal instruction": [0x00000000],
            "traps into itself": [0x00000297, 0x10529073, 0x00000000],  # auipc t0,0; csrw stvec,t0; illegal
            "maps garbage": [0xFFF00293, 0x18029073, 0x12000073, 0x0000006F],  # satp = all ones; sfence.vma; loop
            "Sv39 with a root in no memory": [0x0080029B, 0x03C29293, 0x0FF2E293, 0x18029073, 0x12000073, 0x0000006F],
            "endless loop": [0x0000006F],
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, code in programs.items():
                with self.subTest(name):
                    path = pathlib.Path(folder) / "kernel"
                    path.write_bytes(image(code))
                    await self.manageable("-kernel", str(path))

    async def test_every_device_register_hammered(self):
        gcc = shutil.which("riscv64-linux-gnu-gcc")
        if not gcc:
            self.skipTest("riscv64-linux-gnu-gcc is not installed")
        with tempfile.TemporaryDirectory() as folder:
            elf, flat = f"{folder}/hammer.elf", f"{folder}/hammer.bin"
            subprocess.run(
                [gcc, "-nostdlib", "-static", "-no-pie", "-march=rv64gc", "-Wl,-Ttext=0x80200000,--build-id=none",
                 "-o", elf, str(HERE / "guests/hammer.S")], check=True,
            )  # fmt: skip
            subprocess.run([gcc.replace("gcc", "objcopy"), "-O", "binary", "-j", ".text", elf, flat], check=True)
            async with Machine("-kernel", flat) as vm:
                await vm.console.expect("HAMMERED", 120)
                self.assertEqual(await vm.status(), "running")
                await vm.qmp("quit")
                self.assertEqual(await vm.exit_status(), 0)

    @unittest.skipUnless(DEBIAN, "no Debian guest")
    async def test_kernel_without_room(self):
        done = subprocess.run(
            [PROGRAM, "-nodefaults", "-display", "none", "-m", "16M", "-kernel", f"{DEBIAN}/Image"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertNotIn(b"panicked", done.stderr)
