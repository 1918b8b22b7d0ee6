"""A raw disk on a virtio-mmio device, as libvirt sees it."""

import os
import subprocess
import unittest

from guest import PROMPT, check, filled
from host import BOOT_PATIENCE, DEBIAN, PATIENCE, Case, Domain

SIZE = 8 << 20
BIG = 64 << 20

# A journal of numbers, and beside it a file that is written anew and synced all the time.
WRITES = (
    "(n=0; while [ ! -e /stop ]; do n=$((n+1)); echo $n; done > /d/log; sync; echo $n > /count) & "
    "(while [ ! -e /stop ]; do seq 1 3000 > /d/again; sync; done) & :"
)


def disk(image):
    """A raw disk on a virtio-mmio device."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
        "<target dev='vda' bus='virtio'/><address type='virtio-mmio'/></disk>"
    )


def tool(*command):
    """Runs a program of e2fsprogs, which must be content, and gives what it printed."""
    path = os.environ["PATH"] + ":/sbin:/usr/sbin"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        raise AssertionError(f"{command} gave {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Disk(Case):
    def domain(self):
        image = f"{self.host.folder}/disk.raw"
        with open(image, "wb") as file:
            file.write(b"x" * 4096)
            file.truncate(SIZE)
        return Domain(self.host, devices=disk(image)), image

    def test_a_raw_disk(self):
        domain, image = self.domain()
        with domain:
            domain.virsh("start")
            domain.console(PROMPT, PATIENCE).close()
            self.assertEqual(domain.virsh("domblklist").split(), ["vda", image])
            figures = domain.virsh("domstats", "--block")
            self.assertIn(f"block.0.path={image}", figures)
            self.assertIn(f"block.0.capacity={SIZE}", figures)
            self.assertIn(f"block.0.physical={os.stat(image).st_blocks * 512}", figures)
            self.assertEqual(domain.virsh("domblkerror"), "No errors found")
            self.says(domain, "suspend", "paused (user)", "Suspended Paused")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")

    def test_a_machine_with_a_disk_is_saved(self):
        domain, _ = self.domain()
        with domain:
            filled(domain)
            domain.virsh("managedsave")
            self.says(domain, "start", "running (restored)", "Started Restored")
            check(domain)
            self.assertIn(f"block.0.capacity={SIZE}", domain.virsh("domstats", "--block"))


@unittest.skipUnless(DEBIAN and os.path.exists(f"{DEBIAN}/initrd.cpio.gz"), "no Debian guest")
class Moved(Case):
    """A guest with a disk that it writes to goes from one host's libvirt to another's, which reaches the same image."""

    def setUp(self):
        super().setUp()
        self.other = self.host_named("second")
        self.image = f"{self.host.folder}/moved.raw"
        with open(self.image, "wb") as file:
            file.truncate(BIG)
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", self.image)

    def domain(self):
        boot = (
            f"<kernel>{DEBIAN}/Image</kernel><initrd>{DEBIAN}/initrd.cpio.gz</initrd>"
            "<cmdline>console=ttyS0 shell</cmdline>"
        )
        return Domain(self.host, boot=boot, devices=disk(self.image), name="mover")

    def start(self, domain):
        """Starts the domain, whose guest mounts its disk and writes from then on."""
        domain.virsh("start")
        console = domain.console("# ")
        console.shell("load", BOOT_PATIENCE)
        console.shell("mkdir -p /d && mount -t ext4 /dev/vda /d")
        console.shell(WRITES)
        console.close()

    def move(self, domain, to, *words):
        """libvirt does not know that both hosts are one, and calls it unsafe."""
        command = ["migrate", "--live", "--unsafe", "--persistent", "--undefinesource", *words]
        domain.host.virsh(*command, domain.name, to.uri, "tcp://127.0.0.1")

    def written(self, domain):
        """Ends what the guest writes: all of it is in the image, and in order."""
        console = domain.console("# ")
        console.shell("touch /stop; wait; mkdir -p /d/end && cp /count /d/end/count; seq 1 3000 | cmp - /d/again")
        console.shell("umount /d")
        domain.virsh("destroy")
        tool("e2fsck", "-fn", self.image)
        count = int(tool("debugfs", "-R", "cat end/count", self.image))
        self.assertGreater(count, 0)
        log = tool("debugfs", "-R", "cat log", self.image)
        self.assertEqual(log, "".join(f"{n}\n" for n in range(1, count + 1)))

    def test_there_and_back_running_and_stopped(self):
        with self.domain() as domain, domain.on(self.other) as moved:
            self.start(domain)
            for _ in range(2):
                self.move(domain, self.other)
                self.assertEqual(moved.state(), "running (migrated)")
                self.assertEqual(moved.virsh("domblkerror"), "No errors found")
                self.move(moved, self.host)
            domain.virsh("suspend")
            self.move(domain, self.other)
            self.assertEqual(moved.state(), "paused (user)")
            # libvirt takes the images of a machine that arrives paused.
            self.assertIn('"active":true', moved.virsh("qemu-monitor-command", '{"execute":"query-block"}'))
            self.says(moved, "resume", "running (unpaused)", "Resumed Unpaused")
            self.written(moved)

    def test_a_move_that_is_aborted_leaves_the_disk_where_it_was(self):
        with self.domain() as domain:
            self.start(domain)
            domain.virsh("migrate-setspeed", "1")
            command = ["migrate", "--live", "--unsafe", domain.name, self.other.uri, "tcp://127.0.0.1"]
            with self.host.begin(*command) as move:
                self.host.events.expect(f"event 'migration-iteration' for domain '{domain.name}': iteration: '1'")
                domain.virsh("domjobabort")
                self.assertNotEqual(move.ended()[0], 0)
            self.assertEqual(domain.state().split()[0], "running")
            self.written(domain)
