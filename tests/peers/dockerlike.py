"""Docker and Podman, which have the same command line but for a few words."""
import json
import os
import subprocess

from checks import Unsupported, equal, eventually
from image import NAME as IMAGE
from terminal import Terminal

SECONDS = 60


class DockerLike:
    def __init__(self, world, name, client, environment=None):
        self.world, self.name, self.client = world, name, client
        path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        self.environment = {'PATH': path, 'HOME': world.path('home'), 'TERM': 'xterm', **(environment or {})}
        self.count, self.made = 0, []

    # -- the client -------------------------------------------------------------
    def cli(self, *words, seconds=SECONDS, **options):
        """Run the client to its end; its result has code, stdout and stderr as text."""
        options.setdefault('stdin', None if 'input' in options else subprocess.DEVNULL)
        if 'input' in options:
            del options['stdin']
        return self.world.sandbox.run([*self.client, *words], env=self.environment, capture_output=True, text=True,
                                      timeout=seconds, check=False, **options)

    def must(self, *words, **options):
        """Like `cli`, for what has to succeed: its output."""
        done = self.cli(*words, **options)
        equal(done.returncode, 0, f'{" ".join(words)}: {done.stderr.strip()}: exit code')
        return done.stdout.strip()

    def popen(self, *words, **options):
        return self.world.sandbox.popen([*self.client, *words], env=self.environment, text=True, **options)

    def terminal(self, *words, **size):
        return Terminal(self.world.sandbox, [*self.client, *words], self.environment, **size)

    # -- containers -------------------------------------------------------------
    def name_one(self):
        self.count += 1
        self.made.append(f'judged-{self.name}-{self.count}')
        return self.made[-1]

    def words(self, options, command, verb='run'):
        return [verb, '--name', self.name_one(), '--cgroup-parent', f'/{self.world.cgroup}',
                *self.default_options(options), *options, IMAGE, *command]

    def default_options(self, options):
        """Most checks need no network, and without one a container starts faster."""
        if any(option.startswith(('--network', '--net', '--publish', '--pod')) for option in options):
            return []
        return ['--network', 'none']

    def run(self, *command, options=(), **further):
        """A container from its start to its end, in the foreground."""
        return self.cli(*self.words(['--rm', *options], command), **further)

    def output(self, *command, options=(), **further):
        """Of a container that has to succeed."""
        return self.must(*self.words(['--rm', *options], command), **further)

    def sh(self, script, options=(), **further):
        return self.output('sh', '-c', script, options=options, **further)

    def start(self, *command, options=()):
        """A container in the background; gives its name."""
        self.must(*self.words(['--detach', *options], command or ['sleep', '100000']))
        return self.made[-1]

    def exec(self, name, *command, options=(), **further):
        return self.cli('exec', *options, name, *command, **further)

    def inspect(self, name, field):
        return self.must('inspect', '--format', '{{json .%s}}' % field, name)

    def read(self, name, field):
        return json.loads(self.inspect(name, field))

    def pid(self, name):
        return self.read(name, 'State.Pid')

    def status(self, name):
        return self.read(name, 'State.Status')

    def wait_status(self, name, wanted):
        eventually(lambda: self.status(name) == wanted, f'{name} is {wanted}')

    def clear(self):
        """Remove what a check has made."""
        if self.made:
            self.cli(*self.remove, *self.made)
        self.made = []

    def has_init(self):
        return self.world.has(self.init)

    def scratch(self):
        """A folder to be mounted into containers."""
        folder = self.world.path(f'scratch-{self.name}-{self.count}')
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
        return folder


class Docker(DockerLike):
    """Docker with a containerd of its own, the judged runtime being the default one."""
    init = 'docker-init'
    remove = ['rm', '--force']

    def __init__(self, world, userns=False):
        name = 'docker-userns' if userns else 'docker'
        socket = world.path(f'{name}.sock')
        super().__init__(world, name, ['docker', '--host', f'unix://{socket}'])
        self.socket, self.userns = socket, userns

    def open(self):
        if not self.world.has('dockerd'):
            raise Unsupported('the tree has no dockerd')
        config = {'runtimes': {'judged': {'path': self.world.runtime}}, 'default-runtime': 'judged'}
        if self.userns:
            config['userns-remap'] = self._remapped_user()
        settings = self.world.write(f'{self.name}.json', json.dumps(config))
        data, state = self.world.path(f'{self.name}-data'), self.world.path(f'{self.name}-run')
        command = ['dockerd', '--config-file', settings, '--host', f'unix://{self.socket}', '--data-root', data,
                   '--exec-root', state, '--pidfile', self.world.path(f'{self.name}.pid')]
        self.world.spawn(self.name, command, lambda: self.cli('version').returncode == 0)
        self.must('load', '--input', self.world.archive)


    def _remapped_user(self):
        """A user whose subordinate numbers containers get, known in the sandbox alone."""
        for name, line in (('passwd', 'remapped:x:9999:9999::/:/bin/false\n'), ('group', 'remapped:x:9999:\n'),
                           ('subuid', 'remapped:100000:65536\n'), ('subgid', 'remapped:200000:65536\n')):
            held = self.world.sandbox.run(['cat', f'/etc/{name}'], capture_output=True, text=True, check=False)
            if held.returncode:
                raise Unsupported(f'the tree has no /etc/{name}')
            own = self.world.write(f'{self.name}-{name}', held.stdout + line)
            self.world.sandbox.run(['mount', '--bind', own, f'/etc/{name}'], check=True)
        return 'remapped'


class Podman(DockerLike):
    """Podman, which has no daemon; conmon watches its containers."""
    init = 'catatonit'
    remove = ['rm', '--force', '--time', '0']  # or it waits ten seconds for the end, as in a stop

    def __init__(self, world):
        work = world.path
        client = ['podman', '--root', work('podman-data'), '--runroot', work('podman-run'), '--tmpdir',
                  work('podman-tmp'), '--runtime', world.runtime, '--cgroup-manager', 'cgroupfs',
                  '--events-backend', 'file', '--network-config-dir', work('podman-networks'), '--storage-driver',
                  'overlay']
        super().__init__(world, 'podman', client, {
            'PODMAN_IGNORE_CGROUPSV1_WARNING': '1', 'CONTAINERS_CONF': work('containers.conf'),
            'TMPDIR': world.sandbox.work, 'XDG_RUNTIME_DIR': ''})

    def open(self):
        if not self.world.has('podman'):
            raise Unsupported('the tree has no podman')
        # Its defaults ask for higher limits than a machine without CAP_SYS_RESOURCE grants.
        self.world.write('containers.conf', '[containers]\nlog_driver = "k8s-file"\n'
                         'default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]\n')
        policy = json.dumps({'default': [{'type': 'insecureAcceptAnything'}]})
        self.world.sandbox.run(['sh', '-c', 'cat >/etc/containers/policy.json'], input=policy, text=True, check=True)
        self.must('load', '--quiet', '--input', self.world.archive)
