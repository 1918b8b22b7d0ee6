"""A machine under test: the program as a process, its console on pipes, its monitor spoken to by qemu.qmp.

Nothing here sleeps to let something happen: a test waits for a text, an event or the end of the process, with a
deadline that is generous because it is reached only by a failure. Ten seconds of guest life are had by moving the
host's clocks as the program sees them (`-x-test-clock on`, `x-test-clock-advance`).
"""

import asyncio
import contextlib
import os
import pathlib
import re
import tempfile
import time
import unittest

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("DORMOUSE", str(ROOT / "target/release/dormouse"))
DEBIAN = os.environ.get("DORMOUSE_DEBIAN_GUEST")

PATIENCE = 120.0  # seconds for what takes milliseconds
BOOT_PATIENCE = 180.0  # seconds for a Linux boot on a busy machine

LIFECYCLE = (
    "STOP", "RESUME", "SUSPEND", "WAKEUP", "RESET", "SHUTDOWN", "POWERDOWN",
    "GUEST_PANICKED", "GUEST_CRASHLOADED", "GUEST_PVSHUTDOWN", "WATCHDOG", "DUMP_COMPLETED",
)  # fmt: skip

NOT_ASLEEP = "Unable to wake up: guest is not in suspended state"
NEEDS_RESET = "Resetting the Virtual Machine is required"


class Console:
    """Both directions of the serial console. Keeps all that came, for the report of a failure."""

    def __init__(self, process):
        self._process = process
        self._text = ""
        self._looked = 0
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._read())
        self._marks = 0

    async def _read(self):
        while data := await self._process.stdout.read(4096):
            async with self._news:
                self._text += data.decode("utf-8", "replace")
                self._news.notify_all()
        async with self._news:
            self._process.stdout.feed_eof()
            self._news.notify_all()

    def type(self, text):
        """Types on the console."""
        self._process.stdin.write(text.encode())

    async def expect(self, pattern, patience=PATIENCE):
        """Waits for a regular expression after what was expected last, and gives the match."""
        async with self._news:
            deadline = asyncio.get_running_loop().time() + patience
            while not (match := re.compile(pattern).search(self._text, self._looked)):
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or self._process.stdout.at_eof():
                    raise AssertionError(f"{pattern!r} did not come; the console ends: {self._text[-1500:]!r}")
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), left)
            self._looked = match.end()
            return match

    async def shell(self, command, patience=PATIENCE):
        """Runs a shell command in a Linux guest and gives what it printed; it must succeed."""
        self._marks += 1
        mark = self._marks
        # What is echoed while typing has $?, so that only the answer matches.
        self.type(f"{command}; echo ended-$?-{mark}.\n")
        start = self._looked
        match = await self.expect(rf"ended-(\d+)-{mark}\.", patience)
        printed = self._text[start : match.start()]
        if match[1] != "0":
            raise AssertionError(f"{command!r} gave {match[1]}: {printed!r}")
        return printed

    @property
    def text(self):
        """All that came so far."""
        return self._text


