"""What a check is here, and how the checks of a suite are run.

A check is a function that asserts; its name is what the user of the client was promised. Each makes what it needs under
names of its own and takes it away again, so that several run at once.
"""
import concurrent.futures
import inspect
import os
import sys
import threading
import time
import traceback
import uuid

# What is waited for here takes a second; the rest is for a loaded machine.
PATIENCE = 60
PRINTED = 1200  # characters of a failure's text


class Skipped(Exception):
    """Not to be checked here; the text says why."""


def unique(what):
    """A name that nobody else uses."""
    return f'{what}-{uuid.uuid4().hex[:10]}'


def eventually(what, ready, seconds=PATIENCE):
    """Poll until `ready` gives something true, and return that."""
    limit = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        assert time.monotonic() < limit, f'not within {seconds} s: {what}'
        time.sleep(0.05)


def raises(kind, words, action):
    """The failure that `action` ends with, of this kind and with these words."""
    try:
        value = action()
    except kind as failure:
        assert words in str(failure), f'{words!r} is not in {failure}'
        return failure
    raise AssertionError(f'no failure with {words!r}, but {value!r}')


def checks_of(*modules):
    """The functions that a module defines for itself and that take the surroundings alone, in its order."""
    found = []
    for module in modules:
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith('_'):
                if list(inspect.signature(value).parameters) == ['world']:
                    found.append(value)
    return found


def run(suite, checks, world, jobs=4):
    """Run all checks, or those with a word of the command line in their name; the exit code."""
    wanted = sys.argv[1:]
    checks = [check for check in checks if not wanted or any(word in check.__name__ for word in wanted)]
    count = {'ok': 0, 'FAIL': 0, 'skip': 0}
    lock = threading.Lock()
    began = time.monotonic()

    def one(check):
        start = time.monotonic()
        verdict, why = attempt(check, world)
        with lock:
            count[verdict] += 1
            seconds = f'({time.monotonic() - start:.1f} s)'
            print(f'  {verdict:5} {check.__name__}' + (f': {why} {seconds}' if why else f' {seconds}'), flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, checks))
    print(f'suite {suite}: {count["ok"]} passed, {count["FAIL"]} failed, {count["skip"]} skipped'
          f' ({time.monotonic() - began:.0f} s)', flush=True)
    return 1 if count['FAIL'] else 0


def attempt(check, world):
    """A verdict and the reason for it."""
    try:
        check(world)
        return 'ok', ''
    except Skipped as why:
        return 'skip', str(why)
    except Exception as failure:
        frames = traceback.extract_tb(failure.__traceback__)
        own = [frame for frame in frames if os.path.dirname(os.path.abspath(__file__)) in frame.filename]
        place = f'{os.path.basename(own[-1].filename)}:{own[-1].lineno} {own[-1].line}' if own else ''
        text = f'{type(failure).__name__}: {failure} [{place}]'
        return 'FAIL', text[:PRINTED].replace('\n', ' | ')
