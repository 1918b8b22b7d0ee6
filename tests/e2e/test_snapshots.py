"""Snapshots: saved behind the running guest, loaded before it is read, never half."""

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from qemu.qmp import EventListener
from vm import PATIENCE, PROGRAM, Embedded, Scenario

LIFE = ("STOP", "RESUME", "SUSPEND", "WAKEUP", "RESET", "SHUTDOWN")
MIGRATION = ("MIGRATION", "MIGRATION_PASS")
GOOD = ["created", "running", "STOP", "RESUME", "waiting", "pending", "concluded", "null"]
BAD = ["created", "running", "aborting", "concluded", "null"]


class Snapshots(Scenario):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="dormouse-snapshots-")))

    def machine(self, *arguments, folder=None, **options):
        return Embedded("-x-snapshots", str(folder or self.folder), *arguments, **options)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    @contextlib.asynccontextmanager
    async def followed(self, vm):
        """All events of jobs and life meanwhile, as one list of words."""
        listener = EventListener(names={*LIFE, *MIGRATION, "JOB_STATUS_CHANGE"})
        vm.client.register_listener(listener)
        try:
            yield listener
        finally:
            vm.client.remove_listener(listener)

    async def job(self, vm, command, kind=None, **arguments):
        """Runs a job to its dismissal; gives its error, and the words of all events meanwhile."""
        words = []

        def note(event):
            words.append(event["data"]["status"] if event["event"] == "JOB_STATUS_CHANGE" else event["event"])
            return words[-1]

        async with self.followed(vm) as listener:
            await vm.qmp(command, job_id="job0", **arguments)
            while note(await asyncio.wait_for(listener.get(), PATIENCE)) != "concluded":
                pass
            (info,) = await vm.qmp("query-jobs")
            self.assertEqual((info["id"], info["type"], info["status"]), ("job0", kind or command[2:], "concluded"))
            await vm.qmp("job-dismiss", id="job0")
            for event in listener.clear():
                note(event)
        vm.events()
        return info.get("error"), words

    async def save(self, vm, name, **arguments):
        error, words = await self.job(vm, "x-snapshot-save", name=name, **arguments)
        self.assertIsNone(error)
        return words

    async def load(self, vm, name, **arguments):
        error, words = await self.job(vm, "x-snapshot-load", name=name, **arguments)
        self.assertIsNone(error)
        return words

    async def check(self, vm, pages):
        vm.console.type("check\n")
        await vm.console.expect(rf"checked {pages} pages, 0 wrong")
        await vm.up()



class LostMemory(Snapshots):
    async def test_a_page_that_the_host_has_lost_is_not_saved_as_zeros(self):
        for compress in (False, True):
            async with self.machine() as vm:
                await vm.up()
                vm.console.type("fill 4\n")
                await vm.console.expect("filled 1024 pages")
                await vm.qmp("x-test-host-memory-error", address=0x81005000)
                error, _ = await self.job(vm, "x-snapshot-save", name="lost", compress=compress)
                self.assertEqual(error, "the host has lost a page of guest memory")
                self.assertNotIn("lost.snapshot", self.files())


