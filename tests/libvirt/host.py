"""Hosts with a libvirt of the tests' own: daemons in namespaces of their own, virsh, the events, domains with a dormouse
in them. Two hosts can be had, for migration from one to the other.

Nothing of the machine's libvirt is touched, and nothing is left behind: the daemons and every machine that they started
end with the pipe to `inside.py`. Nothing here sleeps to let something happen: a test waits for a text, an event or a
state, with a deadline that only a failure reaches.
"""

import atexit
import contextlib
import copy
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = os.path.abspath(os.environ.get("DORMOUSE", str(ROOT / "target/release/dormouse")))
DEBIAN = os.environ.get("DORMOUSE_DEBIAN_GUEST")

PATIENCE = 60.0  # seconds for what takes milliseconds
BOOT_PATIENCE = 180.0  # seconds for a Linux boot on a busy machine

CONFIGURATION = {
    "qemu.conf": 'security_driver = "none"\nuser = "root"\ngroup = "root"\ncgroup_controllers = []\nnamespaces = []\n'
    "remember_owner = 0\nmigration_port_min = {port}\n",
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\nhost_uuid = "{uuid}"\n'
    'log_outputs = "1:file:/var/log/libvirt/libvirtd.log"\n'
    'log_filters = "1:qemu.qemu_monitor 1:util.command 3:*"\n',
}

UNSHARE = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]


def missing():
    """What this machine lacks to run these tests; nothing when it lacks nothing."""
    for program in ("libvirtd", "virtlogd", "virsh", "unshare"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "it takes root to give libvirt folders of its own"
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        return "this machine does not let us make namespaces"
    return None


class Stream:
    """Text that comes from somewhere, kept for the report of a failure, with waiting for what is to come."""

    def __init__(self, read):
        self._read, self.text, self._looked, self._ended = read, "", 0, False
        self._news = threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        while data := self._next():
            with self._news:
                self.text += data.decode("utf-8", "replace")
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _next(self):
        try:
            return self._read()
        except OSError:  # a pseudo-terminal's way to say that it is over
            return b""

    def has(self, pattern, patience):
        """Whether a regular expression comes in that time."""
        try:
            return bool(self.expect(pattern, patience))
        except AssertionError:
            return False

    def expect(self, pattern, patience=PATIENCE):
        """Waits for a regular expression after what was expected last, and gives the match."""
        deadline = time.monotonic() + patience
        with self._news:
            while not (match := re.compile(pattern).search(self.text, self._looked)):
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f"{pattern!r} did not come; what came ends: {self.text[-1500:]!r}")
                self._news.wait(left)
            self._looked = match.end()
            return match


