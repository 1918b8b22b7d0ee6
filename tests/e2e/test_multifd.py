"""Memory over several connections, between two processes."""

import test_tls
from test_migration import Moves


async def spread(channels, *machines):
    """Has these migrate over so many connections beside the main one."""
    for vm in machines:
        await vm.capability("multifd")
        await vm.qmp("migrate-set-parameters", multifd_channels=channels)


class Multifd(Moves):
    async def test_a_guest_that_works_goes_on_over_there(self):
        for channels in (1, 4):
            with self.subTest(channels=channels):
                async with self.pair(memory="128M") as (here, there, place):
                    await spread(channels, here, there)
                    here.console.type("fill 64\nchurn 16 1\n")
                    await here.console.expect("churning")
                    await self.move(here, there, place)
                    ram = (await here.qmp("query-migrate"))["ram"]
                    self.assertGreaterEqual(ram["multifd-bytes"], 64 << 20)
                    self.assertGreater(ram["transferred"], ram["multifd-bytes"])
                    there.console.type("\ncheck\n")
                    await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
                    await there.console.expect("checked 16384 pages, 0 wrong")

    async def test_both_sides_have_to_want_it(self):
        async with self.pair() as (here, there, place):
            await spread(2, here)
            text = "Capability multifd is off, but received capability is on"
            await there.qmp("migrate-incoming", uri=place, exit_on_error=False)
            await here.qmp("migrate", uri=place)
            self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
            self.assertEqual((await here.qmp("query-migrate"))["error-desc"], text)
            self.assertEqual((await there.told("completed", "failed"))[-1], "failed")
            self.assertEqual((await here.status(), await there.status()), ("running", "inmigrate"))
            await here.refused("migrate", "Migration requires multi-channel URIs (e.g. tcp)", uri="exec:cat")
            await spread(2, there)
            await self.move(here, there, place)
            await there.alive()


class Sealed(test_tls.Tls):
    """Everything that holds of TLS holds of several connections."""

    async def listen(self, there):
        await spread(3, there)
        return await super().listen(there)

    async def equip(self, vm, folder, name="tls0"):
        await super().equip(vm, folder, name)
        await spread(3, vm)
