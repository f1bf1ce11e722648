"""What a container may do and see: capabilities, seccomp, users, namespaces, networks, mounts, devices."""
import json
import os

import kernel
from checks import Unsupported, contains, equal, expect

CAP_CHOWN, CAP_NET_ADMIN, CAP_NET_RAW = 1 << 0, 1 << 12, 1 << 13


def own_status(engine, field, options=()):
    return engine.output('grep', f'^{field}:', '/proc/self/status', options=options).split()[1]


def capabilities(engine, options=(), kind='CapEff'):
    return int(own_status(engine, kind, options), 16)


# -- capabilities and seccomp ---------------------------------------------------------
def capabilities_by_default(engine):
    held = capabilities(engine)
    expect(held & CAP_CHOWN and not held & CAP_NET_ADMIN, 'effective capabilities', hex(held))
    equal(capabilities(engine, kind='CapBnd'), held, 'bounding set')


def capability_added(engine):
    expect(capabilities(engine, ['--cap-add', 'NET_ADMIN']) & CAP_NET_ADMIN, 'NET_ADMIN was not added')
    engine.output('ip', 'link', 'set', 'lo', 'down', options=['--cap-add', 'NET_ADMIN'])


def capability_dropped(engine):
    expect(not capabilities(engine, ['--cap-drop', 'CHOWN']) & CAP_CHOWN, 'CHOWN was not dropped')
    contains(engine.run('chown', '7', '/tmp', options=['--cap-drop', 'CHOWN']).stderr, 'Operation not permitted')


def all_capabilities_dropped(engine):
    for kind in ('CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb'):
        equal(capabilities(engine, ['--cap-drop', 'ALL'], kind), 0, kind)


def other_user_has_no_effective_capabilities(engine):
    equal(capabilities(engine, ['--user', '1000']), 0)


def seccomp_by_default(engine):
    equal(own_status(engine, 'Seccomp'), '2')
    if engine.name.startswith('docker'):  # Podman's profile allows it
        # Needs no capability, so that nothing but the profile can refuse it.
        contains(engine.run('unshare', '-U', 'true').stderr, 'not permitted')


def seccomp_unconfined(engine):
    equal(own_status(engine, 'Seccomp', ['--security-opt', 'seccomp=unconfined']), '0')


def seccomp_profile_of_ones_own(engine):
    profile = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'], 'syscalls': [
        {'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 95},
        {'names': ['chmod', 'fchmodat'], 'action': 'SCMP_ACT_ERRNO',
         'args': [{'index': 1 if os.uname().machine == 'x86_64' else 2, 'value': 0o777, 'op': 'SCMP_CMP_EQ'}]}]}
    path = engine.world.write('seccomp.json', json.dumps(profile))
    done = engine.run('sh', '-c', 'mkdir /tmp/a; chmod 777 /tmp/x; touch /tmp/x; chmod 777 /tmp/x; chmod 700 /tmp/x && '
                      'echo 700-is-fine', options=['--security-opt', f'seccomp={path}'])
    contains(done.stderr, 'not supported', 'mkdir')  # errno 95, EOPNOTSUPP
    contains(done.stderr, 'Operation not permitted', 'chmod 777')
    contains(done.stdout, '700-is-fine')


def no_new_privileges(engine):
    equal(own_status(engine, 'NoNewPrivs'), '0')
    equal(own_status(engine, 'NoNewPrivs', ['--security-opt', 'no-new-privileges']), '1')


def privileged(engine):
    equal(capabilities(engine, ['--privileged']), int(kernel.status('self', 'CapBnd'), 16), 'capabilities')
    equal(own_status(engine, 'Seccomp', ['--privileged']), '0', 'Seccomp')
    out = engine.sh('test -e /dev/kmsg && echo devices; mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && '
                    'mount -t tmpfs none /mnt && echo mounts; echo 1 >/proc/sys/net/ipv4/ip_forward && echo sysctl',
                    ['--privileged'])
    for what in ('devices', 'mounts', 'sysctl'):
        contains(out, what)


# -- users ----------------------------------------------------------------------------
def user_by_name_has_its_groups(engine):
    equal(engine.output('id', options=['--user', 'guest']),
          'uid=1000(guest) gid=1000(guest) groups=1000(guest),2000(extra)')


def user_by_number(engine):
    equal(engine.sh('id -u; id -g', ['--user', '12:34']).split(), ['12', '34'])


def further_groups(engine):
    contains(engine.output('id', '-G', options=['--group-add', '77']).split(), '77')


def user_unknown_is_an_error(engine):
    expect(engine.run('true', options=['--user', 'nobody-by-this-name']).returncode in (125, 126), 'it ran')


