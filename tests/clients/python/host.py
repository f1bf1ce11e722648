"""The daemon itself, its volumes and networks, and the ways to it."""
import json
import os

import docker
from checks import raises, unique
from docker.errors import APIError, NotFound
from docker.tls import TLSConfig


def ping_version_and_info(world):
    assert world.client.ping() is True
    version = world.client.version()
    assert version['Os'] == 'linux' and version['ApiVersion'] and version['Components'], version
    info = world.client.info()
    assert info['OSType'] == 'linux' and info['NCPU'] == os.cpu_count() and info['MemTotal'] > 0
    assert world.client.info()['ContainersRunning'] >= 0


def versions_are_negotiated_and_asked_for(world):
    newest = world.client.version()['ApiVersion']
    assert docker.from_env().api.api_version in (newest, docker.constants.DEFAULT_DOCKER_API_VERSION)
    old = docker.from_env(version='1.41')
    assert old.containers.run('busybox', 'echo old', remove=True) == b'old\n'
    raises(APIError, 'too old', lambda: docker.from_env(version='1.24').info())
    raises(APIError, 'too new', lambda: docker.from_env(version='1.99').info())


def disk_use_is_told(world):
    with world.container(['sh', '-c', 'dd if=/dev/zero of=/big bs=1024 count=512']) as made:
        made.wait()
        # One object a kind since API 1.52, lists before.
        assert world.client.df()['ContainerUsage']['TotalSize'] >= 512 * 1024
        usage = docker.from_env(version='1.47').df()
        own = [entry for entry in usage['Containers'] if entry['Id'] == made.id]
        assert own and own[0]['SizeRw'] >= 512 * 1024, own
        assert usage['LayersSize'] > 0 and usage['Images'] and usage['Volumes'] is not None


def volumes_are_made_found_and_removed(world):
    name = unique('volume')
    made = world.client.volumes.create(name, driver='local', labels={'own': name})
    try:
        assert world.client.volumes.get(name).attrs['Labels'] == {'own': name}
        assert os.path.isdir(made.attrs['Mountpoint'])
        assert world.client.volumes.list(filters={'label': f'own={name}'}) == [made]
        assert world.client.volumes.list(filters={'name': name}) == [made]
        with world.container(volumes={name: {'bind': '/data'}}) as holds:
            world.shell(holds, 'echo kept > /data/file')
            failure = raises(APIError, 'in use', made.remove)
            assert failure.status_code == 409
            assert world.client.volumes.prune(filters={'all': True, 'label': f'own={name}'})['VolumesDeleted'] in ([], None)
        with open(os.path.join(made.attrs['Mountpoint'], 'file')) as kept:
            assert kept.read() == 'kept\n'
    finally:
        made.remove(force=True)
    raises(NotFound, 'no such volume', lambda: world.client.volumes.get(name))
    other = world.client.volumes.create(labels={'own': name})
    assert world.client.volumes.prune(filters={'all': True, 'label': f'own={name}'})['VolumesDeleted'] == [other.name]
    raises(APIError, 'plugin', lambda: world.client.volumes.create(name, driver='elsewhere'))


def the_default_networks_are_shown(world):
    found = {network.name: network for network in world.client.networks.list()}
    assert {'bridge', 'host', 'none'} <= set(found)
    with world.container() as made:
        bridge = world.client.networks.get(found['bridge'].id)
        assert bridge.attrs['Containers'][made.id]['Name'] == made.name
        own = made.attrs['NetworkSettings']['Networks']['bridge']
        assert bridge.attrs['Containers'][made.id]['IPv4Address'].split('/')[0] == own['IPAddress']
        assert own['NetworkID'] == bridge.id
    assert world.client.networks.list(names=['host'])[0].attrs['Driver'] == 'host'
    raises(APIError, 'pre-defined', found['none'].remove)
    raises(NotFound, 'not found', lambda: world.client.networks.get(unique('network')))


def login_is_asked_at_the_registry(world):
    answer = world.client.login('somebody', 'secret', registry=f'http://{world.registry}', reauth=True)
    assert answer.get('Status') == 'Login Succeeded', answer


def search_says_what_went_wrong(world):
    # The registry of these tests has no catalogue to search: an error that says so, not an empty list.
    failure = raises(APIError, '', lambda: world.client.images.search(f'{world.registry}/busybox'))
    assert failure.explanation, failure


def swarm_and_plugins_are_not_there(world):
    assert world.client.plugins.list() == []
    failure = raises(APIError, 'not a swarm manager', world.client.services.list)
    assert failure.status_code == 503


def the_low_level_client_makes_containers(world):
    api = docker.from_env().api
    host = api.create_host_config(binds={world.folder: {'bind': '/host', 'mode': 'ro'}}, port_bindings={80: ('127.0.0.1',)},
                                  mem_limit='32m', restart_policy={'Name': 'no'})
    made = api.create_container('busybox', ['sh', '-c', 'ls /host; echo $A'], host_config=host, ports=[80],
                                environment=['A=b'], name=unique('low'), detach=True)
    try:
        assert made['Warnings'] == [] or made['Warnings'] is None, made
        api.start(made['Id'])
        assert api.wait(made['Id'])['StatusCode'] == 0
        assert api.logs(made['Id']).decode().split()[-1] == 'b'
        assert api.inspect_container(made['Id'])['HostConfig']['Memory'] == 32 << 20
        assert api.containers(all=True, filters={'id': made['Id']}, size=True)[0]['State'] == 'exited'
    finally:
        api.remove_container(made['Id'], v=True, force=True)


def mutual_tls_is_an_https_url(world):
    file = lambda name: os.path.join(world.certs, name)
    tls = TLSConfig(client_cert=(file('cert.pem'), file('key.pem')), ca_cert=file('ca.pem'), verify=True)
    client = docker.DockerClient(base_url=world.tls_host.replace('tcp:', 'https:'), tls=tls)
    assert client.ping() and client.containers.run('busybox', 'echo safe', remove=True) == b'safe\n'
    with world.container() as made:
        # A connection that is taken over from HTTP, below TLS.
        taken = client.api.exec_start(client.api.exec_create(made.id, 'cat', stdin=True)['Id'], socket=True)
        sock = getattr(taken, '_sock', taken)
        sock.settimeout(60)
        sock.sendall(b'over TLS\n')
        seen = b''
        while not seen.endswith(b'over TLS\n'):
            part = sock.recv(100)
            assert part, seen
            seen += part
        taken.close()


def from_env_takes_the_certificates(world):
    settings = {'DOCKER_HOST': world.tls_host, 'DOCKER_TLS_VERIFY': '1', 'DOCKER_CERT_PATH': world.certs}
    assert docker.from_env(environment=settings).ping()
    nobody = docker.DockerClient(base_url=world.tls_host.replace('tcp:', 'https:'), version='1.44',
                                 tls=TLSConfig(ca_cert=os.path.join(world.certs, 'ca.pem'), verify=True))
    raises(Exception, '', nobody.ping)


def errors_are_json_with_words(world):
    failure = raises(NotFound, 'No such container', lambda: world.client.containers.get('nobody'))
    assert json.loads(failure.response.text)['message'] == 'No such container: nobody'
