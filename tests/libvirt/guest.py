"""What the embedded guest is asked to do in tests of machines that are saved and moved."""

from host import PATIENCE

PROMPT = "dormouse> "
MIB = 8
PAGES = MIB * 256


def filled(domain, mib=MIB):
    """Starts the domain and has its guest fill memory with what cannot be compressed; gives its console."""
    domain.virsh("start")
    console = domain.console(PROMPT, PATIENCE)
    console.type(f"fill {mib}\n")
    console.expect(f"filled {mib * 256} pages")
    return console


def check(domain, mib=MIB):
    """Has the guest check what it filled; gives its console."""
    console = domain.console(PROMPT, PATIENCE)
    console.type("check\n")
    console.expect(f"checked {mib * 256} pages, 0 wrong")
    return console


def asleep(domain):
    """Starts the domain and has its guest fill memory and sleep until it is woken."""
    filled(domain).type("sleep\n")
    domain.event("PMSuspended Memory")


def wake(case, domain):
    """Wakes the sleeping guest: it goes on where it slept, and its memory is as it was."""
    console = domain.serial()
    case.says(domain, "dompmwakeup", "running (event wakeup)", "Started Event wakeup")
    console.expect("awake after")
    console.type("check\n")
    console.expect(f"checked {PAGES} pages, 0 wrong")