# -- namespaces -------------------------------------------------------------------------
def namespaces_are_its_own(engine):
    name = engine.start()
    pid = engine.pid(name)
    for kind in ('pid', 'mnt', 'net', 'ipc', 'uts'):
        expect(kernel.namespace(pid, kind) != kernel.namespace(engine.world.sandbox.holder, kind), kind, 'is shared')
    equal(engine.exec(name, 'cat', '/proc/1/comm').stdout.strip(), 'sleep', 'first process')


def pid_namespace_of_the_host(engine):
    equal(engine.output('readlink', '/proc/self/ns/pid', options=['--pid', 'host']), kernel.namespace('self', 'pid'))


def pid_namespace_of_a_container(engine):
    name = engine.start('sleep', '98765')
    contains(engine.output('ps', options=['--pid', f'container:{name}']), '98765')


def ipc_and_uts_namespaces_of_the_host(engine):
    for kind, option in (('ipc', '--ipc'), ('uts', '--uts')):
        equal(engine.output('readlink', f'/proc/self/ns/{kind}', options=[option, 'host']),
              kernel.namespace(engine.world.sandbox.holder, kind))


def cgroup_namespace(engine):
    name = engine.start(options=['--cgroupns', 'private'])
    expect(kernel.namespace(engine.pid(name), 'cgroup') != kernel.namespace('self', 'cgroup'), 'it is shared')
    lines = engine.exec(name, 'cat', '/proc/self/cgroup').stdout.split()
    expect(all(line.endswith(':/') for line in lines if not line.startswith('0:') or kernel.V2), lines)
    equal(kernel.namespace(engine.pid(engine.start(options=['--cgroupns', 'host'])), 'cgroup'),
          kernel.namespace('self', 'cgroup'), 'of the host')


# -- networks -----------------------------------------------------------------------------
def network_none_has_a_loopback_alone(engine):
    out = engine.sh('ls /sys/class/net; ip -o addr; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo loopback-answers',
                    ['--network', 'none', '--cap-add', 'NET_RAW'])
    equal(out.split('\n')[0], 'lo')
    contains(out, 'loopback-answers')


def network_of_the_host(engine):
    equal(engine.output('readlink', '/proc/self/ns/net', options=['--network', 'host']),
          kernel.namespace(engine.world.sandbox.holder, 'net'))


def network_of_a_container(engine):
    name = engine.start()
    equal(engine.output('readlink', '/proc/self/ns/net', options=['--network', f'container:{name}']),
          kernel.namespace(engine.pid(name), 'net'))


def network_bridge_reaches_the_gateway(engine):
    out = engine.sh('ip -o -4 addr show eth0; ping -c 1 -W 3 $(ip route | sed -n "s/default via \\([^ ]*\\).*/\\1/p")',
                    ['--network', 'bridge' if engine.name.startswith('docker') else 'podman', '--cap-add', 'NET_RAW'])
    contains(out, ' 0% packet loss')


# -- file systems -----------------------------------------------------------------------
def root_read_only(engine):
    done = engine.run('sh', '-c', 'touch /file; touch /tmp/file && echo tmp-is-writable',
                      options=['--read-only', '--tmpfs', '/tmp'])
    contains(done.stderr, '/file: Read-only file system')
    contains(done.stdout, 'tmp-is-writable')


def tmpfs(engine):
    out = engine.output('sh', '-c', 'grep " /t " /proc/mounts; df -k /t | tail -n 1', options=[
        '--tmpfs', '/t:rw,noexec,nosuid,size=3m,mode=1770'])
    for part in ('tmpfs', 'noexec', 'nosuid', '3072'):
        contains(out, part)


def folder_of_the_host(engine):
    folder = engine.scratch()
    engine.sh('echo from-inside >/here/file', ['--volume', f'{folder}:/here'])
    with open(f'{folder}/file') as file:
        equal(file.read(), 'from-inside\n')


def folder_of_the_host_read_only(engine):
    folder = engine.scratch()
    done = engine.run('touch', '/here/file', options=['--volume', f'{folder}:/here:ro'])
    contains(done.stderr, 'Read-only file system')
    expect(not os.path.exists(f'{folder}/file'), 'the file was made')


def file_of_the_host(engine):
    with open(f'{engine.scratch()}/one', 'w') as file:
        file.write('content')
    equal(engine.output('cat', '/etc/one', options=['--volume', f'{engine.scratch()}/one:/etc/one:ro']), 'content')


def volume_lives_on(engine):
    name = f'volume-{engine.name}'
    try:
        engine.sh('echo kept >/v/file', ['--volume', f'{name}:/v'])
        equal(engine.output('cat', '/v/file', options=['--volume', f'{name}:/v']), 'kept')
    finally:
        engine.cli('volume', 'rm', '--force', name)


