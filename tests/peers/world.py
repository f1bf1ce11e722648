"""Where the engines live: a sandbox with a network of its own, private folders, one cgroup name, daemons by pid."""
import os
import subprocess
import sys
import time

import kernel
from image import make_image

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'oci'))
from bundle import find_busybox
from sandbox import Sandbox


class World:
    """`tree` has the engines' programs; `runtime` is the program that is judged."""

    def __init__(self, tree, runtime):
        self.cgroup = f'peers-{os.getpid()}'
        self.sandbox = Sandbox(tree, network=True, cover=['/etc/containers', '/etc/cni'])
        self.daemons, self.before = [], set()
        try:
            self.runtime = self.sandbox.adopt(runtime)
            self.before = self._cgroups()
            self.archive = self.path('image.tar')
            make_image(self.archive, self.path('rootfs'), find_busybox(self.sandbox.tree))
            self.sandbox.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
        except BaseException:
            self.close()
            raise

    def path(self, *names):
        """In the work folder, which has the same path inside and outside."""
        return os.path.join(self.sandbox.work, *names)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)
        return path

    def has(self, program):
        return self.sandbox.run(['which', program], stdout=subprocess.DEVNULL, check=False).returncode == 0

    def spawn(self, name, argv, ready, seconds=60):
        """Start a daemon and wait until `ready` is true."""
        with open(self.path(f'{name}.log'), 'w') as log:
            process = self.sandbox.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         start_new_session=True)
        self.daemons.append(process)
        limit = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > limit:
                with open(self.path(f'{name}.log')) as log:
                    raise RuntimeError(f'{name} does not answer: {log.read()[-1500:]}')
            time.sleep(0.1)
        return process

    def close(self):
        """Stop and remove everything; gives a list of what would not go."""
        for process in reversed(self.daemons):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        left = kernel.remove_cgroups(self.cgroup)
        for pid in kernel.living_in(self.sandbox.holder):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        for name in self._cgroups() - self.before:  # those of engines' own, which take no name
            left += kernel.remove_cgroups(name)
        self.sandbox.close()
        return left + ([self.sandbox.work] if os.path.exists(self.sandbox.work) else [])

    @staticmethod
    def _cgroups():
        known = ('docker', 'libpod_parent', 'conmon', 'default')
        return {name for name in known for top in kernel.hierarchies() if os.path.exists(os.path.join(top, name))}