class SaveAndLoad(Snapshots):
    async def test_a_running_machine_goes_on_behind_its_snapshot_and_from_it(self):
        async with self.machine() as vm:
            await vm.up()
            vm.console.type("fill 32\nchurn 16 64\n")
            await vm.console.expect("churning")
            self.assertEqual(await self.save(vm, "busy", description="in the middle"), GOOD)
            self.assertEqual(await vm.status(), "running")
            (listed,) = await vm.qmp("x-snapshot-list")
            told = {name: listed[name] for name in ("name", "description", "state", "power", "memory", "compressed")}
            expected = {"name": "busy", "description": "in the middle", "state": "running", "power": "awake",
                        "memory": 256 << 20, "compressed": False}  # fmt: skip
            self.assertEqual(told, expected)
            self.assertGreater(listed["size"], 32 << 20)
            self.assertEqual((self.folder / "busy.snapshot").stat().st_mode & 0o777, 0o600)
            vm.console.type("\n")
            await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
            await vm.up()
            # And back into the middle, twice.
            for arguments in ({}, {"prefault": True}):
                self.assertEqual(await self.load(vm, "busy", **arguments), GOOD)
                vm.console.type("\n")
                await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
                await vm.up()
                await self.check(vm, 32 << 8)

    async def test_another_process_goes_on_with_it(self):
        async with self.machine(harts=2) as vm:
            await vm.up()
            vm.console.type("fill 16\n")
            await vm.console.expect("filled 4096 pages")
            await vm.up()
            await self.save(vm, "plain")
            await self.save(vm, "packed", compress=True)
            vm.console.type("fill 1\n")
            await vm.console.expect("filled 256 pages")
        for name in ("plain", "packed"):
            async with self.machine("-loadvm", name, harts=2) as vm:
                await self.check(vm, 4096)
                self.assertEqual((await vm.status(), vm.events()), ("running", []))
            async with self.machine("-loadvm", name, "-S", harts=2) as vm:
                self.assertEqual(await vm.status(), "prelaunch")
                await self.says(vm, "cont", ["RESUME"], "running")
                await self.check(vm, 4096)

    async def test_a_sleeper_is_saved_and_loaded_asleep(self):
        async with self.machine() as vm:
            await vm.up()
            await self.save(vm, "awake")
            await vm.fall_asleep()
            asleep = [*GOOD[:4], "SUSPEND", *GOOD[4:]]
            self.assertEqual(await self.save(vm, "asleep"), asleep)
            self.assertEqual(await vm.status(), "suspended")
            self.assertEqual(await self.load(vm, "asleep"), asleep)
            self.assertEqual(await vm.status(), "suspended")
            self.assertEqual(await self.load(vm, "awake"), GOOD)
            self.assertEqual(await vm.status(), "running")
            # A program that loads a sleeper finds it asleep; a person wakes it thereby, as in QEMU.
            self.assertEqual(await self.load(vm, "asleep"), asleep)
            await vm.qmp("system_wakeup")
            await vm.awake()
            vm.events()
            self.assertEqual(await vm.hmp("loadvm asleep"), "")
            self.assertEqual((vm.events(), await vm.status()), (["STOP", "RESUME", "WAKEUP"], "running"))
            await vm.awake()
        # The command line does as people do.
        async with self.machine("-loadvm", "asleep") as vm:
            await vm.awake()
        async with self.machine("-loadvm", "asleep", "-S") as vm:
            self.assertEqual(await vm.status(), "prelaunch")
            await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
            await vm.qmp("system_wakeup")
            await vm.awake()

    async def test_people_have_their_words(self):
        async with self.machine() as vm:
            await vm.up()
            self.assertEqual(await vm.hmp("info snapshots"), "There is no snapshot available.\r\n")
            self.assertEqual(await vm.hmp("savevm one"), "")
            self.assertEqual(vm.events(), ["STOP", "RESUME"])
            self.assertEqual(await vm.hmp("savevm one"), "", "a person replaces what has the name")
            self.assertEqual(await vm.hmp("savevm"), "")
            lines = (await vm.hmp("info snapshots")).splitlines()
            self.assertEqual(lines[0], "List of snapshots present on all disks:")
            self.assertRegex(lines[2], r"^-- +one +[0-9.]+ [KM]iB \d{4}-\d\d-\d\d [0-9:]{8} +0000:00:\d\d\.\d{3}")
            self.assertRegex(lines[3], r"^-- +vm-\d{14} ")
            self.assertEqual(
                await vm.hmp("loadvm two"), "Error: Snapshot 'two' does not exist in one or more devices\r\n"
            )
            self.assertEqual(
                await vm.hmp("delvm two"), "Error: Snapshot 'two' does not exist in one or more devices\r\n"
            )
            self.assertEqual(await vm.hmp("delvm one"), "")
            self.assertNotIn("one.snapshot", self.files())


