"""Runs the functions it was given and prints what came of them as TAP."""

import sys
import traceback


class Report:

    def __init__(self, name):
        self.name = name
        self.tests = []

    def test(self, function):
        self.tests.append(function)
        return function

    def run(self):
        failed = 0
        print(f"1..{len(self.tests)}", flush=True)

        for number, function in enumerate(self.tests, 1):
            name = f"{self.name} {function.__name__}"
            try:
                function()
                print(f"ok {number} - {name}", flush=True)
            except Exception:
                failed += 1
                print(f"not ok {number} - {name}")
                for line in traceback.format_exc().splitlines():
                    print(f"# {line}", flush=True)

        sys.exit(1 if failed else 0)
