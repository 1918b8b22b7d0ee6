"""What QEMU cannot say, from outside: the whole life in one answer, records that fold to it, and the picture."""

import json
import os
import random
import subprocess
import tempfile

from lifecycle import Follower
from vm import PROGRAM, Embedded, Scenario

COMMANDS = ("stop", "cont", "stop", "cont", "system_reset", "system_wakeup", "system_powerdown", "inject-nmi")


class Lifecycle(Scenario):
    async def test_folding_equals_asking_at_every_step(self):
        folder = tempfile.TemporaryDirectory(prefix="dormouse-e2e-")
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "qmp2")
        async with Embedded("-qmp", f"unix:{path},server=on,wait=off") as vm:
            await vm.up()
            follower = Follower(path)
            self.addCleanup(follower.close)
            self.assertEqual(follower.difference(), {})
            await vm.fall_asleep()
            self.assertEqual(follower.difference(), {})
            seen = set()
            chance = random.Random(3)
            for step in range(300):
                command = chance.choice(COMMANDS)
                # Sometimes somebody else asks, and this client only hears of it.
                if chance.random() < 0.5:
                    follower.command(command)
                elif command not in ("system_wakeup", "inject-nmi"):
                    await vm.qmp(command)
                self.assertEqual(follower.difference(), {}, (step, command))
                seen.add((follower.life["state"], follower.life["power"]))
                if follower.life["power"] == "awake" and follower.life["live"] and chance.random() < 0.2:
                    vm.console.type("\nsleep\n")
            self.assertLessEqual({("paused", "asleep"), ("running", "awake"), ("prelaunch", "awake")}, seen)

    async def test_a_stopped_sleeper_tells_why_it_stands(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.fall_asleep()
            await vm.qmp("stop")
            life = await vm.qmp("x-query-lifecycle")
            self.assertEqual((life["state"], life["power"], life["asleep"]), ("paused", "asleep", True))
            (hold,) = life["holds"]
            self.assertEqual((hold["owner"], hold["cause"]["request"]), ("manager", "stop"))
            text = await vm.hmp("info lifecycle")
            self.assertIn("guest: asleep", text)
            self.assertIn("held by: manager (paused)", text)
            self.assertTrue(any(source["source"] == "management" for source in life["wake-sources"]))

    async def test_an_alarm_that_wakes_is_named(self):
        async with Embedded() as vm:
            await vm.up()
            vm.console.type("sleep 5\n")
            await vm.event("SUSPEND")
            life = await vm.qmp("x-query-lifecycle")
            armed = {source["source"] for source in life["wake-sources"] if source["armed"]}
            self.assertTrue(any(source.startswith("rtc") for source in armed), armed)
            await vm.advance(6)
            await vm.event("WAKEUP")
            life = await vm.qmp("x-query-lifecycle")
            self.assertIn(life["last-wake"]["source"], armed)
            self.assertEqual(life["wakes"], 1)

    async def test_figures_of_a_guest_that_runs(self):
        async with Embedded() as vm:
            await vm.up()
            await vm.qmp("stop")
            text = await vm.qmp("x-query-metrics")
            figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            self.assertGreater(int(figures['dormouse_instructions_total{hart="0"}']), 1000)
            self.assertGreater(int(figures['dormouse_exits_total{hart="0",kind="wait"}']), 0)
            self.assertEqual(figures['dormouse_state{state="paused"}'], "1")
            self.assertEqual(figures['dormouse_request_duration_seconds_count{request="stop"}'], "1")

    async def test_the_event_log_becomes_a_picture(self):
        with tempfile.TemporaryDirectory() as folder:
            log, picture = os.path.join(folder, "life.log"), os.path.join(folder, "life.svg")
            async with Embedded("-x-event-log", log) as vm:
                await vm.up()
                await vm.fall_asleep()
                await vm.qmp("stop")
                await vm.qmp("cont")
                await vm.qmp("system_wakeup")
                await vm.qmp("quit")
                await vm.process.wait()
            with open(log, encoding="utf-8") as lines:
                records = [json.loads(line)["data"] for line in lines]
            self.assertEqual([record["sequence"] for record in records], list(range(1, len(records) + 1)))
            self.assertEqual(records[0]["cause"], {"origin": "start", "request": "start"})
            self.assertEqual(records[-1]["event"], "SHUTDOWN")
            subprocess.run([PROGRAM, "timeline", log, "-o", picture], check=True, timeout=60)
            with open(picture, encoding="utf-8") as file:
                text = file.read()
            for part in ("<title", "wake: management", ">asleep</text>", "1 sleep"):
                self.assertIn(part, text)
            wrong = subprocess.run(
                [PROGRAM, "timeline", picture], capture_output=True, timeout=60, check=False, text=True
            )
            self.assertEqual(wrong.returncode, 1)
            self.assertIn("line 1 is not a JSON object", wrong.stderr)
