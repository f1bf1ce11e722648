"""`client.containers`: making, listing, changing, ending and removing."""
import os
import signal
import time

import docker
import requests
from checks import eventually, raises, unique
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound


def run_gives_the_output_of_a_container_that_is_gone(world):
    name = unique('run')
    out = world.client.containers.run('busybox', ['echo', 'hello'], name=name, remove=True)
    assert out == b'hello\n', out
    raises(NotFound, 'No such container', lambda: world.client.containers.get(name))


def run_raises_what_the_container_wrote_as_it_failed(world):
    failure = raises(ContainerError, 'exit status 3', lambda: world.client.containers.run(
        'busybox', ['sh', '-c', 'echo out; echo wrong >&2; exit 3'], remove=True))
    assert failure.exit_status == 3 and failure.stderr == b'wrong\n', (failure.exit_status, failure.stderr)


def run_keeps_output_and_errors_apart(world):
    line = ['sh', '-c', 'echo out; echo err >&2']
    run = world.client.containers.run
    assert run('busybox', line, remove=True, stdout=True, stderr=False) == b'out\n'
    assert run('busybox', line, remove=True, stdout=False, stderr=True) == b'err\n'
    assert sorted(run('busybox', line, remove=True, stderr=True).split()) == [b'err', b'out']


def run_pulls_what_is_not_there(world):
    name = f'{world.registry}/clients/run:v1'
    try:
        assert world.client.containers.run(name, 'echo pulled', remove=True) == b'pulled\n'
    finally:
        world.client.images.remove(name)


def run_of_an_unknown_image_says_so(world):
    name = f'{world.registry}/python/{unique("nothing")}'
    raises((ImageNotFound, NotFound), 'not found', lambda: world.client.containers.run(name))


def a_detached_container_has_its_options(world):
    volume = world.client.volumes.create(unique('volume'))
    place = os.path.join(world.folder, unique('bind'))
    os.mkdir(place)
    options = dict(
        environment={'KEY': 'a value', 'OTHER': '2'}, working_dir='/tmp', user='1:2', hostname='named', labels={'a': 'b'},
        volumes={volume.name: {'bind': '/data', 'mode': 'rw'}, place: {'bind': '/host', 'mode': 'ro'}},
        tmpfs={'/scratch': 'size=1m'}, ports={'80/tcp': ('127.0.0.1', None)}, mem_limit='64m', cpu_shares=512,
        pids_limit=50, cap_drop=['ALL'], cap_add=['CHOWN'], read_only=True, shm_size='2m', init=True,
        ulimits=[docker.types.Ulimit(name='nofile', soft=100, hard=200)], extra_hosts={'other': '10.0.0.9'},
        sysctls={'net.ipv4.ip_forward': '1'}, dns=['10.9.8.7'], security_opt=['no-new-privileges'],
        restart_policy={'Name': 'on-failure', 'MaximumRetryCount': 2}, stop_signal='SIGINT',
        log_config=docker.types.LogConfig(type='json-file', config={'max-size': '1m'}))
    try:
        with world.container(**options) as made:
            shell = lambda line: world.shell(made, line).strip()
            assert shell('echo $KEY $OTHER; pwd; hostname').split('\n') == ['a value 2', '/tmp', 'named']
            assert shell('id -u; id -g').split() == ['1', '2']
            assert 'ro' in shell("grep ' /host ' /proc/mounts | cut -d' ' -f4").split(',')
            assert 'size=1024k' in shell("grep ' /scratch ' /proc/mounts")
            assert 'ro' in shell("grep ' / ' /proc/mounts | cut -d' ' -f4").split(',')
            assert shell('ulimit -n; ulimit -Hn').split() == ['100', '200']
            assert 'size=2048k' in shell("grep ' /dev/shm ' /proc/mounts")
            assert '10.0.0.9' in shell('grep other /etc/hosts')
            assert '10.9.8.7' in shell('cat /etc/resolv.conf')
            assert shell('cat /proc/sys/net/ipv4/ip_forward') == '1'
            assert shell("grep CapBnd /proc/self/status").split()[1] == '0000000000000001'
            assert shell("grep NoNewPrivs /proc/self/status").split()[1] == '1'
            assert made.labels == {'a': 'b'} and made.attrs['HostConfig']['Memory'] == 64 << 20
            published = made.ports['80/tcp'][0]
            assert published['HostIp'] == '127.0.0.1' and int(published['HostPort']) > 0, published
            assert made.attrs['HostConfig']['RestartPolicy'] == {'Name': 'on-failure', 'MaximumRetryCount': 2}
            assert made.attrs['HostConfig']['LogConfig']['Config'] == {'max-size': '1m'}
    finally:
        volume.remove()


