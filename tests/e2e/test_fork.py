"""Forks: many machines from one snapshot, which share its memory and nothing else."""

import asyncio
import contextlib
import os
import pathlib
import re
import tempfile

from test_snapshots import Snapshots
from vm import Debian

MIB = 1 << 20


def own_mib(vm):
    """Memory of the host that is of the process and of no file, in MiB."""
    rollup = pathlib.Path(f"/proc/{vm.process.pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\d+) kB", rollup, re.M)[1]) >> 10


class Fork(Snapshots):
    def fork(self, name, *arguments, **options):
        return self.machine("-x-snapshot-fork", name, *arguments, **options)

    async def into(self, vm, name):
        """Makes a machine that runs a fork."""
        error, words = await self.job(vm, "x-snapshot-fork", kind="snapshot-load", name=name)
        self.assertIsNone(error)
        return words

    async def filled(self, vm, mib):
        await vm.up()
        vm.console.type(f"fill {mib}\n")
        await vm.console.expect(f"filled {mib << 8} pages")
        await vm.up()

    async def identity(self, vm):
        told = await vm.qmp("x-query-identity")
        return told["generation-id"], told["mac-seed"]


class Many(Fork):
    async def test_they_run_side_by_side_with_one_memory_and_an_identity_each(self):
        async with self.machine("-device", "vmgenid") as vm:
            await self.filled(vm, 64)
            await self.save(vm, "base")
            ids = [await self.identity(vm)]
        async with contextlib.AsyncExitStack() as stack:
            forks = [self.fork("base", "-device", "vmgenid") for _ in range(12)]
            await asyncio.gather(*(stack.enter_async_context(fork) for fork in forks))
            ids += await asyncio.gather(*(self.identity(fork) for fork in forks))
            for part in zip(*ids, strict=True):
                self.assertEqual(len(set(part)), 13, part)
            self.assertEqual(await forks[0].qmp("query-vm-generation-id"), {"guid": ids[1][0]})
            # Each reads all of the memory, and none has a copy of it.
            await asyncio.gather(*(self.check(fork, 64 << 8) for fork in forks))
            for fork in forks:
                self.assertLess(own_mib(fork), 32)
            # What one writes is its own.
            forks[0].console.type("fill 48\n")
            await forks[0].console.expect(f"filled {48 << 8} pages")
            await forks[0].up()
            self.assertGreater(own_mib(forks[0]), 48)
            await asyncio.gather(*(self.check(fork, 64 << 8) for fork in forks[1:]))
            for fork in forks:
                self.assertEqual((await fork.status(), fork.events()), ("running", []))

    async def test_a_machine_becomes_a_fork_and_another_one(self):
        async with self.machine("-device", "vmgenid", memory="64M") as vm:
            await self.filled(vm, 16)
            await self.save(vm, "base")
            ids = [await self.identity(vm)]
            vm.console.type("fill 1\n")
            await vm.console.expect("filled 256 pages")
            for _ in range(2):
                words = await self.into(vm, "base")
                self.assertEqual(words[2:4], ["STOP", "RESUME"])
                ids.append(await self.identity(vm))
                await self.check(vm, 16 << 8)
            for part in zip(*ids, strict=True):
                self.assertEqual(len(set(part)), 3, part)
            # A load is another generation of the same machine.
            await self.load(vm, "base")
            generation, seed = await self.identity(vm)
            self.assertNotIn(generation, [first for first, _ in ids])
            self.assertEqual(seed, ids[0][1])
            # And what a fork saves is whole.
            await self.into(vm, "base")
            await self.save(vm, "from-fork")
            await self.load(vm, "from-fork", prefault=True)
            await self.check(vm, 16 << 8)
            error, _ = await self.job(vm, "x-snapshot-fork", kind="snapshot-load", name="none")
            self.assertEqual(error, "Snapshot 'none' does not exist in one or more devices")

    async def test_a_generation_that_is_given_is_what_a_fork_begins_with(self):
        async with self.machine("-device", "vmgenid") as vm:
            await vm.up()
            await self.save(vm, "base")
        guid = "00112233-4455-6677-8899-aabbccddeeff"
        async with self.fork("base", "-device", f"vmgenid,guid={guid}") as vm:
            self.assertEqual(await vm.qmp("query-vm-generation-id"), {"guid": guid})
            self.assertEqual((await vm.hmp("info vm-generation-id")).strip(), guid)
        # A machine that cannot show one to its guest has one all the same, and is not the one that was saved.
        async with self.machine() as vm:
            told = await vm.qmp("x-query-identity")
            self.assertFalse(told["visible"])
            await vm.refused("query-vm-generation-id", "VM Generation ID device not found")
            error, _ = await self.job(vm, "x-snapshot-fork", kind="snapshot-load", name="base")
            self.assertIn("the saved machine has a device 'vmgenid', this machine has not", error)
            self.assertEqual(await vm.qmp("x-query-identity"), told)


    async def test_a_move_keeps_the_identity_unless_one_is_given_there(self):
        guid = "00112233-4455-6677-8899-aabbccddeeff"
        for device, given in (("vmgenid", None), (f"vmgenid,guid={guid}", guid)):
            place = f"unix:{self.folder}/m"
            async with self.machine("-device", "vmgenid") as here:
                await here.up()
                before = await self.identity(here)
                async with self.machine("-device", device, "-incoming", place) as there:
                    await here.qmp("migrate", uri=place)
                    while (await here.qmp("query-migrate"))["status"] not in ("completed", "failed"):
                        pass
                    self.assertEqual(await there.status(), "running")
                    self.assertEqual(await self.identity(there), (given or before[0], before[1]))
                    await there.alive()


