"""Reads what a validation program prints: TAP, the Test Anything Protocol."""
import re
from dataclasses import dataclass, field

# Only at the start of a line: indented lines are diagnostics, in which runtimetest's own results are quoted.
RESULT = re.compile(r'^(not )?ok\b\s*(?:\d+)?\s*(?:- )?(.*)$')
PLAN = re.compile(r'^1\.\.(\d+)')
COMPLAINT = re.compile(r'^\s+"error": "')
DIRECTIVE = re.compile(r'#\s*(skip|todo)\b', re.IGNORECASE)


@dataclass
class Tap:
    ok: int = 0
    skipped: int = 0
    planned: int = 0
    complaints: int = 0
    wrong: list = field(default_factory=list)

    @property
    def complete(self):
        """Was all tested that was announced?

        The programs about hooks give no results: they print an error when they find one, and a plan of none.
        """
        results = self.ok + self.skipped + len(self.wrong)
        return self.planned <= results if results else not self.complaints


def read(text):
    tap = Tap()
    for line in text.splitlines():
        if plan := PLAN.match(line):
            tap.planned = max(tap.planned, int(plan[1]))
        elif result := RESULT.match(line):
            if DIRECTIVE.search(result[2]):
                tap.skipped += 1
            elif result[1]:
                tap.wrong.append(result[2].strip())
            else:
                tap.ok += 1
        elif COMPLAINT.match(line):
            tap.complaints += 1
    return tap