def mounts_are_objects(world):
    volume = world.client.volumes.create(unique('volume'))
    mounts = [docker.types.Mount('/data', volume.name), docker.types.Mount('/host', world.folder, 'bind', read_only=True),
              docker.types.Mount('/tmpfs', None, 'tmpfs', tmpfs_size='1m', tmpfs_mode=0o700)]
    try:
        with world.container(mounts=mounts) as made:
            found = {mount['Destination']: (mount['Type'], mount['RW']) for mount in made.attrs['Mounts']}
            assert found == {'/data': ('volume', True), '/host': ('bind', False), '/tmpfs': ('tmpfs', True)}, found
            assert world.shell(made, 'stat -c %a /tmpfs').strip() == '700'
    finally:
        volume.remove()


def a_list_has_its_filters(world):
    label = unique('label')
    with world.container(labels={label: 'x'}) as runs, world.container('true', start=False, labels={label: 'y'}) as made:
        ids = lambda **options: {found.id for found in world.client.containers.list(**options)}
        assert ids(filters={'label': label}) == {runs.id}
        assert ids(all=True, filters={'label': label}) == {runs.id, made.id}
        assert ids(filters={'label': [f'{label}=x'], 'status': 'running'}) == {runs.id}
        assert ids(all=True, filters={'label': label, 'status': 'created'}) == {made.id}
        assert ids(all=True, filters={'name': made.name}) == {made.id}
        assert ids(all=True, filters={'id': runs.id, 'ancestor': 'busybox'}) == {runs.id}
        assert ids(all=True, filters={'label': label, 'before': made.id}) == {runs.id}
        sparse = world.client.containers.list(sparse=True, filters={'label': label})
        assert [found.attrs['Labels'] for found in sparse] == [{label: 'x'}]
        raises(APIError, 'invalid filter', lambda: ids(filters={'colour': 'red'}))


def a_container_has_an_id_a_name_and_an_image(world):
    with world.container() as made:
        again = world.client.containers.get(made.short_id)
        assert again == made and again.name == made.name and again.status == 'running'
        assert again.image.id == world.client.images.get('busybox').id
    raises(NotFound, 'No such container', made.reload)


def a_name_is_given_once(world):
    with world.container(start=False) as made:
        failure = raises(APIError, 'is already in use', lambda: world.client.containers.create('busybox', name=made.name))
        assert failure.status_code == 409
        other = unique('renamed')
        made.rename(other)
        assert world.client.containers.get(other).id == made.id
        raises(NotFound, 'No such container', lambda: world.client.containers.get(made.name))


def pause_and_unpause(world):
    with world.container(['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i > /n; sleep 0.01; done']) as made:
        eventually('it counts', lambda: made.exec_run('ls /n').exit_code == 0)
        made.pause()
        made.reload()
        assert made.status == 'paused'
        read = lambda: b''.join(made.get_archive('/n')[0])
        before = read()
        time.sleep(0.2)
        assert read() == before
        made.unpause()
        made.reload()
        assert made.status == 'running'
        eventually('the container goes on', lambda: read() != before)


def stop_is_a_signal_and_then_a_kill(world):
    line = 'trap "exit 7" TERM; while :; do sleep 0.05; done'
    with world.container(['sh', '-c', line]) as hears, world.container() as deaf:
        world.shell(hears, 'true')
        eventually('the trap is set', lambda: int(world.shell(
            hears, "grep SigCgt /proc/1/status").split()[1], 16) & (1 << (signal.SIGTERM - 1)))
        hears.stop()
        assert hears.wait()['StatusCode'] == 7
        deaf.stop(timeout=0)
        assert deaf.wait()['StatusCode'] == 137
        deaf.reload()
        assert deaf.status == 'exited' and deaf.attrs['State']['ExitCode'] == 137


def kill_sends_a_signal_by_name_and_number(world):
    for sent in ('SIGUSR1', signal.SIGUSR1.value):
        with world.container(['sh', '-c', 'trap "exit 10" USR1; touch /ready; while :; do sleep 0.05; done']) as made:
            eventually('the trap is set', lambda: made.exec_run('ls /ready').exit_code == 0)
            made.kill(sent)
            assert made.wait()['StatusCode'] == 10
            failure = raises(APIError, 'is not running', made.kill)
            assert failure.status_code == 409


