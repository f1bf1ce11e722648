"""docker-compose as Debian has it, with DOCKER_HOST: a project of two services, from `up` to `down -v`.

It is the one that is written in Python on Debian 12, and the plugin of the docker client from Debian 13 on. Networks of
one's own do not exist with this daemon yet: the projects use the default bridge, and one check asks for what is answered
to a project that does not.
"""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
from checks import PATIENCE, Skipped, checks_of, eventually, run, unique

TOOLS = os.path.join(os.environ['IECHOR_TEST_TOOLS'], 'client-compose')
SERVE = 'mkdir -p /www; cp /data/page /www/index.html; echo serving; exec httpd -f -p 8000 -h /www'
PROJECT = '''
version: "2.4"
services:
  store:
    image: busybox
    network_mode: bridge
    command: ["sh", "-c", "echo storing; sleep 0.3; echo $$SAYS > /data/page; exec sleep 1000"]
    environment:
      SAYS: "${SAYS:-well}"
    volumes:
      - data:/data
    stop_grace_period: 0s
    healthcheck:
      test: ["CMD-SHELL", "test -e /data/page"]
      interval: 200ms
      retries: 200
  web:
    image: busybox
    network_mode: bridge
    command: ["sh", "-c", "%s"]
    init: true
    volumes:
      - data:/data:ro
    ports:
      - "127.0.0.1::8000"
    labels:
      own: web
    mem_limit: 32m
    depends_on:
      store:
        condition: service_healthy
volumes:
  data: {}
''' % SERVE


class Project:
    """A folder with a file, and the commands for it."""

    def __init__(self, folder, text=PROJECT):
        self.name = unique('project').replace('-', '')
        self.folder = os.path.join(folder, self.name)
        os.mkdir(self.folder)
        with open(os.path.join(self.folder, 'docker-compose.yml'), 'w') as file:
            file.write(text)

    def attempt(self, *words, **environment):
        # The one in Python asks for a member of images that API 1.45 has taken away.
        own = os.environ | {'COMPOSE_PROJECT_NAME': self.name, 'COMPOSE_API_VERSION': '1.44'} | environment
        command = _program()
        if command[0].endswith('python3'):
            own['PYTHONPATH'] = os.path.join(TOOLS, 'usr/lib/python3/dist-packages')
        return subprocess.run([*command, *words], cwd=self.folder, env=own, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=3 * PATIENCE)

    def __call__(self, *words, **environment):
        done = self.attempt(*words, **environment)
        assert done.returncode == 0, f'{words} ended with {done.returncode}: {done.stdout} {done.stderr}'
        return done.stdout

    # Through docker where it is not docker-compose that is asked: a call of it takes a second of a processor.

    def containers(self, *flags, service=''):
        label = f'com.docker.compose.project={self.name}'
        own = ['--filter', f'label=com.docker.compose.service={service}'] if service else []
        return _docker('ps', '-q', '--no-trunc', *flags, '--filter', f'label={label}', *own).split()

    def inspect(self, service):
        (found,) = json.loads(_docker('inspect', *self.containers('-a', service=service)))
        return found

    def page(self):
        (published,) = self.inspect('web')['NetworkSettings']['Ports']['8000/tcp']
        with urllib.request.urlopen(f'http://127.0.0.1:{published["HostPort"]}/', timeout=PATIENCE) as page:
            return page.read()

    def serves(self, text):
        """Whether that is the page."""
        try:
            return self.page() == text
        except OSError:
            return False


def _program():
    """The command line of docker-compose: Python's, or a program of its own."""
    for place in ('usr/libexec/docker/cli-plugins/docker-compose', 'usr/bin/docker-compose'):
        path = os.path.join(TOOLS, place)
        if os.path.exists(path):
            with open(path, 'rb') as file:
                script = file.read(2) == b'#!'
            # Debian's modules are made for Debian's interpreter, whatever comes first on the PATH.
            return ['/usr/bin/python3', path] if script else [path]
    raise Skipped('the package docker-compose has no program of this name')


def _docker(*words):
    return subprocess.run([os.environ['IECHOR_TEST_DOCKER'], *words], check=True, capture_output=True, text=True,
                          timeout=PATIENCE).stdout


@contextlib.contextmanager
def _up(folder, text=PROJECT, **environment):
    project = Project(folder, text)
    try:
        project('up', '-d', **environment)
        yield project
    finally:
        project.attempt('down', '-v', '-t', '0')
        shutil.rmtree(project.folder, ignore_errors=True)