class Machine:
    """A running program. Use as `async with Machine(...) as vm`; it is killed at the end if it is still there."""

    def __init__(self, *arguments, test_clock=True, memory="256M", harts=1, serial="stdio", inherited=()):
        self._folder = tempfile.TemporaryDirectory(prefix="dormouse-e2e-")
        self.socket = os.path.join(self._folder.name, "qmp")
        self._inherited = inherited
        self._arguments = [
            "-machine", "virt", "-nodefaults", "-display", "none", "-serial", serial,
            "-m", memory, "-smp", str(harts), "-qmp", f"unix:{self.socket},server=on,wait=off",
            *arguments,
        ]  # fmt: skip
        if test_clock:
            self._arguments += ["-x-test-clock", "on"]
        self.client = None

    async def __aenter__(self):
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM, *self._arguments, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=self._inherited
        )
        self.console = Console(self.process)
        try:
            self.client, self._listener = await self.connect("first")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_):
        await self._end()

    async def _end(self):
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        if self.client:
            # The process is gone; how the connection took it says nothing about what was tested.
            with contextlib.suppress(Exception):
                await self.client.disconnect()
        self._folder.cleanup()

    async def connect(self, name):
        """Connects a client to the monitor as soon as it listens; gives the client and its listener."""
        client, listener = QMPClient(name), EventListener(names=set(LIFECYCLE))
        client.register_listener(listener)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                await asyncio.wait_for(client.connect(self.socket), PATIENCE)
                break
            except ConnectError:
                # Not listening yet, or never to listen.
                if self.process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                    error = (await self.process.stderr.read()).decode()
                    raise AssertionError(f"no monitor; exit status {self.process.returncode}: {error}") from None
                await asyncio.sleep(0.005)
        return client, listener

    # ---- the monitor ----

    async def qmp(self, command, **arguments):
        """Executes a command; `_` in argument names stands for `-`. An error reply is raised."""
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await asyncio.wait_for(self.client.execute(command, arguments), PATIENCE)

    async def refused(self, command, text, **arguments):
        """Executes a command that must be refused with this GenericError."""
        try:
            answer = await self.qmp(command, **arguments)
        except ExecuteError as error:
            if (error.error_class, str(error)) != ("GenericError", text):
                raise AssertionError(f"{command}: {error.error_class}: {error}") from error
            return
        raise AssertionError(f"{command} was not refused: {answer}")

    async def hmp(self, line):
        """A line for the human monitor."""
        return await self.qmp("human-monitor-command", command_line=line)

    def events(self):
        """The names of the lifecycle events that have arrived; a command's own are there when its reply is."""
        return [event["event"] for event in self._listener.clear()]

    async def event(self, name, patience=PATIENCE):
        """Waits for the next lifecycle event, which must have this name; gives its data."""
        try:
            event = await asyncio.wait_for(self._listener.get(), patience)
        except asyncio.TimeoutError:
            raise AssertionError(f"{name} did not come; console: {self.console.text[-1500:]!r}") from None
        if event["event"] != name:
            raise AssertionError(f"expected {name}, got {event}")
        return event.get("data", {})

    async def status(self):
        """The run state, checked against the flag beside it."""
        answer = await self.qmp("query-status")
        if answer["running"] != (answer["status"] == "running"):
            raise AssertionError(f"status and flag disagree: {answer}")
        return answer["status"]

    async def wake_source(self, name):
        """What the monitor says of a wake source."""
        sources = (await self.qmp("x-query-wakes"))["sources"]
        return next(source for source in sources if source["source"] == name)

    async def last_wake(self):
        """The name of what woke the guest last."""
        return (await self.qmp("x-query-wakes"))["last-wake"]["source"]

    async def advance(self, seconds):
        """Moves the host's clocks, monotonic and wall, as the program sees them."""
        ns = int(seconds * 1_000_000_000)
        await self.qmp("x-test-clock-advance", monotonic_ns=ns, realtime_ns=ns)

    async def busy(self):
        """The share of a host CPU that the harts, devices and timers use over a second of monitor traffic."""
        before, start = self._cpu_seconds(), time.monotonic()
        while (elapsed := time.monotonic() - start) < 1:
            await self.qmp("query-status")
        return (self._cpu_seconds() - before) / elapsed

    def _cpu_seconds(self):
        """CPU time of all threads but those of the monitors."""
        ticks = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            name, rest = (task / "stat").read_text().rsplit(")", 1)
            if "qmp" not in name:
                # utime and stime: proc(5), fields 14 and 15
                ticks += sum(int(field) for field in rest.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def exit_status(self):
        """Waits for the end of the process."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


class Embedded(Machine):
    """The embedded guest, at its prompt once `up` returns."""

    async def up(self):
        await self.console.expect("dormouse> ")

    async def fall_asleep(self, alarm=None):
        """Suspends to RAM; the alarm is in seconds."""
        self.console.type("sleep\n" if alarm is None else f"sleep {alarm}\n")
        await self.event("SUSPEND")

    async def awake(self):
        """Sees that the guest goes on after its sleep."""
        await self.console.expect(r"awake after ([0-9.]+) s by the RTC")
        await self.up()

    async def alive(self):
        """Sees that the guest answers."""
        self.console.type("clocks\n")
        await self.console.expect(r"epoch ([0-9.]+) s")
        await self.up()


class Debian(Machine):
    """Debian's kernel with a shell on the console, there once `up` returns."""

    initrd = "initrd.cpio.gz"

    def __init__(self, *arguments, words="shell", **options):
        if not DEBIAN:
            raise unittest.SkipTest("no Debian guest")
        guest = pathlib.Path(DEBIAN)
        if not (guest / self.initrd).exists():
            raise unittest.SkipTest(f"the Debian guest has no {self.initrd}: fetch it again")
        super().__init__(
            "-kernel", str(guest / "Image"), "-initrd", str(guest / self.initrd),
            "-append", f"console=ttyS0 {words}", *arguments, **options,
        )  # fmt: skip

    async def up(self):
        """Waits for the boot; gives the number of harts that Linux counts."""
        match = await self.console.expect(r"GUEST-READY uptime=[0-9.]+ cpus=(\d+)", BOOT_PATIENCE)
        await self.console.expect("# ")
        return int(match[1])

    async def program(self, name):
        """Skips the test when the guest lacks one of our own programs (it was made without a cross compiler)."""
        if "yes" not in await self.console.shell(f"[ -x /bin/{name} ] && echo y''es || true"):
            raise unittest.SkipTest(f"the Debian guest was made without {name}")

    async def clocks(self):
        """Every clock of the guest in seconds, the RTC as `rtc`."""
        printed = await self.console.shell("clk; cat /sys/class/rtc/rtc0/since_epoch")
        values = dict(re.findall(r"(\w+)=([0-9.]+)", printed))
        clocks = {name: float(values[name]) for name in ("mono", "boot", "raw", "real")}
        clocks["csr"] = int(values["rdtime"]) / 1e7
        clocks["rtc"] = float(re.search(r"^(\d+)\s*$", printed.split("rdtime=")[1].split("\n", 1)[1], re.M)[1])
        return clocks

    async def fall_asleep(self, alarm=None):
        """Suspends to RAM; the alarm is in seconds, on the clock that can wake."""
        if alarm is not None:
            await self.program("alm")
            await self.console.shell(f"alm {alarm}")
        self.console.type("echo mem > /sys/power/state; echo woke-$?.\n")
        await self.event("SUSPEND")

    async def awake(self):
        """Sees that the guest goes on after its sleep."""
        await self.console.expect(r"woke-0\.")

    async def alive(self):
        """Sees that the guest answers."""
        await self.console.shell("true")


class UtilLinux(Debian):
    """The same with rtcwake of util-linux."""

    initrd = "initrd-util-linux.cpio.gz"


class Systemd(Debian):
    """Debian's kernel and systemd up to multi-user.target."""

    initrd = "initrd-systemd.cpio.gz"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, words="rdinit=/init systemd.show_status=1 loglevel=4", memory="512M", **options)

    async def up(self):
        """Waits until all is started; with status texts and the kernel's this is the slowest of our guests."""
        for target in ("sysinit", "basic", "multi-user"):
            await self.console.expect(rf"Reached target .*{target}\.target", BOOT_PATIENCE)


class Scenario(unittest.IsolatedAsyncioTestCase):
    """A test case whose events and states are compared in one line each."""

    async def says(self, vm, command, events, status):
        """Executes a command; its events must be there, in this order, when its reply is, and then this is the state."""
        await vm.qmp(command)
        self.assertEqual(vm.events(), events, f"events of {command}")
        self.assertEqual(await vm.status(), status, f"state after {command}")