class Host:
    """A host by this name, with its daemons. Use as a context."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dormouse-lv-"))
        for name in ("etc", "lib", "cache", "log", "run"):
            (self.folder / name).mkdir()
        for name, text in CONFIGURATION.items():
            # Ports of its own, below those that systems give out: several runs of the tests may share a machine.
            port = str(10240 + random.randrange(1000) * 20)
            text = text.replace("{uuid}", str(uuid.uuid4())).replace("{port}", port)
            (self.folder / "etc" / name).write_text(text)
        self._inside = subprocess.Popen(
            [*UNSHARE, sys.executable, str(HERE / "inside.py"), str(self.folder), self.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        )  # fmt: skip
        self._ready()
        self._space = self.space_of(self._inside.pid)
        self._follow_events()
        return self

    def __exit__(self, *_):
        self._events.kill()
        self._events.wait()
        self._inside.stdin.close()
        self._inside.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def _ready(self):
        if self._inside.stdout.readline() != "ready\n":
            raise AssertionError(f"libvirt does not start: {self.log('libvirtd.err')}")

    def _follow_events(self):
        self._events = subprocess.Popen(
            [*self._virsh, "event", "--all", "--loop"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.events = Stream(lambda: self._events.stdout.read1())
        # It does not say when it has begun to listen: a domain is defined until that is heard of.
        with Domain(self, name="heard") as domain:
            deadline = time.monotonic() + PATIENCE
            while not self.events.has(f"'{domain.name}': Defined", 0.1):
                if time.monotonic() > deadline:
                    raise AssertionError("no event comes")
                domain.define()

    def restart(self, meanwhile=lambda: None, how="stop"):
        """Ends libvirtd (`stop`: by SIGTERM, `kill`: by SIGKILL) and starts another; the machines go on."""
        self._events.kill()
        self._events.wait()
        self._tell(how)
        meanwhile()
        self._tell("start")
        self._follow_events()

    def _tell(self, word):
        self._inside.stdin.write(f"{word}\n")
        self._inside.stdin.flush()
        self._ready()

    @property
    def uri(self):
        """Where it is reached, from here and from other hosts."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    @property
    def _virsh(self):
        return ["virsh", "--quiet", "--connect", self.uri]

    @staticmethod
    def space_of(process):
        """The namespace in which a process sees files; nothing if it has ended."""
        try:
            return os.readlink(f"/proc/{process}/ns/mnt")
        except OSError:
            return None

    def has(self, process):
        """Whether the process runs on this host."""
        return self.space_of(process) == self._space

    def log(self, name):
        """The end of a file in the folder of logs."""
        path = self.folder / "log" / name
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def monitor(self):
        """All that libvirt has said to monitors so far, one command's JSON a line."""
        text = (self.folder / "log" / "libvirtd.log").read_text(errors="replace")
        return re.findall(r"QEMU_MONITOR_IO_WRITE: .*?buf=(\{.*)", text)

    def run(self, *words):
        """A virsh command, with its exit status and what it said."""
        done = subprocess.run([*self._virsh, *words], capture_output=True, text=True, timeout=BOOT_PATIENCE)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def virsh(self, *words):
        """A virsh command that must succeed; gives what it printed."""
        status, printed, errors = self.run(*words)
        if status != 0:
            raise AssertionError(f"virsh {' '.join(words)}: {errors}\n{self.log('libvirtd.log')[-2500:]}")
        return printed

    def refused(self, *words):
        """A virsh command that must fail; gives what it complained of."""
        status, printed, errors = self.run(*words)
        if status == 0:
            raise AssertionError(f"virsh {' '.join(words)} was not refused: {printed}")
        return errors

    def begin(self, *words):
        """A virsh command that goes on beside the test."""
        return Underway([*self._virsh, *words])

    def terminal(self, *words):
        """A virsh command on a terminal of its own."""
        return Terminal([*self._virsh, *words])


class Underway:
    """A program beside the test. Use as a context."""

    def __init__(self, command):
        self._command = command

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def ended(self):
        """Waits for the program's end; gives its exit status and what it said."""
        said, _ = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said.strip()


