"""A mount namespace for runtimes to be tried in, held by one sleeping process.

    machine's /  ──unshare, private──►  the v2 half of a hybrid cgroup tree hidden
                                        with a tree: its folder becomes the root,
                                        with the machine's /proc, /sys and /dev, an
                                        empty /run and /tmp, and the work folder at
                                        the path that it has outside

Why the v2 half goes: crun refuses a v1 machine that has a v2 controller mounted beside it, and what is compared
must see the same machine. Why a tree: newer engines need a newer C library than the machine may have, so they
live in a Debian tree of their own (debootstrap); the pivot makes that tree a machine's root in earnest, for
a runtime's own pivot_root does not work as it should in a mere chroot.

Everything that was mounted in here is gone once the holder and all who entered have ended.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH, SYS_PIVOT_ROOT, PR_SET_PDEATHSIG = 2, 155, 1
V2_BESIDE_V1 = '/sys/fs/cgroup/unified'
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

libc = ctypes.CDLL(None, use_errno=True)


def checked(result, what):
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f'{what}: {os.strerror(errno)}')


def mount(source, target, kind=None, flags=0, data=None):
    text = [None if word is None else word.encode() for word in (source, target, kind, data)]
    checked(libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]), f'mount {source} on {target}')


class Sandbox:
    """Entered by `run` and `popen`; `close` ends the holder and removes the work folder."""

    def __init__(self, tree=None, network=False, show=None, cover=()):
        """`network`: an own network namespace as well; `show`: folders of the machine, by name in the work folder;
        `cover`: folders of the tree that shall be empty."""
        self.tree = os.path.realpath(tree) if tree else None
        self.show, self.cover = show or {}, cover
        self.work = tempfile.mkdtemp(prefix='oci-suite-')
        os.chmod(self.work, 0o711)
        ready, tell = os.pipe()
        self.holder = os.fork()
        if self.holder == 0:
            self._hold(ready, tell, network)
        os.close(tell)
        with os.fdopen(ready) as answer:
            failure = answer.read()
        if failure != 'ready':
            self.close()
            raise RuntimeError(f'no namespace to test in: {failure}')

    def _hold(self, ready, tell, network):
        """The holder's life: make the namespace, say so, sleep until it is killed."""
        try:
            os.close(ready)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            checked(libc.unshare(CLONE_NEWNS | (CLONE_NEWNET if network else 0)), 'unshare')
            mount(None, '/', flags=MS_REC | MS_PRIVATE)
            for name, folder in self.show.items():
                os.mkdir(os.path.join(self.work, name))
                mount(folder, os.path.join(self.work, name), flags=MS_BIND)
            if self.tree:
                self._become_root()
            if os.path.ismount(V2_BESIDE_V1):
                checked(libc.umount2(V2_BESIDE_V1.encode(), MNT_DETACH), f'umount {V2_BESIDE_V1}')
            os.write(tell, b'ready')
        except BaseException as failure:  # the parent must hear of it, whatever it is
            os.write(tell, str(failure).encode())
            os._exit(1)
        os.close(tell)
        while True:
            signal.pause()

    def _become_root(self):
        tree = self.tree
        mount(tree, tree, flags=MS_BIND)
        for name in ('proc', 'sys', 'dev'):
            mount(f'/{name}', f'{tree}/{name}', flags=MS_BIND | MS_REC)
        for name, mode in (('run', '755'), ('tmp', '1777'), *((name.lstrip('/'), '755') for name in self.cover
                                                            if os.path.isdir(tree + name))):
            mount('none', f'{tree}/{name}', 'tmpfs', data=f'mode={mode}')
        os.makedirs(tree + self.work)
        mount(self.work, tree + self.work, flags=MS_BIND | MS_REC)
        os.chdir(tree)
        checked(libc.syscall(SYS_PIVOT_ROOT, b'.', b'.'), 'pivot_root')
        checked(libc.umount2(b'.', MNT_DETACH), 'umount of the old root')
        os.chdir('/')

    def adopt(self, program):
        """The path under which a program of this machine can be called inside."""
        program = os.path.abspath(shutil.which(program) or program)
        if not os.access(program, os.X_OK):
            raise FileNotFoundError(f'{program} is no program')
        if not self.tree:
            return program
        if program.startswith(self.tree + '/'):
            return program.removeprefix(self.tree)
        folder = os.path.join(self.work, 'bin')
        os.makedirs(folder, exist_ok=True)
        return shutil.copy2(program, folder)

    def inside(self, argv):
        namespaces = [f'--{kind}=/proc/{self.holder}/ns/{short}' for kind, short in (('mount', 'mnt'), ('net', 'net'))]
        return ['nsenter', *namespaces, '--', *argv]

    def run(self, argv, **options):
        return subprocess.run(self.inside(argv), **self._with_path(options))

    def popen(self, argv, **options):
        return subprocess.Popen(self.inside(argv), **self._with_path(options))

    @staticmethod
    def _with_path(options):
        return {'env': {**os.environ, 'PATH': PATH}, **options}

    def close(self):
        if self.holder:
            os.kill(self.holder, signal.SIGKILL)
            os.waitpid(self.holder, 0)
            self.holder = None
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