class States(Fork):
    async def test_a_fork_sleeps_or_stands_as_a_load_does(self):
        async with self.machine() as vm:
            await vm.up()
            await vm.fall_asleep()
            await self.save(vm, "asleep")
            await vm.qmp("stop")
            await self.save(vm, "stopped-asleep")
        for name in ("asleep", "stopped-asleep"):
            async with self.fork(name) as vm:
                self.assertEqual(await vm.status(), "suspended")
                await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
                await vm.awake()
            async with self.fork(name, "-S") as vm:
                self.assertEqual(await vm.status(), "prelaunch")
                await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")
                await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
                await vm.awake()
                # Into one that is stopped: what holds it here stays.
                await vm.qmp("stop")
                vm.events()
                await self.into(vm, name)
                self.assertEqual(await vm.status(), "paused")
                await self.says(vm, "cont", ["RESUME", "SUSPEND"], "suspended")

    async def test_a_difference_is_shared_and_what_is_packed_is_not(self):
        async with self.machine() as vm:
            await self.filled(vm, 64)
            await self.save(vm, "whole", incremental=True)
            vm.console.type("churn 8 64\n")
            await vm.console.expect("churning")
            await self.save(vm, "changed", incremental=True)
            await self.save(vm, "packed", compress=True)
            vm.console.type("\n")
            await vm.console.expect("churned")
        for name, shared in (("changed", True), ("packed", False)):
            async with self.fork(name) as vm:
                vm.console.type("\n")
                await vm.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
                await vm.up()
                await self.check(vm, 64 << 8)
                if shared:
                    self.assertLess(own_mib(vm), 48)
                else:
                    self.assertGreater(own_mib(vm), 64)


    async def test_a_fork_saves_what_it_has_changed(self):
        async with self.machine() as vm:
            await self.filled(vm, 64)
            await self.save(vm, "base")
        for number in (1, 2):
            async with self.fork("base") as vm:
                vm.console.type(f"fill {number}\n")
                await vm.console.expect(f"filled {number << 8} pages")
                await vm.up()
                await self.save(vm, f"fork{number}", incremental=True)
        async with self.fork("fork1") as one, self.fork("fork2") as two:
            listed = {entry["name"]: entry for entry in await one.qmp("x-snapshot-list")}
            for number, vm in ((1, one), (2, two)):
                entry = listed[f"fork{number}"]
                self.assertEqual(entry["parent"], "base")
                self.assertLess(entry["size"], 16 * MIB)
                await self.check(vm, number << 8)


class Damage(Fork):
    async def base(self):
        async with self.machine() as vm:
            await self.filled(vm, 32)
            await self.save(vm, "base")
        return self.folder / "base.snapshot"

    async def stands(self, vm, reason):
        await vm.event("STOP")
        self.assertEqual(await vm.status(), "internal-error")
        life = await vm.qmp("x-query-lifecycle")
        self.assertIn(reason, str(life))
        await vm.refused("cont", "Resetting the Virtual Machine is required")

    async def test_a_damaged_byte_is_found_before_the_guest_sees_it(self):
        path = await self.base()
        with path.open("r+b") as file:
            # Somewhere in what was filled: 16 MiB from the base of memory on.
            file.seek(4096 + 20 * MIB + 5)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 4]))
        async with self.fork("base") as vm:
            self.assertEqual(await vm.status(), "running")
            vm.console.type("check\n")
            await self.stands(vm, "damaged")

    async def test_a_file_that_is_cut_short_stops_the_machine_and_not_the_process(self):
        path = await self.base()
        async with self.fork("base") as vm:
            await self.check(vm, 32 << 8)
            # All of it has been judged, and is mapped.
            os.truncate(path, 4096 + 20 * MIB)
            vm.console.type("check\n")
            await self.stands(vm, "lost")
            await self.says(vm, "system_reset", ["RESET"], "prelaunch")
            await self.says(vm, "cont", ["RESUME"], "running")
            await vm.up()
        path.unlink()
        await self.base()
        async with self.fork("base") as vm:
            await vm.alive()
            # Not all of it has.
            os.truncate(path, 4096 + 20 * MIB)
            vm.console.type("check\n")
            await self.stands(vm, "cut short")


class Linux(Fork):
    async def test_the_kernel_seeds_its_generator_anew_awake_and_asleep(self):
        folder = ("-x-snapshots", str(self.folder), "-device", "vmgenid")
        reseeded = "crng reseeded due to virtual machine fork"

        async def count(vm):
            return int(re.search(r"^(\d+)\s*$", await vm.console.shell(f"dmesg | grep -c '{reseeded}' || true"), re.M)[1])

        async with Debian(*folder) as vm:
            await vm.up()
            self.assertEqual(await count(vm), 0)
            await self.save(vm, "awake")
            await vm.fall_asleep()
            await self.save(vm, "asleep")
        async with Debian(*folder, "-x-snapshot-fork", "awake") as one, Debian(*folder, "-x-snapshot-fork", "awake") as two:
            draws = [await vm.console.shell("head -c16 /dev/urandom | od -An -tx1") for vm in (one, two)]
            self.assertNotEqual(*draws)
            self.assertEqual((await count(one), await count(two)), (1, 1))
        async with Debian(*folder, "-x-snapshot-fork", "asleep") as vm:
            self.assertEqual(await vm.status(), "suspended")
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            await vm.awake()
            self.assertEqual(await count(vm), 1)
