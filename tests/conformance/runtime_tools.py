"""Gets opencontainers/runtime-tools through Go's module proxy and builds its programs, once per version.

Nothing of it is in this repository. The module's checksum is pinned here, and its own go.sum pins what it
depends on, so what is built is the same everywhere.
"""
import fcntl
import json
import os
import shutil
import subprocess

MODULE = 'github.com/opencontainers/runtime-tools'
# v0.9.0, the last release, is older than Go modules; this is the newest commit that can be built as one.
VERSION = 'v0.9.1-0.20250523060157-0ea5ed0382a2'
CHECKSUM = 'h1:2xZEHOdeQBV6PW8ZtimN863bIOl7OCW/X10K0cnxKeA='
TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(os.path.dirname(__file__), '..', '..', 'target')


class Unavailable(Exception):
    """The programs cannot be had on this machine; the text says why."""


def built():
    """The folder with the programs, runtimetest and the root file system's archive."""
    cache = os.path.realpath(os.path.join(TARGET, 'test-tools'))
    folder = os.path.join(cache, f'runtime-tools-{VERSION}')
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, 'runtime-tools.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, 'runtimetest')):
            build(folder)
    return folder


def build(folder):
    if not shutil.which('go'):
        raise Unavailable('Go is not on this machine')
    source, half = folder + '.source', folder + '.half'
    for leftover in (source, half, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(fetch(), source, copy_function=shutil.copyfile)  # the cache's files are read-only
    # Without its packages in it this folder would only mislead the build.
    shutil.rmtree(os.path.join(source, 'vendor'), ignore_errors=True)
    os.makedirs(half)
    # Static, for runtimetest runs in containers and the others below another C library.
    build_env = {**os.environ, 'CGO_ENABLED': '0', 'GOFLAGS': '-mod=readonly -buildvcs=false', 'GOWORK': 'off'}
    go(['build', '-ldflags', '-s -w', '-o', half + '/', './validation/...', './cmd/runtimetest'], source, build_env)
    for name in os.listdir(source):
        if name.startswith('rootfs-'):
            shutil.copyfile(os.path.join(source, name), os.path.join(half, name))
    shutil.rmtree(source)
    os.rename(half, folder)


def fetch():
    """The module in Go's cache, if it is the one that we mean."""
    answer = json.loads(go(['mod', 'download', '-json', f'{MODULE}@{VERSION}'], '/'))
    if answer.get('Sum') != CHECKSUM:
        raise RuntimeError(f'{MODULE}@{VERSION} has checksum {answer.get("Sum")}, not {CHECKSUM}')
    for folder, _, _ in os.walk(answer['Dir']):
        if not os.access(folder, os.R_OK):
            raise RuntimeError(f'{folder} in the module cache cannot be read')
    return answer['Dir']


def go(arguments, folder, env=None):
    done = subprocess.run(['go', *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'go {" ".join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}')
    return done.stdout
