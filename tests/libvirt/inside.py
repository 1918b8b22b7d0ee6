"""The first process of the private namespaces in which libvirt runs: mounts over libvirt's folders, starts its daemons.

usage: unshare --mount --uts --pid --fork --mount-proc --kill-child python inside.py FOLDER NAME

FOLDER/etc, lib, cache, log and run take the place of libvirt's own folders, in this mount namespace alone; NAME is the
host's name here, for libvirt does not move a machine to a host of the same name. A line `stop` on the standard input ends
libvirtd, `kill` does at once, `start` starts another; the answer is a line `ready`, as after the first start. At the end of
the input this process ends, and with it, as the first of its namespace, every process that was started here.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

FOLDERS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "run": "/run",
}
PATIENCE = 60.0  # seconds for what takes one


def reap(*_):
    """Takes leave of children that have ended, as the first process of a namespace must: machines are orphans."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def start(program, folder, listens):
    """Starts a daemon and waits until it listens."""
    if os.path.exists(listens):
        os.remove(listens)
    with open(folder / "log" / f"{program}.err", "a") as errors:
        daemon = subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(listens):
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{program} does not listen at {listens}")
        time.sleep(0.01)
    return daemon


def main(folder, name):
    socket.sethostname(name)
    for name, place in FOLDERS.items():
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "--bind", folder / name, place], check=True)
    os.makedirs("/run/lock", exist_ok=True)
    signal.signal(signal.SIGCHLD, reap)
    start("virtlogd", folder, "/run/libvirt/virtlogd-sock")
    libvirtd = start("libvirtd", folder, "/run/libvirt/libvirt-sock")
    print("ready", flush=True)
    for line in sys.stdin:
        if line in ("stop\n", "kill\n"):
            libvirtd.terminate() if line == "stop\n" else libvirtd.kill()
            libvirtd.wait(PATIENCE)
        elif line == "start\n":
            libvirtd = start("libvirtd", folder, "/run/libvirt/libvirt-sock")
        else:
            sys.exit(f"unknown word {line!r}")
        print("ready", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
