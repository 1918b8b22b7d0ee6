"""A client that follows a machine's life: it folds X_LIFECYCLE and knows at all times what x-query-lifecycle would say.

Standard library only, and nothing of the tests: an example of how a manager may do it (docs/lifecycle-query.md).
"""

import copy
import json
import socket

# What a record's `new` says outright. Those that are absent there are absent in the answer too.
SAID = (
    "state", "power", "power-reason", "needs-reset", "latched-wake", "pending-reset", "job", "epoch", "exit-code",
    "exiting", "actions", "wakeup-suspend-support",
)  # fmt: skip
# What the answer says of the moment at which it was asked, and what no record tells.
OF_THE_MOMENT = ("time", "guest-clock", "arrival", "wake-sources")


def spend(life, until):
    """Counts the host time up to `until` for the state and the power that the machine has."""
    passed = until - life["time"]["host-ns"]
    assert passed >= 0, "an answer lies behind the record that follows it"
    for times, name in (("state-times", "state"), ("power-times", "power")):
        for entry in life[times]:
            if entry[name] == life[name]:
                entry["host-ns"] += passed


def fold(life, record):
    """The answer of x-query-lifecycle after one more record."""
    assert record["sequence"] == life["sequence"] + 1, "a record is missing"
    life, new, time = copy.deepcopy(life), record["new"], record["time"]
    spend(life, time["host-ns"])
    for name in ("state", "power"):
        if new[name] != life[name]:
            life[name + "-since"] = time
    known = {(hold["owner"], hold.get("device"), hold["state"]): hold for hold in life["holds"]}
    first = {"since": time, "cause": record["cause"]}
    life["holds"] = [
        known.get((hold["owner"], hold.get("device"), hold["state"]), hold | first) for hold in new["holds"]
    ]
    life["live"], life["asleep"] = not new["holds"], new["power"] == "asleep"
    for name in SAID:
        life.pop(name, None)
    life |= {name: new[name] for name in SAID if name in new}
    if "woken-by" in record:
        life["wakes"] += 1
        life["last-wake"] = {"source": record["woken-by"], "time": time}
    if "refused-wake" in record:
        life["last-refused-wake"] = record["refused-wake"] | {"time": time}
    if record.get("event") == "RESET":
        life["last-reset"] = {"cause": record["cause"], "time": time}
    if "flush" in record:
        life.pop("flush-error", None)
        if not record["flush"]["ok"]:
            life["flush-error"] = {"error": record["flush"]["error"], "time": time}
    life["sequence"], life["time"] = record["sequence"], time
    return life


class Follower:
    """A connection of its own that follows the machine."""

    def __init__(self, path, patience=120.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience)
        self._socket.connect(path)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.life = None
        self.events = []
        self._line()
        self.command("qmp_capabilities")
        self.command("x-lifecycle-events", enable=True)
        self.life = self.command("x-query-lifecycle")

    def close(self):
        self._lines.close()
        self._socket.close()

    def command(self, name, **arguments):
        """The answer of a command; what comes before it is folded. An error is told as one."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while (line := self._line()).get("event"):
            self._take(line)
        return line["return"] if "return" in line else line["error"]

    def wait(self, event):
        """Waits for a QMP event of that name."""
        while True:
            line = self._line()
            self._take(line)
            if line["event"] == event:
                return

    def difference(self):
        """Where folding and asking differ: what was folded, and what was answered. Nothing should."""
        asked = self.command("x-query-lifecycle")
        folded = copy.deepcopy(self.life)
        spend(folded, asked["time"]["host-ns"])
        for life in (asked, folded):
            for name in OF_THE_MOMENT:
                life.pop(name, None)
        return {
            name: (folded.get(name), asked.get(name))
            for name in folded.keys() | asked.keys()
            if folded.get(name) != asked.get(name)
        }

    def _line(self):
        return json.loads(self._lines.readline() or "null")

    def _take(self, line):
        if line["event"] != "X_LIFECYCLE":
            self.events.append(line["event"])
        elif self.life:
            self.life = fold(self.life, line["data"])
