"""Testcontainers for Python: containers that wait until they are ready, and a reaper that follows them.

Its own reaper, `testcontainers/ryuk`, is an image of a registry that tests have no way to. Another one takes its place
that speaks the same protocol and is made here of busybox and docker's client: what is checked is that Testcontainers
finds it, that the daemon's socket works inside of it, and that it removes what a test has left.
"""
import io
import os
import subprocess
import sys
import tarfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
REAPER = 'testcontainers-reaper:here'
os.environ['RYUK_CONTAINER_IMAGE'] = REAPER
# The reaper has a check and a process of its own.
os.environ.setdefault('TESTCONTAINERS_RYUK_DISABLED', 'true')
os.environ['TC_POOLING_INTERVAL'] = '0.2'

import docker
from checks import PATIENCE, Skipped, checks_of, eventually, raises, run, unique
from docker.errors import APIError, NotFound
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (CompositeWaitStrategy, ExecWaitStrategy, FileExistsWaitStrategy,
                                                 HealthcheckWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy,
                                                 PortWaitStrategy)

SERVE = 'mkdir -p /www && echo "$SAYS" > /www/index.html && echo serving && exec httpd -f -p 8000 -h /www'
# The protocol of the reaper: filters, one a line, each answered; when the connection ends, what they name is removed.
REAP = r'''#!/bin/sh
while read -r line; do
  filter=$(printf %s "$line" | tr -d '\r')
  echo ACK
done
[ -n "$filter" ] || exit 0
docker ps -aq --filter "$filter" | grep -v "^$(hostname)" | xargs -r docker rm -f -v
docker volume ls -q --filter "$filter" | xargs -r docker volume rm -f
'''


def _server(**options):
    made = DockerContainer('busybox', command=['sh', '-c', SERVE], **options)
    return made.with_exposed_ports(8000).with_env('SAYS', 'well')


def _fetch(made):
    url = f'http://{made.get_container_host_ip()}:{made.get_exposed_port(8000)}/'
    with urllib.request.urlopen(url, timeout=PATIENCE) as page:
        return page.read()


def a_message_in_the_log_is_waited_for(world):
    with _server().waiting_for(LogMessageWaitStrategy('serving')) as made:
        assert made.get_logs()[0] == b'serving\n'
        assert made.get_wrapped_container().status in ('running', 'created')


def a_page_is_waited_for(world):
    strategy = HttpWaitStrategy(8000, '/').for_status_code(200).for_response_predicate(lambda text: 'well' in text)
    with _server().waiting_for(strategy) as made:
        assert _fetch(made) == b'well\n'


def a_port_is_waited_for(world):
    with _server().waiting_for(PortWaitStrategy(8000)) as made:
        assert int(made.get_exposed_port(8000)) > 0


def a_file_and_a_command_are_waited_for(world):
    path = os.path.join(world, unique('ready'))
    line = 'sleep 0.3; touch /host/$NAME /inside; exec sleep 1000'
    both = CompositeWaitStrategy(FileExistsWaitStrategy(path), ExecWaitStrategy(['ls', '/inside']))
    made = DockerContainer('busybox', command=['sh', '-c', line]).with_volume_mapping(world, '/host', 'rw')
    with made.with_env('NAME', os.path.basename(path)).waiting_for(both):
        assert os.path.exists(path)


def health_is_waited_for(world):
    check = docker.types.Healthcheck(test=['CMD-SHELL', 'ls /well'], interval=200_000_000, retries=100)
    made = DockerContainer('busybox', command=['sh', '-c', 'sleep 0.3; touch /well; exec sleep 1000'])
    with made.with_kwargs(healthcheck=check).waiting_for(HealthcheckWaitStrategy()) as ready:
        ready.get_wrapped_container().reload()
        assert ready.get_wrapped_container().health == 'healthy'


def a_container_that_ends_early_is_no_wait_for_ever(world):
    made = DockerContainer('busybox', command=['sh', '-c', 'echo wrong; exit 4'])
    raises(RuntimeError, 'exit code: 4', lambda: made.waiting_for(LogMessageWaitStrategy('never')).start())
    made.stop()


