"""Disks: Debian mounts, writes, syncs and sleeps; the host fails, hangs, runs full and is killed."""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from qemu.qmp import EventListener, ExecuteError, QMPClient

from vm import BOOT_PATIENCE, PATIENCE, Debian, Embedded, Scenario

MIB = 1 << 20


class Image:
    """A raw image in a folder of its own, with an ext4 file system made by mke2fs if `files` says what is in it."""

    def __init__(self, size, files=None, folder=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dormouse-disk-", dir=folder))
        self.path = self.folder / "disk.img"
        with open(self.path, "wb") as image:
            image.truncate(size)
        if files is not None:
            content = self.folder / "content"
            content.mkdir()
            for name, text in files.items():
                (content / name).write_text(text)
            self.tool("mke2fs", "-q", "-t", "ext4", "-E", "nodiscard", "-d", str(content), str(self.path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def tool(self, *command, good=(0,)):
        """Runs a program of e2fsprogs and gives what it printed; its status must be one of these."""
        path = os.environ["PATH"] + ":/sbin:/usr/sbin"
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
        if done.returncode not in good:
            raise AssertionError(f"{command} gave {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def check(self):
        """The file system is sound: replaying its journal, as the next mount would, is all that there is to do."""
        # 1: the journal was replayed, and what is only counted from it was counted. What needs a decision is 4.
        self.tool("e2fsck", "-fp", str(self.path), good=(0, 1))
        self.tool("e2fsck", "-fn", str(self.path))

    def read(self, name):
        """What a file in the image holds."""
        return self.tool("debugfs", "-R", f"cat {name}", str(self.path))

    def allocated(self):
        """Bytes that the image takes on the host."""
        return os.stat(self.path).st_blocks * 512

    def drive(self, *more):
        """Options for a disk on this image."""
        return ("-drive", ",".join((f"file={self.path},format=raw,if=none,id=d,node-name=n", *more)),
                "-device", "virtio-blk-device,drive=d,id=disk0,serial=SERIAL")  # fmt: skip


class Failing:
    """Mixed into a machine: what happens on its disk."""

    async def __aenter__(self):
        await super().__aenter__()
        names = {"BLOCK_IO_ERROR", "STOP", "RESUME", "RESET", "SUSPEND", "WAKEUP", "SHUTDOWN"}
        self.disk_events = EventListener(names=names)
        self.client.register_listener(self.disk_events)
        return self

    async def next(self):
        """The next event, disks' included."""
        return await asyncio.wait_for(self.disk_events.get(), PATIENCE)

    async def fault(self, operation, fault, **more):
        await self.qmp("x-blockdev-fault", node_name="n", operation=operation, fault=fault, **more)

    async def counts(self):
        """What query-blockstats says of the only disk."""
        [answer] = await self.qmp("query-blockstats")
        return answer["stats"]

    async def load(self):
        """Loads the drivers of the disk and of its file system. Linux checks a signature of each, which takes a while."""
        await self.console.shell("load", BOOT_PATIENCE)

    async def mount(self, *options):
        """Loads the drivers and mounts the disk at /d."""
        await self.up()
        await self.load()
        words = " ".join(("mount -t ext4", *options, "/dev/vda /d"))
        return await self.console.shell(f"mkdir -p /d && {words}")


class DebianDisk(Failing, Debian):
    """Debian with a disk."""


class EmbeddedDisk(Failing, Embedded):
    """The embedded guest, which does not look at its disk."""


class Works(Scenario):
    """What a guest does with a disk that works."""

    async def test_a_file_system_is_mounted_written_and_read(self):
        with Image(64 * MIB, {"hello": "from the host\n"}) as image:
            async with DebianDisk(*image.drive("discard=unmap")) as vm:
                await vm.mount()
                self.assertIn("from the host", await vm.console.shell("cat /d/hello"))
                self.assertIn("SERIAL", await vm.console.shell("cat /sys/block/vda/serial"))
                await vm.console.shell("echo from the guest > /d/reply; umount /d")
                counts = await vm.counts()
                self.assertGreater(counts["rd_bytes"], 0)
                self.assertGreater(counts["wr_operations"], 0)
                self.assertGreater(counts["flush_operations"], 0)
                [block] = await vm.qmp("query-block")
                self.assertEqual((block["device"], block["qdev"], block["io-status"]), ("d", "disk0", "ok"))
                self.assertEqual(block["inserted"]["image"]["virtual-size"], 64 * MIB)
                nodes = await vm.qmp("query-named-block-nodes", flat=True)
                self.assertEqual([node["drv"] for node in nodes], ["raw", "file"])
                self.assertEqual(
                    await vm.hmp("info block"),
                    f"d (n): {image.path} (raw)\r\n    Attached to:      disk0\r\n    Cache mode:       writeback\r\n",
                )
                self.assertIn(f"d: rd_bytes={counts['rd_bytes']} ", await vm.hmp("info blockstats"))
                for times in (0, -1):
                    with self.assertRaisesRegex(ExecuteError, "Parameter 'times' expects a positive number"):
                        await vm.fault("read", "eio", times=times)
                await vm.qmp("quit")
            self.assertEqual(image.read("reply"), "from the guest\n")
            image.tool("e2fsck", "-fn", str(image.path))

    async def test_what_was_synced_outlives_sleep_stop_and_a_kill(self):
        for harts in (1, 2):
            with self.subTest(harts=harts), Image(64 * MIB, {"hello": "x\n"}) as image:
                async with DebianDisk(*image.drive(), harts=harts) as vm:
                    await vm.mount()
                    await vm.console.shell("seq 1 20000 > /d/before; sync")
                    await vm.fall_asleep()
                    await vm.qmp("stop")
                    await vm.qmp("cont")
                    await vm.qmp("system_wakeup")
                    await vm.awake()
                    # It finds its disk again, and writes to it.
                    await vm.console.shell("seq 1 20000 | cmp - /d/before; seq 1 30000 > /d/after; sync")
                    vm.events()
                    # Not synced: this may be lost, but must not harm anything.
                    await vm.console.shell("seq 1 1000 > /d/unsynced")
                    await vm.qmp("stop")
                    self.assertEqual(await vm.status(), "paused")
                    vm.process.kill()
                    await vm.exit_status()
                image.check()
                self.assertEqual(image.read("before"), "".join(f"{n}\n" for n in range(1, 20001)))
                self.assertEqual(image.read("after"), "".join(f"{n}\n" for n in range(1, 30001)))

    async def test_a_guest_that_its_alarm_wakes_finds_its_disk(self):
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            async with DebianDisk(*image.drive()) as vm:
                await vm.mount()
                await vm.fall_asleep(alarm=10)
                await vm.advance(11)
                await vm.event("WAKEUP")
                await vm.awake()
                await vm.console.shell("seq 1 100 > /d/after; sync")
                await vm.qmp("quit")
            image.check()
            self.assertEqual(image.read("after"), "".join(f"{n}\n" for n in range(1, 101)))

    async def test_discarded_space_goes_back_to_the_host(self):
        with Image(64 * MIB, {}) as image:
            async with DebianDisk(*image.drive("discard=unmap")) as vm:
                await vm.mount("-o discard")
                empty = image.allocated()
                await vm.console.shell("dd if=/dev/urandom of=/d/big bs=1M count=16 2>/dev/null; sync")
                full = image.allocated()
                self.assertGreater(full, empty + 15 * MIB)
                await vm.console.shell("rm /d/big; sync")
                # ext4 discards when its journal has the deletion: after the commit that sync waits for.
                await vm.console.shell("echo 1 > /d/again; sync")
                self.assertGreater((await vm.counts())["unmap_bytes"], 15 * MIB)
                self.assertLess(image.allocated(), full - 15 * MIB)

    async def test_a_read_only_disk_is_read(self):
        with Image(16 * MIB, {"hello": "only to read\n"}) as image:
            before = image.path.read_bytes()
            image.path.chmod(0o444)
            node = {"driver": "file", "filename": str(image.path), "node-name": "f", "read-only": True}
            top = {"driver": "raw", "file": "f", "node-name": "n", "read-only": True}
            device = {"driver": "virtio-blk-device", "drive": "n", "id": "disk0"}
            arguments = ("-blockdev", json.dumps(node), "-blockdev", json.dumps(top), "-device", json.dumps(device))
            async with DebianDisk(*arguments) as vm:
                await vm.mount("-o ro,noload")
                self.assertIn("only to read", await vm.console.shell("cat /d/hello"))
                self.assertIn("1", await vm.console.shell("cat /sys/block/vda/ro"))
                await vm.console.shell("! dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null")
                self.assertIn("(raw, read-only)", await vm.hmp("info block"))
            self.assertEqual(image.path.read_bytes(), before)

    async def test_a_reset_in_the_middle_of_writes_leaves_a_sound_disk(self):
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            async with DebianDisk(*image.drive()) as vm:
                await vm.mount()
                await vm.console.shell("seq 1 20000 > /d/before; sync")
                vm.console.type("dd if=/dev/zero of=/d/big bs=1M count=32; sync\n")
                while (await vm.counts())["wr_bytes"] < 4 * MIB:
                    pass
                await vm.qmp("system_reset")
                await vm.mount()
                await vm.console.shell("seq 1 20000 | cmp - /d/before; umount /d")
                await vm.qmp("quit")
            image.check()


class Fails(Scenario):
    """What clients see of a disk whose host fails."""

    async def io_error(self, vm, **wanted):
        """The next two events are BLOCK_IO_ERROR with action stop, which holds these members, and STOP."""
        event = await vm.next()
        self.assertEqual(event["event"], "BLOCK_IO_ERROR")
        data = event["data"]
        members = {"device", "node-name", "qom-path", "operation", "action", "nospace", "reason"}
        self.assertEqual(set(data), members)
        wanted = {"device": "d", "node_name": "n", "qom_path": "/machine/peripheral/disk0", "action": "stop", **wanted}
        for name, value in wanted.items():
            self.assertEqual(data[name.replace("_", "-")], value, event)
        self.assertEqual((await vm.next())["event"], "STOP")
        self.assertEqual(await vm.status(), "io-error")
        [held] = (await vm.qmp("x-query-lifecycle"))["holds"]
        self.assertEqual((held["owner"], held["cause"]["by"]), ("device", "d"))

    async def test_every_stop_by_an_io_error_is_explained(self):
        """B22: QEMU drops the second BLOCK_IO_ERROR of a second, and a client sees a bare STOP."""
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            async with DebianDisk(*image.drive("werror=stop,rerror=stop")) as vm:
                await vm.mount()
                await vm.fault("write", "eio")
                vm.console.type("echo precious > /d/file; sync; echo synced-$?.\n")
                error = {"operation": "write", "nospace": False, "reason": "Input/output error"}
                await self.io_error(vm, **error)
                [block] = await vm.qmp("query-block")
                self.assertEqual(block["io-status"], "failed")
                self.assertIn("I/O status:       failed", await vm.hmp("info block"))
                for _ in range(5):
                    await vm.qmp("cont")
                    self.assertEqual((await vm.next())["event"], "RESUME")
                    await self.io_error(vm, **error)
                # Stopped besides, it keeps its name; one RESUME leads back.
                await vm.qmp("stop")
                self.assertEqual(await vm.status(), "io-error")
                await vm.fault("write", "none")
                await vm.qmp("cont")
                self.assertEqual((await vm.next())["event"], "RESUME")
                await vm.console.expect(r"synced-0\.")
                self.assertEqual(await vm.status(), "running")
                [block] = await vm.qmp("query-block")
                self.assertEqual(block["io-status"], "ok")
                self.assertEqual([event["event"] for event in vm.disk_events.clear()], [])
                await vm.console.shell("umount /d")
            image.check()
            self.assertEqual(image.read("file"), "precious\n")

    async def test_a_full_host_stops_the_guest_until_there_is_room(self):
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            async with DebianDisk(*image.drive()) as vm:
                await vm.mount()
                # The default of werror: only want of space stops.
                await vm.fault("write", "enospc")
                vm.console.type("echo precious > /d/file; sync; echo synced-$?.\n")
                error = {"operation": "write", "nospace": True, "reason": "No space left on device"}
                await self.io_error(vm, **error)
                [block] = await vm.qmp("query-block")
                self.assertEqual(block["io-status"], "nospace")
                await vm.fault("write", "none")
                await vm.qmp("cont")
                await vm.console.expect(r"synced-0\.")

    async def test_a_full_file_system_stops_the_guest_until_there_is_room(self):
        with full_file_system(24 * MIB) as folder, Image(64 * MIB, {}, folder) as image:
            async with DebianDisk(*image.drive(), test_clock=False) as vm:
                await vm.mount()
                vm.console.type("dd if=/dev/urandom of=/d/big bs=1M count=32 2>/dev/null; sync; echo synced-$?.\n")
                await self.io_error(vm, operation="write", nospace=True)
                subprocess.run(["mount", "-o", f"remount,size={96 * MIB}", folder], check=True)
                await vm.qmp("cont")
                await vm.console.expect(r"synced-0\.")
                await vm.console.shell("umount /d")
            image.tool("e2fsck", "-fn", str(image.path))

    async def test_reported_and_ignored_errors_do_not_stop_anything(self):
        for policy, action, answer in (("report", "report", "1"), ("ignore", "ignore", "0")):
            with self.subTest(policy=policy), Image(16 * MIB) as image:
                async with DebianDisk(*image.drive(f"rerror={policy}")) as vm:
                    await vm.up()
                    await vm.load()
                    await vm.fault("read", "eio")
                    command = "dd if=/dev/vda of=/dev/null bs=512 count=1 skip=9000 2>/dev/null; echo read-$?."
                    vm.console.type(command + "\n")
                    await vm.console.expect(rf"read-{answer}\.")
                    event = await vm.next()
                    self.assertEqual(event["event"], "BLOCK_IO_ERROR")
                    self.assertEqual((event["data"]["action"], event["data"]["operation"]), (action, "read"))
                    self.assertEqual(await vm.status(), "running")

    async def test_a_file_cut_short_under_a_disk_is_an_error(self):
        with Image(16 * MIB) as image:
            async with DebianDisk(*image.drive("rerror=stop")) as vm:
                await vm.up()
                await vm.load()
                os.truncate(image.path, MIB)
                vm.console.type("dd if=/dev/vda of=/dev/null bs=4096 count=1 skip=3000; echo read-$?.\n")
                await self.io_error(vm, operation="read", nospace=False)
                os.truncate(image.path, 16 * MIB)
                await vm.qmp("cont")
                await vm.console.expect(r"read-0\.")

    async def test_a_reset_drops_what_failed(self):
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            async with DebianDisk(*image.drive("werror=stop")) as vm:
                await vm.mount()
                await vm.fault("write", "eio")
                vm.console.type("echo lost > /d/file; sync\n")
                await self.io_error(vm, operation="write")
                await vm.qmp("system_reset")
                self.assertEqual((await vm.next())["event"], "RESET")
                self.assertEqual(await vm.status(), "prelaunch")
                await vm.fault("write", "none")
                written = (await vm.counts())["wr_operations"]
                await vm.qmp("cont")
                self.assertEqual((await vm.next())["event"], "RESUME")
                await vm.up()
                self.assertEqual((await vm.counts())["wr_operations"], written, "nothing of before the reset is written")
                await vm.load()
                await vm.console.shell("mkdir -p /d; mount -t ext4 /dev/vda /d; cat /d/hello")

    async def test_a_disk_that_hangs_holds_up_neither_stop_nor_queries_nor_quit(self):
        with Image(64 * MIB, {"hello": "x\n"}) as image:
            second = str(image.folder / "qmp")
            arguments = ("-qmp", f"unix:{second},server=on,wait=off")
            async with DebianDisk(*image.drive(), *arguments) as vm:
                await vm.mount()
                other = QMPClient("second")
                await other.connect(second)
                await vm.fault("write", "hang")
                await vm.console.shell("(echo stuck > /d/file; sync) & :")
                waiting = "read reads writes < /sys/block/vda/inflight; [ $writes != 0 ]"
                await vm.console.shell(f"until {waiting}; do :; done")
                # The reply waits for the flush, and the flush for the disk; the event does not.
                stopping = asyncio.create_task(vm.client.execute("stop"))
                self.assertEqual((await vm.next())["event"], "STOP")
                answer = await asyncio.wait_for(other.execute("query-status"), PATIENCE)
                self.assertEqual(answer["status"], "paused")
                await asyncio.wait_for(other.execute("query-block"), PATIENCE)
                self.assertFalse(stopping.done())
                await asyncio.wait_for(other.execute("quit"), PATIENCE)
                self.assertEqual(await vm.exit_status(), 0)
                for end in (stopping, other.disconnect()):
                    # How a connection takes the end of the process is not what is tested.
                    with contextlib.suppress(Exception):
                        await end

    async def test_a_quit_behind_a_stop_that_hangs_is_served(self):
        with Image(MIB) as image:
            async with EmbeddedDisk(*image.drive()) as vm:
                await vm.up()
                await vm.fault("flush", "hang")
                stopping = asyncio.create_task(vm.client.execute("stop"))
                self.assertEqual((await vm.next())["event"], "STOP")
                quitting = asyncio.create_task(vm.client.execute("quit"))
                self.assertEqual((await vm.next())["event"], "SHUTDOWN")
                with self.assertRaisesRegex(ExecuteError, "the machine has ended"):
                    await asyncio.wait_for(stopping, PATIENCE)
                self.assertEqual(await asyncio.wait_for(quitting, PATIENCE), {})
                self.assertEqual(await vm.exit_status(), 0)


@contextlib.contextmanager
def full_file_system(size):
    """A file system of that size; the test is skipped where none may be mounted."""
    folder = tempfile.mkdtemp(prefix="dormouse-full-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    try:
        if mounted.returncode != 0:
            raise unittest.SkipTest("no file system may be mounted here")
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], capture_output=True)
        os.rmdir(folder)
