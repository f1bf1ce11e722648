"""What the checks share: clients, and containers that go when the check has ended."""
import contextlib
import os
import threading

import docker
from checks import PATIENCE, unique


class World:
    def __init__(self):
        self.registry = os.environ['IECHOR_TEST_REGISTRY']
        self.folder = os.environ['IECHOR_TEST_FOLDER']
        self.tls_host = os.environ['IECHOR_TEST_TLS_HOST']
        self.certs = os.environ['IECHOR_TEST_CERTS']
        self.local = threading.local()

    @property
    def client(self):
        """One for each thread, as the pool of connections below it is told to be used."""
        if not hasattr(self.local, 'client'):
            self.local.client = docker.from_env(timeout=PATIENCE)
        return self.local.client

    @contextlib.contextmanager
    def container(self, command='sleep 1000', start=True, **options):
        """A container that is removed in the end, with its volumes."""
        make = self.client.containers.create
        made = make('busybox', command, name=options.pop('name', unique('python')), **options)
        try:
            if start:
                made.start()
            made.reload()
            yield made
        finally:
            with contextlib.suppress(docker.errors.NotFound):
                made.remove(force=True, v=True)

    def shell(self, container, line, **options):
        """Output of a shell line in a running container."""
        code, output = container.exec_run(['sh', '-c', line], **options)
        assert code == 0, (line, code, output)
        return output.decode()