class Table(Snapshots):
    """The table of run states: what a machine is when a snapshot is loaded into it (run-state.md 6.6)."""

    async def rows(self, vm, state, awake, asleep):
        """Loads both snapshots as people do; gives events and state."""
        for name, expected in (("awake", awake), ("asleep", asleep)):
            await self.put(vm, state)
            vm.events()
            self.assertEqual(await vm.hmp(f"loadvm {name}"), "", (state, name))
            self.assertEqual((vm.events(), await vm.status()), expected, (state, name))

    async def put(self, vm, state):
        """Puts the machine into a state from whatever it is in."""
        await vm.qmp("system_reset")
        if await vm.status() != "running":
            await vm.qmp("cont")
        self.assertEqual(await vm.status(), "running")
        await vm.up()
        vm.console.type("clocks\n")
        await vm.console.expect("epoch")
        await vm.up()
        vm.events()
        if state in ("suspended", "asleep and stopped"):
            await vm.fall_asleep()
        if state in ("paused", "asleep and stopped"):
            await vm.qmp("stop")
        if state == "prelaunch":
            await vm.qmp("stop")
            await vm.qmp("system_reset")
        if state == "shutdown":
            vm.console.type("poweroff\n")
            await vm.event("SHUTDOWN")
            await vm.event("STOP")

    async def test_every_row(self):
        pair = ["STOP", "RESUME"]
        async with self.machine("-no-shutdown") as vm:
            await vm.up()
            await self.save(vm, "awake")
            await vm.fall_asleep()
            await self.save(vm, "asleep")
            await vm.qmp("system_wakeup")
            await vm.awake()
            await self.rows(vm, "running", (pair, "running"), ([*pair, "WAKEUP"], "running"))
            await self.rows(vm, "suspended", (pair, "running"), ([*pair, "SUSPEND"], "suspended"))
            for held in ("paused", "prelaunch"):
                await self.rows(vm, held, ([], held), ([], held))
                # What was loaded asleep is asleep when it goes on.
                await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
                await vm.qmp("system_wakeup")
                await vm.awake()
            await self.rows(vm, "asleep and stopped", ([], "paused"), ([], "paused"))
            # QEMU leaves what is loaded into a machine that is off unusable (B10).
            await self.rows(vm, "shutdown", ([], "paused"), ([], "paused"))
            await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")

    async def test_a_snapshot_of_a_machine_that_is_off(self):
        async with self.machine("-no-shutdown") as vm:
            await vm.up()
            vm.console.type("poweroff\n")
            await vm.event("SHUTDOWN")
            await vm.event("STOP")
            words = [word for word in GOOD if word not in LIFE]
            self.assertEqual(await self.save(vm, "off"), words)
            await vm.qmp("system_reset")
            await vm.qmp("cont")
            vm.events()
            self.assertEqual(await vm.hmp("loadvm off"), "")
            self.assertEqual((vm.events(), await vm.status()), (["STOP"], "shutdown"))
            await vm.refused("cont", "Resetting the Virtual Machine is required")

    async def test_a_load_that_fails_changes_nothing(self):
        # QEMU leaves the machine in restore-vm for good (B4).
        async with self.machine(memory="64M") as vm:
            await vm.up()
            await self.save(vm, "good")
            whole = (self.folder / "good.snapshot").read_bytes()
            for name, content in {
                "cut": whole[: len(whole) // 2],
                "flipped": whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:],
                "foreign": b"#!/bin/sh\n" * 4000,
                "empty": b"",
            }.items():
                (self.folder / f"{name}.snapshot").write_bytes(content)
            bad = {"missing": "Snapshot 'missing' does not exist in one or more devices",
                   "../good": "Snapshot '../good' does not exist in one or more devices"}  # fmt: skip
            for name in ("cut", "flipped", "foreign", "empty", "missing", "../good"):
                error, words = await self.job(vm, "x-snapshot-load", name=name)
                self.assertEqual(words, BAD, name)
                self.assertRegex(error, re.escape(bad.get(name, f"Snapshot '{name}' cannot be read: ")))
                self.assertEqual(await vm.status(), "running")
            await vm.alive()
            # Lists say so too.
            listed = {entry["name"]: entry.get("error") for entry in await vm.qmp("x-snapshot-list")}
            self.assertIsNone(listed["good"])
            self.assertTrue(all(listed[name] for name in ("cut", "flipped", "foreign", "empty")), listed)
        for arguments, text in (
            (("-m", "128M"), "RAM"),
            (("-smp", "2"), "harts"),
        ):
            program = [PROGRAM, "-display", "none", "-serial", "null", "-x-snapshots", str(self.folder), "-loadvm", "good"]
            done = subprocess.run([*program, "-m", "64M", *arguments], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn("-loadvm good: Snapshot 'good' does not fit this machine: ", done.stderr)
            self.assertIn(text, done.stderr)


class Jobs(Snapshots):
    async def test_what_is_refused_is_refused_before_the_machine_is_touched(self):
        async with self.machine() as vm:
            await vm.up()
            await self.save(vm, "a")
            error, words = await self.job(vm, "x-snapshot-save", name="a")
            self.assertEqual((error, words), ("Snapshot 'a' already exists in one or more devices", BAD))
            error, words = await self.job(vm, "x-snapshot-save", name="b/c")
            self.assertIn("'b/c' is no name for a snapshot", error)
            self.assertEqual(words, BAD)
            error, words = await self.job(vm, "x-snapshot-delete", name="b")
            self.assertEqual((error, words), ("Snapshot 'b' does not exist in one or more devices", BAD))
            await vm.refused("x-snapshot-save", "Invalid job ID '1'", job_id="1", name="b")
            error, words = await self.job(vm, "x-snapshot-delete", name="a")
            self.assertEqual((error, words), (None, [word for word in GOOD if word not in LIFE]))
            self.assertEqual((self.files(), await vm.qmp("x-snapshot-list")), ([], []))
        async with Embedded() as vm:
            await vm.up()
            none = "There is no directory for snapshots; start with -x-snapshots DIR"
            await vm.refused("x-snapshot-list", none)
            await vm.refused("x-snapshot-save", none, job_id="job0", name="a")
            self.assertEqual(await vm.hmp("savevm a"), f"Error: {none}\r\n")
            self.assertEqual(await vm.qmp("query-jobs"), [])

    async def test_what_meets_a_save(self):
        async with self.machine(memory="1G") as vm:
            await vm.up()
            vm.console.type("fill 512\n")
            await vm.console.expect("filled")
            await vm.up()
            # To compress so much takes seconds, and all of this milliseconds.
            await vm.qmp("x-snapshot-save", job_id="slow", name="slow", compress=True)
            vm.events()
            await vm.qmp("x-snapshot-save", job_id="second", name="second")
            await vm.qmp("x-snapshot-load", job_id="third", name="slow")
            for other in ("second", "third"):
                self.assertEqual((await self.info(vm, other))["error"], "Another snapshot is being saved")
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "cont", ["RESUME"], "running")
            slow = await self.info(vm, "slow")
            self.assertEqual((slow["status"], self.files()[0][:12]), ("running", ".unfinished-"))
            self.assertLess(slow["current-progress"], slow["total-progress"])
            await vm.qmp("job-cancel", id="slow")
            while (await self.info(vm, "slow"))["status"] != "concluded":
                pass
            self.assertEqual((await self.info(vm, "slow"))["error"], "Operation canceled")
            self.assertEqual(self.files(), [])
            await vm.alive()

    async def test_a_reset_meets_a_save(self):
        async with self.machine(memory="1G") as vm:
            await vm.up()
            vm.console.type("fill 256\n")
            await vm.console.expect("filled")
            await vm.up()
            await vm.qmp("x-snapshot-save", job_id="slow", name="slow", compress=True)
            # Kernel and device tree are put into memory anew, and the guest writes all over it.
            await vm.qmp("system_reset")
            await vm.up()
            vm.console.type("fill 512\n")
            await vm.console.expect("filled 131072")
            await vm.up()
            while (await self.info(vm, "slow"))["status"] != "concluded":
                pass
            self.assertNotIn("error", await self.info(vm, "slow"))
            self.assertEqual(await vm.hmp("loadvm slow"), "")
            await self.check(vm, 256 << 8)

    async def info(self, vm, name):
        return next(job for job in await vm.qmp("query-jobs") if job["id"] == name)

    async def test_the_end_of_the_process_leaves_nothing_half(self):
        async with self.machine(memory="1G") as vm:
            await vm.up()
            vm.console.type("fill 512\n")
            await vm.console.expect("filled")
            await self.save(vm, "old")
            before = (self.folder / "old.snapshot").stat()
            await vm.qmp("x-snapshot-save", job_id="job", name="new", compress=True)
            await vm.qmp("quit")
            self.assertEqual(await vm.exit_status(), 0)
        self.assertEqual(self.files(), ["old.snapshot"])
        # A crash in the middle of replacing leaves the old one, and the next writer clears up.
        async with self.machine("-loadvm", "old", memory="1G") as vm:
            client = asyncio.create_task(vm.qmp("human-monitor-command", command_line="savevm old"))
            async with asyncio.timeout(PATIENCE):
                while not any(name.startswith(".") for name in self.files()):
                    await asyncio.sleep(0)
            vm.process.send_signal(signal.SIGKILL)
            await vm.exit_status()
            with contextlib.suppress(Exception):
                await client
        after = (self.folder / "old.snapshot").stat()
        self.assertEqual((before.st_ino, before.st_size), (after.st_ino, after.st_size))
        async with self.machine("-loadvm", "old", memory="1G") as vm:
            await self.check(vm, 512 << 8)
            await self.save(vm, "next")
        self.assertEqual(self.files(), ["next.snapshot", "old.snapshot"])

    async def test_a_full_disk_fails_the_save_and_nothing_else(self):
        small = self.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small], capture_output=True).returncode:
            self.skipTest("no tmpfs can be mounted")
        self.addCleanup(subprocess.run, ["umount", "-l", small])
        async with self.machine(folder=small) as vm:
            await vm.up()
            await self.save(vm, "little")
            vm.console.type("fill 64\n")
            await vm.console.expect("filled")
            await vm.up()
            for arguments in ({}, {"compress": True}):
                error, words = await self.job(vm, "x-snapshot-save", name="much", **arguments)
                self.assertIn("Snapshot 'much' cannot be written: ", error)
                self.assertIn("No space left on device", error)
                self.assertEqual(words, ["created", "running", "STOP", "RESUME", "aborting", "concluded", "null"])
                self.assertEqual([path.name for path in small.iterdir()], ["little.snapshot"])
            await self.check(vm, 64 << 8)


