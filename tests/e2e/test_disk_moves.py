"""Disks of machines that move: a guest that writes all the while, both ends of the move on one image, and at no time more
than one of them that may write to it."""

import contextlib
import os
import tempfile
import threading

from test_disk import MIB, DebianDisk, Image
from test_migration import Moving
from vm import Embedded, Scenario

WRITE = 101
"""The byte of an image that who writes to it holds locked, as QEMU does (`crates/block/src/lock.rs`)."""

# A journal of numbers, and beside it a file that is written anew and synced all the time.
WRITES = (
    "(n=0; while [ ! -e /stop ]; do n=$((n+1)); echo $n; done > /d/log; sync; echo $n > /count) & "
    "(while [ ! -e /stop ]; do seq 1 3000 > /d/again; sync; done) & :"
)


def writers(path):
    """How many have the image locked to write to it."""
    inode, count = os.stat(path).st_ino, 0
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            # 1: OFDLCK ADVISORY READ -1 fe:01:1234 100 101
            words = [word for word in line.split() if word != "->"]
            place, first, last = words[5:8]
            if int(place.rsplit(":", 1)[1]) == inode:
                count += int(first) <= WRITE and (last == "EOF" or int(last) >= WRITE)
    return count


class Watch:
    """Looks at the locks of an image for as long as it is entered: never do two have it."""

    def __init__(self, image):
        self._path, self._over, self.most = image.path, threading.Event(), 0
        self._thread = threading.Thread(target=self._look)

    def _look(self):
        while not self._over.wait(0.0005):
            self.most = max(self.most, writers(self._path))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


class DiskMover(Moving, DebianDisk):
    """Debian with a disk, on the move."""

    async def active(self):
        """Whether it may use its image, by every account."""
        [block] = await self.qmp("query-block")
        nodes = [node["active"] for node in await self.qmp("query-named-block-nodes")]
        answers = {block["inserted"]["active"], *nodes, "inactive" not in await self.hmp("info block")}
        if len(answers) != 1:
            raise AssertionError(f"accounts differ: {block}, {nodes}")
        return answers.pop()

    async def finish(self):
        """Ends what the guest writes; gives how far it came."""
        await self.console.shell("touch /stop; wait")
        count = int((await self.console.shell("cat /count")).split()[-1])
        await self.console.shell("seq 1 3000 | cmp - /d/again; umount /d")
        await self.qmp("quit")
        await self.exit_status()
        return count


class EmbeddedMover(Moving, Embedded):
    """The embedded guest, which does not look at its disk."""


def taken(image):
    """What is said to who may not have the image."""
    return f'Failed to get "write" lock. Is another process using the image [{image.path}]?'