def a_project_comes_up_in_order_and_goes_down(world):
    with _up(world, SAYS='hello') as project:
        eventually('the page is served', lambda: project.serves(b'hello\n'))
        first, second = project.inspect('store'), project.inspect('web')
        assert first['State']['Health']['Status'] == 'healthy'
        assert first['State']['StartedAt'] < second['State']['StartedAt']
        assert second['HostConfig']['Memory'] == 32 << 20 and second['Config']['Labels']['own'] == 'web'
        logs = project('logs')
        assert 'storing' in logs and 'serving' in logs, logs
        assert project('ps', '-q', 'store').split() == [first['Id']]
        listed = project('ps')
        assert 'store' in listed and 'web' in listed and '8000' in listed, listed
        address = project('port', 'web', '8000').strip()
        assert address.startswith('127.0.0.1:'), address
        project('down', '-v', '-t', '0')
        assert project.containers('-a') == []
        assert _docker('volume', 'ls', '-q', '--filter', f'label=com.docker.compose.project={project.name}') == ''


def up_again_changes_only_what_changed(world):
    with _up(world) as project:
        before = sorted(project.containers())
        project('up', '-d')
        assert sorted(project.containers()) == before
        old = project.containers(service='store')
        project('up', '-d', '-t', '0', SAYS='other')
        assert project.containers(service='store') != old
        eventually('the new word is there', lambda: 'SAYS=other' in project.inspect('store')['Config']['Env'])


def exec_gives_output_and_code(world):
    with _up(world) as project:
        assert project('exec', '-T', 'store', 'sh', '-c', 'echo $SAYS') == 'well\n'
        assert project.attempt('exec', '-T', 'store', 'sh', '-c', 'exit 7').returncode == 7


def run_gives_output_and_code(world):
    project = Project(world, 'version: "2.4"\nservices:\n  one:\n    image: busybox\n    network_mode: bridge\n')
    words = ('run', '--rm', '-T', '-e', 'EXTRA=more', 'one', 'sh', '-c', 'echo $EXTRA; exit 6')
    done = project.attempt(*words)
    assert done.returncode == 6 and done.stdout == 'more\n', done
    assert project.containers('-a') == []


def stop_start_and_restart(world):
    with _up(world) as project:
        both = set(project.containers())
        assert len(both) == 2
        project('stop', '-t', '0')
        assert project.containers() == [] and set(project.containers('-a')) == both
        project('start')
        eventually('both run again', lambda: set(project.containers()) == both)
        inspect = lambda: [json.loads(_docker('inspect', one))[0]['State']['Pid'] for one in sorted(both)]
        before = inspect()
        project('restart', '-t', '0')
        assert all(pid > 0 for pid in inspect()) and not set(before) & set(inspect())
        eventually('the page is served again', lambda: project.serves(b'well\n'))


def pause_top_and_kill(world):
    with _up(world) as project:
        project('pause', 'store')
        assert 'paused' in project.inspect('store')['State']['Status']
        project('unpause', 'store')
        assert 'sleep 1000' in project('top', 'store')
        project('kill', '-s', 'KILL', 'store')
        eventually('one is left', lambda: len(project.containers()) == 1)
        project('rm', '-f', 'store')
        assert len(project.containers('-a')) == 1


def two_of_a_service(world):
    text = 'version: "2.4"\nservices:\n  one:\n    image: busybox\n    network_mode: bridge\n    command: sleep 1000\n'
    project = Project(world, text)
    try:
        project('up', '-d', '--scale', 'one=2')
        assert len(project.containers()) == 2
        project('up', '-d', '--scale', 'one=1', '-t', '0')
        eventually('one is left', lambda: len(project.containers('-a')) == 1)
    finally:
        project.attempt('down', '-v', '-t', '0')


def config_is_read_and_checked(world):
    project = Project(world)
    assert 'SAYS: given' in project('config', SAYS='given')
    assert set(project('config', '--services').split()) == {'store', 'web'}
    broken = Project(world, 'services:\n  one:\n    colour: red\n')
    assert broken.attempt('config').returncode != 0


def pull_is_from_the_registry(world):
    image = f'{os.environ["IECHOR_TEST_REGISTRY"]}/clients/pull:v1'
    project = Project(world, f'version: "2.4"\nservices:\n  one:\n    image: {image}\n    network_mode: bridge\n')
    project('pull')
    assert 'clients/pull' in _docker('image', 'inspect', image)
    _docker('image', 'rm', image)


def images_and_events(world):
    with _up(world) as project:
        assert 'busybox' in project('images')
        assert 'create' in _events(project)


def _events(project):
    """What the daemon tells of a project."""
    return _docker('events', '--since', '1h', '--until', '0s', '--filter',
                   f'label=com.docker.compose.project={project.name}', '--format', '{{.Action}}')


def a_network_of_the_projects_own_says_that_it_cannot_be_had(world):
    project = Project(world, 'version: "2.4"\nservices:\n  one:\n    image: busybox\n')
    failed = project.attempt('up', '-d')
    assert failed.returncode != 0 and 'creating networks' in failed.stdout + failed.stderr, failed
    assert project.containers('-a') == []


if __name__ == '__main__':
    sys.exit(run('client-compose', checks_of(sys.modules['__main__']), os.environ['IECHOR_TEST_FOLDER'], jobs=3))