class Lazily(Snapshots):
    async def filled(self, mib):
        async with self.machine() as vm:
            await vm.up()
            vm.console.type(f"fill {mib}\n")
            await vm.console.expect("filled")
            await vm.up()
            await self.save(vm, "good")
        return self.folder / "good.snapshot"

    async def test_damage_stops_the_machine_before_the_guest_sees_it(self):
        file = await self.filled(64)
        # RAM begins behind the first page; what the guest fills begins 16 MiB above.
        place = 4096 + (16 << 20) + (40 << 20) + 12345
        with file.open("r+b") as opened:
            opened.seek(place)
            byte = opened.read(1)[0]
            opened.seek(place)
            opened.write(bytes([byte ^ 4]))
        # The whole of it is read first: refused.
        async with self.machine() as vm:
            await vm.up()
            error, words = await self.job(vm, "x-snapshot-load", name="good", prefault=True)
            self.assertRegex(error, "Snapshot 'good' cannot be read: .*damaged.*checksum")
            self.assertEqual((words, await vm.status()), (BAD, "running"))
            await vm.alive()
        async with self.machine("-loadvm", "good") as vm:
            vm.console.type("check\n")
            await self.broken(vm, "damaged")
            self.assertNotIn("wrong", vm.console.text)
        # Nor does it go on if nobody needs what is damaged: the guest waits, or is stopped.
        for arguments in ([], ["-S"]):
            async with self.machine("-loadvm", "good", *arguments) as vm:
                await self.broken(vm, "damaged")
        async with self.machine() as vm:
            await vm.up()
            await self.load(vm, "good")
            await self.broken(vm, "damaged")

    async def test_a_file_that_is_cut_under_the_machine_stops_it(self):
        file = await self.filled(64)
        async with self.machine("-loadvm", "good", "-S") as vm:
            os.truncate(file, 1 << 20)
            await self.broken(vm, "cut short|no longer there")
            self.assertNotIn("wrong", vm.console.text)

    async def test_a_file_that_is_deleted_or_replaced_is_still_there_for_who_has_it(self):
        await self.filled(64)
        async with self.machine("-loadvm", "good", "-S") as vm:
            self.assertEqual(await vm.hmp("delvm good"), "")
            await vm.qmp("cont")
            await self.check(vm, 64 << 8)

    async def broken(self, vm, reason):
        async with asyncio.timeout(PATIENCE):
            while await vm.status() != "internal-error":
                await asyncio.sleep(0.01)
        life = await vm.qmp("x-query-lifecycle")
        self.assertRegex(str(life), reason)
        await vm.refused("cont", "Resetting the Virtual Machine is required")
        # Started anew it runs: what was missing is not needed any more.
        await vm.qmp("system_reset")
        await vm.qmp("cont")
        await vm.alive()