def wait_has_conditions_and_a_timeout(world):
    with world.container(['sh', '-c', 'exit 4']) as made:
        assert made.wait()['StatusCode'] == 4
    with world.container(start=False, auto_remove=True, command='true') as made:
        made.start()
        try:
            assert made.wait(condition='removed')['StatusCode'] == 0
        except NotFound:
            pass  # it has gone before the request arrived
        eventually('it is removed', lambda: not world.client.containers.list(all=True, filters={'id': made.id}))
    with world.container() as made:
        began = time.monotonic()
        late = (requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout)
        raises(late, 'timed out', lambda: made.wait(timeout=1))
        assert time.monotonic() - began < 30


def restart_is_another_process(world):
    with world.container() as made:
        before = made.attrs['State']['Pid'], made.attrs['State']['StartedAt']
        made.restart(timeout=0)
        made.reload()
        assert made.status == 'running'
        assert (made.attrs['State']['Pid'], made.attrs['State']['StartedAt']) != before


def update_reaches_the_kernel(world):
    with world.container(mem_limit='64m', memswap_limit='64m') as made:
        made.update(mem_limit='96m', memswap_limit='128m', cpu_shares=2048, restart_policy={'Name': 'no'})
        made.reload()
        host = made.attrs['HostConfig']
        assert (host['Memory'], host['CpuShares']) == (96 << 20, 2048), host
        group = made.attrs['State']['Pid']
        with open(f'/proc/{group}/cgroup') as lines:
            places = {part[1]: part[2] for part in (line.strip().split(':') for line in lines)}
        if 'memory' in places:
            with open(f'/sys/fs/cgroup/memory{places["memory"]}/memory.limit_in_bytes') as limit:
                assert int(limit.read()) == 96 << 20


def top_names_the_processes(world):
    with world.container('sleep 1234') as made:
        shown = made.top()
        assert 'PID' in shown['Titles'] and any('sleep 1234' in row[-1] for row in shown['Processes']), shown
        shown = made.top(ps_args='-o pid,args')
        assert any('sleep 1234' in row[-1] for row in shown['Processes']), shown


def stats_once_and_as_a_stream(world):
    with world.container(mem_limit='64m') as made:
        once = made.stats(stream=False)
        assert once['memory_stats']['limit'] == 64 << 20 and once['pids_stats']['current'] >= 1, once
        assert once['name'] == f'/{made.name}' and 'eth0' in once['networks']
        stream = made.stats(stream=True, decode=True)
        first, second = next(stream), next(stream)
        assert second['read'] > first['read']
        assert second['cpu_stats']['system_cpu_usage'] >= first['cpu_stats']['system_cpu_usage']
        stream.close()


def a_healthcheck_is_followed(world):
    check = docker.types.Healthcheck(test=['CMD-SHELL', 'test -e /well'], interval=200_000_000, retries=100)
    with world.container(healthcheck=check) as made:
        assert made.health in ('starting', 'unhealthy'), made.health
        world.shell(made, 'touch /well')
        eventually('it is healthy', lambda: (made.reload(), made.health)[1] == 'healthy')


def prune_takes_what_has_ended(world):
    label = unique('prune')
    with world.container('true', labels={label: ''}) as ended, world.container(labels={label: ''}) as runs:
        ended.wait()
        gone = world.client.containers.prune(filters={'label': label})
        assert gone['ContainersDeleted'] == [ended.id] and gone['SpaceReclaimed'] >= 0, gone
        runs.reload()


def remove_wants_force_for_what_runs(world):
    with world.container() as made:
        failure = raises(APIError, 'running', made.remove)
        assert failure.status_code == 409
        made.remove(force=True)
        raises(NotFound, 'No such container', made.reload)


def networks_of_a_container_are_modes(world):
    with world.container(network_mode='none') as none, world.container(network_mode='host') as host:
        assert world.shell(none, 'ls /sys/class/net').split() == ['lo']
        assert os.readlink(f'/proc/{host.attrs["State"]["Pid"]}/ns/net') == os.readlink('/proc/self/ns/net')
    with world.container() as first, world.container(network_mode=f'container:{first.id}') as second:
        spaces = [os.readlink(f'/proc/{made.attrs["State"]["Pid"]}/ns/net') for made in (first, second)]
        assert spaces[0] == spaces[1]
