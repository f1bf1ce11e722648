"""A client on a pseudo terminal: what is typed, what is seen, the window's size."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from checks import Failure


class Terminal:
    def __init__(self, sandbox, argv, env, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        # Its own session with this as its terminal, or the client would not hear of a new size.
        self.process = subprocess.Popen(sandbox.inside(['setsid', '--ctty', '--wait', *argv]), env=env,
                                        stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = ''

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def resize_until_seen(self, rows, columns, tries=10):
        """Until the program says its new size. Again and again, for a client listens only once it has attached."""
        for _ in range(tries):
            self.resize(rows, columns - 1)
            self.resize(rows, columns)
            try:
                return self.wait_for(f'{rows} {columns}', 1.5)
            except Failure as failure:
                last = failure
        raise last

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, part, seconds=15):
        """Read until `part` has been printed since the last call; gives what came up to there."""
        limit = time.monotonic() + seconds
        while part not in self.seen:
            if time.monotonic() > limit or not self._read(0.2):
                raise Failure(f'{part!r} was not printed, but {self.seen!r}')
        before, self.seen = self.seen.split(part, 1)
        return before + part

    def wait(self, seconds=15):
        """The client's exit code, all of its output read."""
        limit = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > limit:
                raise Failure(f'the client did not end; it printed {self.seen!r}')
            self._read(0.1)
        while self._read(0.05):
            if not select.select([self.master], [], [], 0)[0]:
                break
        return self.process.returncode

    def _read(self, seconds):
        """Take what there is; false at the end."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                return False
            self.seen += data.decode(errors='replace')
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
