"""What a check is, and how a list of them is run.

A check is a function that is given an engine, makes containers through it, and asserts. Its name is what the user was
promised. `Unsupported` is raised by a check that this machine or engine cannot serve, with the reason.
"""
import signal
import subprocess
import time
import traceback

SECONDS = 120  # for a check as a whole, whatever it waits for
PRINTED = 1500  # characters of a failure's text


class Unsupported(Exception):
    """Not to be checked here; the text says why."""


class Failure(AssertionError):
    """What was promised was not kept."""


def expect(holds, *facts):
    if not holds:
        raise Failure(' '.join(str(fact) for fact in facts))


def equal(found, wanted, what=''):
    expect(found == wanted, what, f'is {found!r}, not {wanted!r}')


def contains(text, part, what=''):
    expect(part in text, what, f'{part!r} is not in {text!r}')


def eventually(condition, what, seconds=10):
    """Poll until `condition` gives something true, and return that."""
    limit = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < limit, f'not within {seconds} s:', what)
        time.sleep(0.05)


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def run(self, engine, checks):
        signal.signal(signal.SIGALRM, late)
        for check in checks:
            began = time.monotonic()
            verdict, why = attempt(check, engine)
            cleared, failure = attempt(type(engine).clear, engine)
            if cleared != 'ok':
                verdict, why = 'not ok', f'{why or ""} its containers would not go: {failure}'.strip()
            self.passed += verdict == 'ok'
            self.failed += verdict == 'not ok'
            self.skipped += verdict == 'skipped'
            line = f'{verdict} {engine.name}: {check.__name__}' + (f': {why}' if why else '')
            print(f'{line} [{time.monotonic() - began:.1f} s]', flush=True)


def attempt(check, engine):
    """A verdict and the reason for it, in limited time."""
    signal.alarm(SECONDS)
    try:
        check(engine)
        return 'ok', None
    except Unsupported as why:
        return 'skipped', str(why)
    except Exception as failure:
        return 'not ok', reason(failure)
    finally:
        signal.alarm(0)


def late(*_):
    raise Failure(f'not done after {SECONDS} s')


def reason(failure):
    if isinstance(failure, Failure):
        text = str(failure)
    elif isinstance(failure, subprocess.TimeoutExpired):
        text = f'not done after {failure.timeout} s: {" ".join(failure.cmd[-8:])}'
    else:
        text = ''.join(traceback.format_exception(failure)[-3:])
    return text.strip()[:PRINTED].replace('\n', '\n    ')