class Terminal:
    """A program on a pseudo-terminal. Use as a context."""

    def __init__(self, command):
        self._command = command

    def __enter__(self):
        self._master, slave = pty.openpty()
        # Not its controlling terminal, or virsh would ask polkit's agent for help there.
        self._process = subprocess.Popen(
            self._command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.screen = Stream(lambda: os.read(self._master, 4096))
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def knock(self, pattern):
        """Types returns until the pattern comes: a program that prepares its terminal drops what was typed before."""
        deadline = time.monotonic() + PATIENCE
        self.type("\r")
        while not self.screen.has(pattern, 0.5):
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not come")
            self.type("\r")

    def ended(self):
        """Waits for the program's end."""
        self._process.wait(PATIENCE)

    def type(self, text):
        os.write(self._master, text.encode())


class Console:
    """The serial line of a machine, on a socket."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self.stream = Stream(lambda: self._socket.recv(4096))
        self.expect = self.stream.expect
        self._marks = 0

    def type(self, text):
        self._socket.sendall(text.encode())

    def shell(self, command, patience=PATIENCE):
        """Runs a shell command in a Linux guest and gives what it printed; it must succeed."""
        self._marks += 1
        mark = self._marks
        # What is echoed while typing has $?, so that only the answer matches.
        self.type(f"{command}; echo ended-$?-{mark}.\n")
        match = self.expect(rf"(?s)(.*?)ended-(\d+)-{mark}\.", patience)
        if match[2] != "0":
            raise AssertionError(f"{command!r} gave {match[2]}: {match[1]!r}")
        return match[1]

    def close(self):
        """Leaves the line to the next one that connects."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Domain:
    """A defined domain. Use as a context: it is destroyed and undefined at the end.

    A path below /run is another file on each host.
    """

    def __init__(self, host, boot="", devices="", serial=None, memory=256, name="dormouse"):
        self.host = host
        self.name = f"{name}-{uuid.uuid4().hex[:6]}"
        serial = serial or f"<serial type='unix'><source mode='bind' path='/run/{self.name}.sock'/></serial>"
        self.xml = f"""<domain type='qemu'>
  <name>{self.name}</name>
  <uuid>{uuid.uuid4()}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='riscv64' machine='virt'>hvm</type>{boot}</os>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>{PROGRAM}</emulator>
    {serial}
    {devices}
    <memballoon model='none'/>
    <controller type='usb' model='none'/>
    <audio id='1' type='none'/>
  </devices>
</domain>
"""

    def __enter__(self):
        self.define()
        return self

    def __exit__(self, *_):
        self.close()

    def define(self):
        """Defines it (anew)."""
        file = self.host.folder / f"{self.name}.xml"
        file.write_text(self.xml)
        self.host.virsh("define", str(file))

    def on(self, host):
        """The same domain on another host. Use as a context: it is destroyed and undefined there at the end."""
        other = copy.copy(self)
        other.host = host
        return contextlib.closing(other)

    def close(self):
        self.host.run("destroy", self.name)
        self.host.run("undefine", self.name, "--managed-save")

    def virsh(self, command, *words):
        return self.host.virsh(command, self.name, *words)

    def state(self):
        """State and reason, as `domstate --reason` prints them."""
        return self.virsh("domstate", "--reason")

    def wait_for(self, state):
        """Waits until the state and reason are these."""
        deadline = time.monotonic() + PATIENCE
        while (now := self.state()) != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {state}, it is {now}")

    def argv(self):
        """The program's command line."""
        return self._proc("cmdline").rstrip("\0").split("\0")

    def _proc(self, name):
        return pathlib.Path(f"/proc/{self.pid()}/{name}").read_text()

    def pid(self):
        """The program's process number, outside of the namespace in which it runs."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
            except OSError:  # it has ended meanwhile
                continue
            mine = words[0] == PROGRAM and f"guest={self.name},debug-threads=on" in words
            if mine and self.host.has(process.name):
                return int(process.name)
        raise AssertionError(f"{self.name} does not run")

    def wait_for_status(self, status):
        """Waits, as a client of the program's own monitor while libvirt is away, until the machine is in this state."""
        [path] = self.host.folder.glob(f"lib/qemu/domain-*-{self.name}/monitor.sock")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(PATIENCE)
            monitor.connect(str(path))
            lines = monitor.makefile("rw")
            lines.readline()
            line, command, deadline = "", "qmp_capabilities", time.monotonic() + PATIENCE
            while f'"status": "{status}"' not in line:
                if time.monotonic() > deadline:
                    raise AssertionError(f"waited for {status}: {line}")
                lines.write(f'{{"execute": "{command}"}}')
                lines.flush()
                line, command = lines.readline(), "query-status"

    def wait_for_text(self, path, text):
        """Waits until a file has the text."""
        deadline = time.monotonic() + PATIENCE
        while text not in (now := pathlib.Path(path).read_text(errors="replace") if os.path.exists(path) else ""):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} did not come into {path}: {now[-500:]!r}")
            time.sleep(0.01)

    def event(self, pattern, patience=PATIENCE):
        """Waits for the next event of this domain that matches."""
        return self.host.events.expect(rf"event '\S+' for domain '{self.name}': {pattern}", patience)

    def serial(self):
        """The serial line."""
        return Console(f"{self.host.folder}/run/{self.name}.sock")

    def console(self, prompt, patience=BOOT_PATIENCE):
        """The serial line, with the guest at its prompt."""
        console = self.serial()
        console.type("\n")
        console.expect(prompt, patience)
        return console


class Case(unittest.TestCase):
    """A test with libvirt; skipped by name where it cannot be."""

    _hosts = {}

    def setUp(self):
        if reason := missing():
            self.skipTest(reason)
        self.host = self.host_named("first")

    @classmethod
    def host_named(cls, name):
        """The host by this name, the same one for all tests."""
        if name not in cls._hosts:
            cls._hosts[name] = Host(name).__enter__()
            atexit.register(cls._hosts[name].__exit__)
        return cls._hosts[name]

    def says(self, domain, command, state, event):
        """Runs a command of virsh; right after it this is the state, and its event has come or comes."""
        domain.virsh(*command.split())
        self.assertEqual(domain.state(), state, f"state right after {command}")
        domain.event(event)