def propagation_of_mounts(engine):
    """A mount made on the host afterwards shows up inside with rslave, and does not with rprivate."""
    folder = engine.scratch()
    inside = engine.world.sandbox.run
    inside(['mount', '--bind', folder, folder], check=True)
    try:
        inside(['mount', '--make-shared', folder], check=True)
        os.makedirs(f'{folder}/sub', exist_ok=True)
        names = [engine.start(options=['--volume', f'{folder}:/here:{how}']) for how in ('rslave', 'rprivate')]
        inside(['mount', '-t', 'tmpfs', 'late', f'{folder}/sub'], check=True)
        seen = ['late /here/sub' in engine.exec(name, 'cat', '/proc/mounts').stdout for name in names]
        equal(seen, [True, False], 'seen with rslave and rprivate:')
    finally:
        inside(['umount', '--recursive', folder], check=False)


def paths_are_masked(engine):
    # kcore may be missing on a machine; those that exist must be empty or closed.
    out = engine.sh('for path in /proc/kcore /proc/keys /proc/timer_list; do '
                    '[ -e $path ] && echo $(head -c 9 $path 2>/dev/null | wc -c) $path; done; ls /sys/firmware | wc -l')
    expect(all(line.startswith('0') for line in out.splitlines()), out)
    contains(engine.run('sh', '-c', 'echo 1 >/proc/sys/kernel/printk').stderr, 'Read-only file system')
    if os.path.exists('/proc/sysrq-trigger'):
        contains(engine.run('sh', '-c', 'echo 0 >/proc/sysrq-trigger').stderr, 'Read-only file system')
    contains(engine.run('mkdir', '/sys/fs/cgroup/pids/x' if not kernel.V2 else '/sys/fs/cgroup/x').stderr, 'Read-only')


def standard_devices(engine):
    out = engine.sh('for name in null zero full random urandom tty; do test -c /dev/$name && echo $name; done; '
                    'ls -l /dev/fd /dev/stdin /dev/ptmx; echo x >/dev/null; head -c 4 /dev/zero | wc -c')
    equal(out.split()[:6], ['null', 'zero', 'full', 'random', 'urandom', 'tty'])
    contains(out, '/proc/self/fd')
    equal(out.split()[-1], '4')


def device_is_given(engine):
    out = engine.sh('ls -l /dev/mine; head -c 3 /dev/mine | wc -c', ['--device', '/dev/zero:/dev/mine:r'])
    contains(out, '1,   5')
    equal(out.split()[-1], '3')


def other_devices_are_refused(engine):
    # The disk below our own work folder: nothing but the devices cgroup keeps root from reading it.
    disk = os.stat(engine.world.sandbox.work).st_dev
    if not os.major(disk):
        raise Unsupported('the work folder is on no disk')
    done = engine.run('sh', '-c', f'mknod /tmp/disk b {os.major(disk)} {os.minor(disk)} && : </tmp/disk',
                      options=['--cap-add', 'MKNOD'])
    contains(done.stderr, "can't open /tmp/disk: Operation not permitted")


def device_rule(engine):
    # FUSE's device: refused by the cgroup with EPERM, or missing from the kernel with another error
    script = 'mknod /tmp/fuse c 10 229 && : </tmp/fuse; echo done'
    mknod = ['--cap-add', 'MKNOD']
    contains(engine.run('sh', '-c', script, options=mknod).stderr, "can't open /tmp/fuse: Operation not permitted")
    done = engine.run('sh', '-c', script, options=[*mknod, '--device-cgroup-rule', 'c 10:229 rw'])
    expect('not permitted' not in done.stderr, 'with a rule', done.stderr)


# -- user namespaces ------------------------------------------------------------------------
def user_namespace(engine):
    if engine.name == 'docker':
        raise Unsupported('a matter of the daemon: see docker-userns')
    options = [] if engine.name == 'docker-userns' else ['--uidmap', '0:100000:65536', '--gidmap', '0:200000:65536']
    name = engine.start(options=options)
    pid = engine.pid(name)
    expect(kernel.namespace(pid, 'user') != kernel.namespace('self', 'user'), 'it is shared')
    first = kernel.status(pid, 'Uid').split()[0]
    expect(int(first) >= 100000, 'user on the host', first)
    equal(engine.exec(name, 'id', '-u').stdout.strip(), '0', 'inside')
    made = engine.exec(name, 'sh', '-c', 'touch /made && ls -n /made').stdout
    equal(made.split()[2:4], ['0', '0'], 'owner of a file')
    with open(f'/proc/{pid}/uid_map') as file:
        equal(file.read().split(), ['0', first, '65536'], 'map')
    contains(engine.exec(name, 'sh', '-c', 'echo 1 >/proc/sys/kernel/printk').stderr, 'Read-only')
