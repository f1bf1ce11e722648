"""What other runtimes reach in the validation programs, measured with `oci-runtime --record NAME`."""
import os
import tomllib
from collections import namedtuple

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'oci-runtime-baseline.toml')
HEAD = """# What other runtimes reach in the validation programs of opencontainers/runtime-tools:
# [points ok, points not ok, does the program as a whole pass, if only in one of several runs].
# Written by `oci-runtime --record NAME`; not edited by hand.
"""

Points = namedtuple('Points', 'ok wrong')


def load():
    if not os.path.exists(FILE):
        return {}
    with open(FILE, 'rb') as file:
        return tomllib.load(file)


def best_failing():
    """By program, the points of the runtime that did best among those that failed in it."""
    reached = {}
    for runtime in load().values():
        for program, (right, wrong, passed) in runtime['programs'].items():
            held = reached.get(program)
            if not passed and (held is None or (right, -wrong) > (held.ok, -held.wrong)):
                reached[program] = Points(right, wrong)
    return reached


def record(name, version, outcomes):
    """Write one runtime's results; what the same version has passed once, it can pass."""
    runtimes, version = load(), version.splitlines()[0]
    earlier = runtimes.get(name, {})
    programs = dict(earlier['programs']) if earlier.get('version') == version else {}
    for outcome in outcomes:
        if not programs.get(outcome.name, (0, 0, False))[2]:
            programs[outcome.name] = [outcome.tap.ok, len(outcome.tap.wrong), outcome.passed]
    runtimes[name] = {'version': version, 'programs': programs}
    with open(FILE, 'w') as file:
        file.write(HEAD)
        for runtime, entry in sorted(runtimes.items()):
            passed = sum(one[2] for one in entry['programs'].values())
            file.write(f'\n# {passed} of {len(entry["programs"])} programs pass.\n[{runtime}]\n')
            file.write(f'version = "{entry["version"]}"\n\n[{runtime}.programs]\n')
            for program, (right, wrong, whole) in sorted(entry['programs'].items()):
                file.write(f'{program} = [{right}, {wrong}, {str(whole).lower()}]\n')