class Incremental(Snapshots):
    async def errors(self, vm):
        """Why those that are listed cannot be loaded."""
        return {entry["name"]: entry["error"] for entry in await vm.qmp("x-snapshot-list") if "error" in entry}

    async def test_a_difference_keeps_what_has_changed_and_needs_its_parents(self):
        async with self.machine() as vm:
            await vm.up()
            vm.console.type("fill 64\n")
            await vm.console.expect("filled")
            await vm.up()
            await self.save(vm, "a", incremental=True)
            vm.console.type("churn 2 64\n")
            await vm.console.expect("churning")
            await self.save(vm, "b", incremental=True)
            await self.save(vm, "c", incremental=True)
            vm.console.type("\n")
            await vm.console.expect(r"churned \d+ pages, 0 wrong")
            await vm.up()
            listed = {entry["name"]: entry for entry in await vm.qmp("x-snapshot-list")}
            parents = {name: entry.get("parent") for name, entry in listed.items()}
            self.assertEqual(parents, {"a": None, "b": "a", "c": "b"})
            self.assertLess(listed["b"]["size"], 16 << 20)
            self.assertLess(listed["c"]["size"], 16 << 20)
            for name, child in (("a", "b"), ("b", "c")):
                text = f"Snapshot '{name}' is the parent of '{child}'; delete that first"
                error, _ = await self.job(vm, "x-snapshot-delete", name=name)
                self.assertEqual(error, text)
                self.assertEqual(await vm.hmp(f"savevm {name}"), f"Error: {text}\r\n")
            for name in ("c", "b", "c"):
                await self.load(vm, name)
                vm.console.type("\n")
                await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
                await vm.up()
                await self.check(vm, 64 << 8)
            # What was loaded is built on, by whatever was written since.
            vm.console.type("fill 2\n")
            await vm.console.expect("filled 512 pages")
            await vm.up()
            await self.save(vm, "d", incremental=True)
            listed = {entry["name"]: entry for entry in await vm.qmp("x-snapshot-list")}
            self.assertEqual(listed["d"]["parent"], "c")
            self.assertLess(listed["d"]["size"], 16 << 20)
            for arguments in ({}, {"prefault": True}):
                await self.load(vm, "d", **arguments)
                await self.check(vm, 512)
            # A load that fails has changed nothing, and so the difference is from the one before.
            error, _ = await self.job(vm, "x-snapshot-load", name="none")
            self.assertIsNotNone(error)
            await self.save(vm, "e", incremental=True)
            # Of what is packed there is no difference.
            await self.save(vm, "packed", compress=True)
            await self.load(vm, "packed")
            await self.save(vm, "f", incremental=True)
            listed = {entry["name"]: entry for entry in await vm.qmp("x-snapshot-list")}
            self.assertEqual((listed["e"]["parent"], listed["f"].get("parent")), ("d", None))
            both = "A snapshot cannot be both compressed and incremental"
            error, _ = await self.job(vm, "x-snapshot-save", name="g", incremental=True, compress=True)
            self.assertEqual(error, both)
        shutil.move(self.folder / "a.snapshot", self.folder / "away")
        async with self.machine() as vm:
            await vm.up()
            error, words = await self.job(vm, "x-snapshot-load", name="c")
            self.assertEqual(
                (error, words), ("Snapshot 'b' is the difference from 'a', which does not exist", BAD)
            )
            self.assertEqual(await self.errors(vm), dict.fromkeys("bcde", error))
            self.assertEqual((await vm.hmp("info snapshots")).count("cannot be loaded"), 4)
            await self.save(vm, "a")
            error, words = await self.job(vm, "x-snapshot-load", name="c")
            text = "Snapshot 'b' is the difference from another 'a' than the one that is there"
            self.assertEqual((error, words), (text, BAD))
            self.assertEqual(await self.errors(vm), dict.fromkeys("bcde", text))
            await vm.alive()


if __name__ == "__main__":
    unittest.main()