class DiskMoves(Scenario):
    async def asyncSetUp(self):
        self.stack = await self.enterAsyncContext(contextlib.AsyncExitStack())
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-move-"))

    async def start(self, kind, image, *arguments, **options):
        return await self.stack.enter_async_context(kind(*image.drive(), *arguments, **options))

    async def waiting(self, kind, image, *arguments, able=(), **options):
        """A machine that waits for a guest, and from where it takes it."""
        there = await self.start(kind, image, "-incoming", "defer", *arguments, **options)
        for capability in able:
            await there.capability(capability)
        place = f"unix:{self.folder}/{len(os.listdir(self.folder))}"
        await there.qmp("migrate-incoming", uri=place)
        return there, place

    async def hop(self, here, image, **options):
        """Moves the guest into a new process."""
        there, place = await self.waiting(type(here), image, **options)
        if isinstance(here, DiskMover):
            self.assertFalse(await there.active())
        await here.qmp("migrate", uri=place)
        self.assertEqual((await here.told("completed", "failed"))[-1], "completed", await here.qmp("query-migrate"))
        self.assertEqual((await there.told("completed", "failed"))[-1], "completed")
        if isinstance(here, DiskMover):
            self.assertFalse(await here.active())
        return there

    async def hop_in_postcopy(self, here, image, **options):
        """Moves the guest into a new process, which runs it before all of its memory has come."""
        there, place = await self.waiting(type(here), image, able=["postcopy-ram"], **options)
        await here.capability("postcopy-ram")
        await here.qmp("migrate-set-parameters", max_bandwidth=8 * MIB, max_postcopy_bandwidth=8 * MIB)
        await here.qmp("migrate", uri=place)
        await here.told("active")
        await here.qmp("migrate-start-postcopy")
        for vm in (here, there):
            self.assertEqual((await vm.told("postcopy-active", "failed"))[-1], "postcopy-active")
        # The source still has memory of it, and no image any more.
        self.assertEqual((await here.active(), await there.active()), (False, True))
        await there.console.shell("echo here > /d/arrived; sync")
        await here.qmp("migrate-set-parameters", max_postcopy_bandwidth=0)
        for vm in (here, there):
            self.assertEqual((await vm.told("completed", "failed"))[-1], "completed")
        return there

    async def written(self, image, count):
        """All that the guest wrote is there, and in order."""
        image.tool("e2fsck", "-fn", str(image.path))
        self.assertGreater(count, 0)
        self.assertEqual(image.read("log"), "".join(f"{n}\n" for n in range(1, count + 1)))

    async def test_a_guest_that_writes_is_moved_back_and_forth_awake_asleep_and_stopped(self):
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        watch = self.stack.enter_context(Watch(image))
        vm = await self.start(DiskMover, image, harts=2)
        await vm.mount()
        await vm.console.shell(WRITES)
        for _ in range(4):
            before = (await vm.counts())["wr_operations"]
            there = await self.hop(vm, image, harts=2)
            self.assertTrue(await there.active())
            self.assertGreater(before, 0)
            # The destination has the image: what was left behind does not run, as often as it is asked to.
            for _ in range(2):
                await vm.refused("cont", taken(image))
                self.assertEqual(await vm.status(), "postmigrate")
            await vm.refused("blockdev-set-active", taken(image), active=True)
            await vm.qmp("quit")
            await vm.exit_status()
            vm = there
            while not (await vm.counts())["wr_operations"]:
                pass
        # Stopped, it arrives without its image, which `cont` takes.
        await vm.qmp("stop")
        there = await self.hop(vm, image, harts=2)
        self.assertEqual((await there.status(), await there.active(), writers(image.path)), ("paused", False, 0))
        await there.qmp("cont")
        self.assertTrue(await there.active())
        await vm.refused("cont", taken(image))
        vm, old = there, vm
        await old.qmp("quit")
        # Asleep it has its image, for it may wake at any time.
        vm.events()
        vm.console.type("\n")
        await vm.fall_asleep()
        there = await self.hop(vm, image, harts=2)
        self.assertEqual((await there.status(), await there.active()), ("suspended", True))
        await vm.refused("cont", taken(image))
        there.console.type("\n")
        await there.qmp("system_wakeup")
        await there.console.expect(r"woke-0\.")
        await self.written(image, await there.finish())
        self.assertEqual(watch.most, 1)

    async def test_a_guest_that_writes_is_moved_before_its_memory_has_come(self):
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        watch = self.stack.enter_context(Watch(image))
        here = await self.start(DiskMover, image)
        await here.mount()
        await here.console.shell(WRITES)
        there = await self.hop_in_postcopy(here, image)
        await here.refused("cont", taken(image))
        await self.written(image, await there.finish())
        self.assertEqual(image.read("arrived"), "here\n")
        self.assertEqual(watch.most, 1)

    async def test_a_guest_whose_move_fails_goes_on_writing(self):
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        watch = self.stack.enter_context(Watch(image))
        here = await self.start(DiskMover, image)
        await here.mount()
        await here.console.shell(WRITES)
        await here.capability("pause-before-switchover")

        async def goes_on():
            self.assertEqual((await here.status(), await here.active()), ("running", True))
            before = (await here.counts())["wr_operations"]
            while (await here.counts())["wr_operations"] < before + 5:
                pass

        # Cancelled, and then the destination killed, while it stands for the last of it.
        there, place = await self.waiting(DiskMover, image)
        await here.qmp("migrate", uri=place)
        await here.told("pre-switchover")
        await here.qmp("migrate_cancel")
        await here.told("cancelled")
        await goes_on()
        there, place = await self.waiting(DiskMover, image)
        await here.qmp("migrate", uri=place)
        await here.told("pre-switchover")
        there.process.kill()
        await there.exit_status()
        await here.qmp("migrate-continue", state="pre-switchover")
        await here.told("failed")
        await goes_on()
        # A disk that cannot be flushed does not go.
        there, place = await self.waiting(DiskMover, image)
        await here.fault("flush", "eio")
        await here.qmp("migrate", uri=place)
        await here.told("failed")
        self.assertIn("flush", (await here.qmp("query-migrate"))["error-desc"])
        await here.fault("flush", "none")
        self.assertEqual(await here.active(), True)
        await here.qmp("quit")
        await here.exit_status()
        image.check()
        self.assertEqual(watch.most, 1)

    async def test_an_io_error_travels_and_what_failed_is_done_over_there(self):
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        here = await self.start(DiskMover, image)
        await here.mount()
        await here.fault("write", "enospc")
        here.console.type("echo precious > /d/file; sync; echo synced-$?.\n")
        while await here.status() != "io-error":
            pass
        there = await self.hop(here, image)
        self.assertEqual((await there.status(), await there.active()), ("io-error", False))
        await there.fault("write", "enospc", times=1)
        there.disk_events.clear()
        await there.qmp("cont")
        names = [(await there.next())["event"] for _ in range(3)]
        self.assertEqual(names, ["RESUME", "BLOCK_IO_ERROR", "STOP"])
        self.assertEqual(await there.status(), "io-error")
        await there.qmp("cont")
        await there.console.expect(r"synced-0\.")
        await there.console.shell("umount /d")
        await there.qmp("quit")
        await there.exit_status()
        image.tool("e2fsck", "-fn", str(image.path))
        self.assertEqual(image.read("file"), "precious\n")

    async def test_an_io_error_is_one_by_every_way_until_it_is_gone(self):
        """The matrix for the state io-error, in one guest's life: what failed is done in the last process, and only there."""
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        here = await self.start(DiskMover, image, "-x-snapshots", self.folder)
        await here.mount()
        await here.fault("write", "enospc")
        here.console.type("echo precious > /d/file; sync; echo synced-$?.\n")
        while await here.status() != "io-error":
            pass
        # Saved and loaded again; the host has room by now, and nobody has asked to go on.
        for command in ("x-snapshot-save", "x-snapshot-load"):
            await here.qmp(command, job_id=command, name="failed")
            while (job := (await here.qmp("query-jobs"))[0])["status"] != "concluded":
                pass
            self.assertNotIn("error", job)
            await here.qmp("job-dismiss", id=command)
            self.assertEqual(await here.status(), "io-error")
        # Cancelled, and then killed, at the switch-over.
        await here.capability("pause-before-switchover")
        for kill in (False, True):
            there, place = await self.waiting(DiskMover, image)
            await here.qmp("migrate", uri=place)
            await here.told("pre-switchover")
            if kill:
                there.process.kill()
                await there.exit_status()
                await here.qmp("migrate-continue", state="pre-switchover")
            else:
                await here.qmp("migrate_cancel")
            await here.told("cancelled", "failed")
            self.assertEqual((await here.status(), await here.active()), ("io-error", True))
        await here.capability("pause-before-switchover", False)
        # Through a file, before its memory, and after it.
        await here.qmp("migrate", uri=f"file:{self.folder}/saved")
        self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
        there = await self.start(DiskMover, image, "-incoming", f"file:{self.folder}/saved")
        while await there.status() != "io-error":
            pass
        here, place = there, f"unix:{self.folder}/postcopy"
        there = await self.start(DiskMover, image, "-incoming", "defer")
        for vm in (here, there):
            await vm.capability("postcopy-ram")
        await there.qmp("migrate-incoming", uri=place)
        await here.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
        await here.qmp("migrate", uri=place)
        await here.told("active")
        await here.qmp("migrate-start-postcopy")
        for vm in (here, there):
            self.assertEqual((await vm.told("completed", "failed"))[-1], "completed")
        self.assertEqual(await there.status(), "io-error")
        await there.capability("postcopy-ram", False)
        there = await self.hop(there, image)
        self.assertEqual((await there.status(), await there.active()), ("io-error", False))
        await there.qmp("cont")
        await there.console.expect(r"synced-0\.")
        await there.console.shell("umount /d")
        await there.qmp("quit")
        await there.exit_status()
        image.tool("e2fsck", "-fn", str(image.path))
        self.assertEqual(image.read("file"), "precious\n")

    async def test_a_guest_goes_into_a_file_and_out_of_it_with_its_disk(self):
        image = self.stack.enter_context(Image(64 * MIB, {"hello": "x\n"}))
        here = await self.start(DiskMover, image)
        await here.mount()
        await here.console.shell(WRITES)
        await here.qmp("migrate", uri=f"file:{self.folder}/saved")
        self.assertEqual((await here.told("completed", "failed"))[-1], "completed")
        self.assertEqual((await here.active(), writers(image.path)), (False, 0))
        there = await self.start(DiskMover, image, "-incoming", f"file:{self.folder}/saved")
        while await there.status() != "running":
            pass
        self.assertTrue(await there.active())
        await here.refused("cont", taken(image))
        await self.written(image, await there.finish())

    async def test_images_are_taken_and_left_as_clients_say_where_no_guest_uses_them(self):
        image = self.stack.enter_context(Image(MIB))
        here = await self.start(EmbeddedMover, image)
        await here.up()
        # A machine that does not wait for this one is refused from the start.
        with self.assertRaisesRegex(AssertionError, 'Failed to get "write" lock'):
            await self.start(EmbeddedMover, image)
        await here.refused("blockdev-set-active", "Node is in use by the machine, which is running", active=False)
        [below] = [node["node-name"] for node in await here.qmp("query-named-block-nodes") if node["drv"] == "file"]
        await here.qmp("stop")
        await here.refused("blockdev-set-active", "Node has active parent node", active=False, node_name=below)
        missing = "Failed to find node with node-name='missing'"
        await here.refused("blockdev-set-active", missing, active=False, node_name="missing")
        self.assertEqual(writers(image.path), 1)
        await here.qmp("blockdev-set-active", active=False, node_name="n")
        self.assertEqual(writers(image.path), 0)
        self.assertIn("(raw, inactive)", await here.hmp("info block"))
        await here.qmp("cont")
        self.assertEqual(writers(image.path), 1)
        # Whoever waits for the guest may not take the image from it; stopped, it arrives and the image is taken by hand.
        there, place = await self.waiting(EmbeddedMover, image)
        await there.refused("blockdev-set-active", taken(image), active=True)
        await here.qmp("stop")
        await here.qmp("migrate", uri=place)
        await there.told("completed")
        await here.told("completed")
        self.assertEqual((await there.status(), writers(image.path)), ("paused", 0))
        await there.qmp("blockdev-set-active", active=True)
        self.assertEqual(writers(image.path), 1)
        await here.refused("cont", taken(image))
        self.assertEqual(await here.hmp("cont"), f"Error: {taken(image)}\r\n")
        # The destination gone, an explicit `cont` runs what was left behind.
        await there.qmp("quit")
        await there.exit_status()
        await here.qmp("cont")
        self.assertEqual((await here.status(), writers(image.path)), ("running", 1))
        await here.alive()

    async def test_a_guest_whose_image_somebody_takes_meanwhile_arrives_stopped(self):
        image = self.stack.enter_context(Image(MIB))
        here = await self.start(EmbeddedMover, image)
        await here.up()
        await here.qmp("migrate", uri=f"file:{self.folder}/saved")
        await here.told("completed")
        third = await self.start(EmbeddedMover, image)
        there = await self.start(EmbeddedMover, image, "-incoming", f"file:{self.folder}/saved")
        while await there.status() == "inmigrate":
            pass
        self.assertEqual(await there.status(), "paused")
        await there.refused("cont", taken(image))
        await third.qmp("quit")
        await third.exit_status()
        await there.qmp("cont")
        self.assertEqual(await there.status(), "running")
        await there.alive()
