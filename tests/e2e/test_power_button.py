"""The power button: what a guest with a driver makes of `system_powerdown`."""

from vm import Debian, Scenario, Systemd

ACPID = (
    "mkdir -p /etc/acpi/PWRF; "
    "printf '#!/bin/sh\\necho power''-key > /dev/console; [ -e /keep-on ] || poweroff -f\\n' > /etc/acpi/PWRF/00000080; "
    "chmod +x /etc/acpi/PWRF/00000080"
)


class Busybox(Scenario):
    """Debian's kernel with busybox's acpid."""

    async def up(self, vm, keep_on=False):
        await vm.up()
        await vm.console.shell("load")
        await vm.console.shell(ACPID + ("; touch /keep-on" if keep_on else ""))
        await vm.console.shell("mkdir -p /var/log /var/run; acpid")
        # Once it has the device open.
        await vm.console.shell("until ls -l /proc/$(pidof acpid)/fd | grep -q event; do :; done")

    async def shut_down(self, vm):
        self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
        self.assertEqual(await vm.exit_status(), 0)

    async def test_shuts_down(self):
        async with Debian() as vm:
            await self.up(vm)
            await vm.qmp("system_powerdown")
            await vm.event("POWERDOWN")
            await vm.console.expect("power-key")
            await self.shut_down(vm)

    async def test_pressed_while_stopped(self):
        async with Debian() as vm:
            await self.up(vm)
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "system_powerdown", ["POWERDOWN"], "paused")
            await vm.qmp("cont")
            await vm.event("RESUME")
            await self.shut_down(vm)

    async def test_pressed_while_asleep(self):
        async with Debian() as vm:
            await self.up(vm)
            await vm.fall_asleep()
            await vm.qmp("system_powerdown")
            await vm.event("POWERDOWN")
            await vm.event("WAKEUP")
            self.assertEqual(await vm.last_wake(), "power-button")
            await vm.console.expect("power-key")
            await self.shut_down(vm)

    async def test_pressed_while_asleep_and_stopped(self):
        async with Debian() as vm:
            await self.up(vm)
            await vm.fall_asleep()
            await self.says(vm, "stop", ["STOP"], "paused")
            await self.says(vm, "system_powerdown", ["POWERDOWN"], "paused")
            await self.says(vm, "system_powerdown", ["POWERDOWN"], "paused")
            await vm.qmp("cont")
            await vm.event("RESUME")
            await vm.event("WAKEUP")
            await self.shut_down(vm)

    async def test_forbidden_it_waits_for_another_wake(self):
        async with Debian("-x-wake", "power-button=off") as vm:
            await self.up(vm, keep_on=True)
            await vm.fall_asleep()
            await self.says(vm, "system_powerdown", ["POWERDOWN"], "suspended")
            self.assertEqual((await vm.wake_source("power-button"))["forbidden"], 1)
            await self.says(vm, "system_wakeup", ["WAKEUP"], "running")
            # Either may be on the console first.
            await vm.console.expect(r"(?s)power-key.*woke-0\.|woke-0\..*power-key")
            await vm.alive()
            self.assertEqual(await vm.status(), "running")


class WithSystemd(Scenario):
    """systemd with logind and default settings."""

    async def clean_end(self, vm):
        for text in (
            r"Stopped target .*multi-user\.target",
            r"Stopped .*systemd-logind\.service",
            r"Reached target .*poweroff\.target",
        ):
            await vm.console.expect(text)
        self.assertEqual(await vm.event("SHUTDOWN"), {"guest": True, "reason": "guest-shutdown"})
        self.assertEqual(await vm.exit_status(), 0)

    async def test_shuts_down_cleanly(self):
        async with Systemd() as vm:
            await vm.up()
            await vm.qmp("system_powerdown")
            await vm.event("POWERDOWN")
            await self.clean_end(vm)
