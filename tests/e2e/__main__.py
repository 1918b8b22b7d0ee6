"""Runs the end-to-end tests and prints one line a test.

usage: python tests/e2e [WORD...]     only tests whose name contains one of the words

DORMOUSE names the program (default: target/release/dormouse), DORMOUSE_DEBIAN_GUEST the folder of the Debian guest;
without the latter the tests that need it are skipped by name.
"""

import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import runner  # noqa: E402

if __name__ == "__main__":
    sys.exit(runner.run(HERE, sys.argv[1:]))
