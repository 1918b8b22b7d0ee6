"""Runs the tests of a folder and prints one line a test, in the form of Rust's test programs."""

import time
import unittest


def short_name(test):
    """`test_sleep.Debian.test_x` as `sleep::Debian::x`."""
    return test.id().replace("test_", "").replace(".", "::")


class Lines(unittest.TestResult):
    """Prints `test NAME ... ok|FAILED|skipped, REASON` and keeps the reports of failures for the end."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.reports = []

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.failed_parts = 0

    def say(self, test, text):
        print(f"test {short_name(test)} ... {text}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        if not self.failed_parts:
            self.passed += 1
            self.say(test, f"ok <{time.monotonic() - self.started:.1f}s>")

    def fail(self, test, err):
        self.reports.append((short_name(test), self._exc_info_to_string(err, test)))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.fail(test, err)
        self.say(test, "FAILED")

    def addError(self, test, err):
        super().addError(test, err)
        self.fail(test, err)
        self.say(test, "FAILED")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.failed_parts += 1
            self.fail(subtest, err)
            self.say(test, f"FAILED in {subtest._subDescription()}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, f"skipped, {reason}")


def tests_in(suite):
    """All single tests of nested suites."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def run(folder, words):
    """Runs the tests of a folder, only those whose name contains one of the words if there are any; gives the exit status."""
    tests = list(tests_in(unittest.TestLoader().discover(folder, pattern="test_*.py", top_level_dir=folder)))
    if words:
        tests = [test for test in tests if any(word in short_name(test) for word in words)]
    result = Lines()
    # A suite again, so that what a module sets up for all of its tests is set up once.
    unittest.TestSuite(tests).run(result)
    for name, report in result.reports:
        print(f"\n---- {name} ----\n{report}")
    failed = len(result.failures) + len(result.errors)
    print(f"\ntest result: {result.passed} passed; {failed} failed; {len(result.skipped)} skipped")
    return 1 if failed or not tests else 0
