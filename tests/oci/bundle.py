"""A bundle for an OCI runtime: busybox as root file system, and a configuration like an engine's."""
import json
import os
import shutil
import subprocess
import sys

TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(os.path.dirname(__file__), '..', '..', 'target')
CAPABILITIES = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE']
MASKED = ['/proc/acpi', '/proc/asound', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list',
          '/proc/timer_stats', '/proc/sched_debug', '/sys/firmware', '/proc/scsi']
READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']


def find_busybox(tree=None):
    """A static busybox: the tree's, what tests/setup has fetched, or the machine's."""
    places = [os.path.join(tree, 'bin/busybox')] if tree else []
    places += [os.path.join(TARGET, 'test-tools/busybox/bin/busybox'), shutil.which('busybox') or '']
    for place in places:
        if os.access(place, os.X_OK):
            return place
    sys.exit('no busybox here: run tests/setup demo')


def make_rootfs(folder, busybox):
    for name in ('bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'root', 'var'):
        os.makedirs(os.path.join(folder, name))
    os.chmod(os.path.join(folder, 'tmp'), 0o1777)
    shutil.copy(busybox, os.path.join(folder, 'bin/busybox'))
    applets = subprocess.run([busybox, '--list'], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != 'busybox':
            os.symlink('busybox', os.path.join(folder, 'bin', applet))
    for name, text in (('passwd', 'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n'),
                       ('group', 'root:x:0:\nguest:x:1000:\nextra:x:2000:guest\n')):
        with open(os.path.join(folder, 'etc', name), 'w') as file:
            file.write(text)


def make_bundle(folder, busybox, argv):
    make_rootfs(os.path.join(folder, 'rootfs'), busybox)
    with open(os.path.join(folder, 'config.json'), 'w') as file:
        json.dump(configuration(argv), file)
    return folder


def mounted(target, kind, *options, source=None):
    return {'destination': target, 'type': kind, 'source': source or kind, 'options': list(options)}


def configuration(argv):
    return {
        'ociVersion': '1.0.2',
        'process': {
            'terminal': False, 'user': {'uid': 0, 'gid': 0}, 'cwd': '/', 'args': argv, 'noNewPrivileges': True,
            'env': ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
            'capabilities': {kind: CAPABILITIES for kind in ('bounding', 'effective', 'permitted')},
        },
        'root': {'path': 'rootfs', 'readonly': True},
        'hostname': 'bundle',
        'mounts': [
            mounted('/proc', 'proc'),
            mounted('/dev', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
            mounted('/dev/pts', 'devpts', 'nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'),
            mounted('/dev/shm', 'tmpfs', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k', source='shm'),
            mounted('/dev/mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
            mounted('/sys', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
            mounted('/sys/fs/cgroup', 'cgroup', 'nosuid', 'noexec', 'nodev', 'relatime', 'ro'),
        ],
        'linux': {
            'resources': {'devices': [{'allow': False, 'access': 'rwm'}]},
            'namespaces': [{'type': kind} for kind in ('pid', 'network', 'ipc', 'uts', 'mount')],
            'maskedPaths': MASKED,
            'readonlyPaths': READ_ONLY,
        },
    }