def settings_arrive(world):
    name = unique('named')
    with open(os.path.join(world, name), 'w') as file:
        file.write('of the host')
    made = DockerContainer('busybox', command='sleep 1000').with_name(name).with_env('A', 'b c')
    made = made.with_volume_mapping(os.path.join(world, name), '/file', 'ro').with_tmpfs_mount('/scratch', 'size=1m')
    with made.with_kwargs(mem_limit='32m', labels={'own': name}) as ready:
        result = ready.exec(['sh', '-c', 'echo $A; cat /file; touch /file 2>&1'])
        assert result.exit_code == 1 and result.output.startswith(b'b c\nof the host'), result
        assert b'size=1024k' in ready.exec(['sh', '-c', 'grep /scratch /proc/mounts']).output
        inside = docker.from_env().containers.get(name)
        assert inside.attrs['HostConfig']['Memory'] == 32 << 20 and inside.labels['own'] == name
        assert inside.labels['org.testcontainers'] == 'true', inside.labels
    raises(NotFound, 'No such container', lambda: docker.from_env().containers.get(name))


def files_are_copied_in(world):
    made = DockerContainer('busybox', command='sleep 1000').with_copy_into_container(b'bytes', '/tmp/copied')
    with made as ready:
        assert ready.exec(['sh', '-c', 'cat /tmp/copied']).output == b'bytes'


def wait_gives_the_exit_code(world):
    with DockerContainer('busybox', command=['sh', '-c', 'exit 9']) as made:
        assert made.wait() == 9


def a_network_of_its_own_says_that_it_cannot_be_had(world):
    failure = raises(APIError, 'creating networks', Network().create)
    assert failure.status_code == 501


def the_reaper_removes_what_was_left(world):
    """In a process of its own, which is killed with a container running."""
    client = docker.from_env()
    _make_reaper(client)
    code = '''if True:
        import sys, time
        from testcontainers.core.container import DockerContainer
        made = DockerContainer('busybox', command='sleep 1000').start()
        print(made.get_container_id(), flush=True)
        time.sleep(1000)
    '''
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {'TESTCONTAINERS_RYUK_DISABLED': 'false'})
    try:
        left = child.stdout.readline().strip()
        assert client.containers.get(left).status == 'running'
        session = client.containers.get(left).labels['org.testcontainers.session-id']
        reaper = client.containers.get(f'testcontainers-ryuk-{session}')
        mounts = {mount['Destination']: mount['Source'] for mount in reaper.attrs['Mounts']}
        assert mounts == {'/var/run/docker.sock': os.environ['DOCKER_HOST'].removeprefix('unix://')}, mounts
        # From inside: the daemon that the container belongs to.
        code, seen = reaper.exec_run(['sh', '-c', 'docker ps -q --no-trunc'])
        assert code == 0 and left in seen.decode().split(), seen
    finally:
        child.kill()
        child.wait()
    gone = lambda: not client.containers.list(all=True, filters={'id': left})
    eventually('the reaper removes what the test program left', gone)
    reaper.remove(force=True)
    client.images.remove(REAPER, force=True)


def _make_reaper(client):
    """An image of busybox with docker's client and the protocol."""
    program = os.environ['IECHOR_TEST_DOCKER']
    with open(program, 'rb') as file:
        binary = file.read()
    if b'/lib64/ld-linux' in binary[:4096]:
        raise Skipped("the docker client here needs libraries, which the reaper's image does not have")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        for name, content in (('bin/docker', binary), ('bin/reap', REAP.encode())):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    made = client.containers.create('busybox')
    try:
        assert made.put_archive('/', archive.getvalue())
        start = '["sh", "-c", "echo reaper Started! >&2; exec nc -ll -p 8080 -e /bin/reap"]'
        made.commit(*REAPER.split(':'), changes=f'CMD {start}')
    finally:
        made.remove(force=True)


if __name__ == '__main__':
    sys.exit(run('client-testcontainers', checks_of(sys.modules['__main__']), os.environ['IECHOR_TEST_FOLDER']))
