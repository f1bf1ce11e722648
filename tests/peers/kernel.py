"""What the kernel says about a container: cgroups in v1 and v2, namespaces, processes."""
import os
import signal
import time

ROOT = '/sys/fs/cgroup'
# By limit: controller and file in v1, file in v2.
FILES = {
    'memory': ('memory', 'memory.limit_in_bytes', 'memory.max'),
    'reservation': ('memory', 'memory.soft_limit_in_bytes', 'memory.low'),
    'pids': ('pids', 'pids.max', 'pids.max'),
    'cpuset': ('cpuset', 'cpuset.cpus', 'cpuset.cpus'),
    'quota': ('cpu', 'cpu.cfs_quota_us', 'cpu.max'),
    'period': ('cpu', 'cpu.cfs_period_us', 'cpu.max'),
    'shares': ('cpu', 'cpu.shares', 'cpu.weight'),
}
V2 = os.path.exists(f'{ROOT}/cgroup.controllers')


def cgroup_of(pid, controller):
    """The process' cgroup folder in the hierarchy of a v1 controller, or in v2."""
    with open(f'/proc/{pid}/cgroup') as file:
        for line in file:
            _, controllers, path = line.rstrip('\n').split(':', 2)
            if V2 and not controllers:
                return ROOT + path
            if controller in controllers.split(','):
                return f'{ROOT}/{controllers}{path}'
    raise LookupError(f'process {pid} has no {controller} cgroup')


def limit(pid, name):
    """A limit's value as text: what the cgroup of this process has."""
    controller, v1, v2 = FILES[name]
    with open(os.path.join(cgroup_of(pid, controller), v2 if V2 else v1)) as file:
        text = file.read().strip()
    if V2 and name in ('quota', 'period'):
        return text.split()[name == 'period']
    return text


def path_inside(name):
    """Where a container sees its own limit, its cgroup being mounted as usual."""
    controller, v1, v2 = FILES[name]
    return f'{ROOT}/{v2}' if V2 else f'{ROOT}/{controller}/{v1}'


def namespace(pid, kind):
    return os.readlink(f'/proc/{pid}/ns/{kind}')


def status(pid, field):
    with open(f'/proc/{pid}/status') as file:
        return next(line.split(':', 1)[1].strip() for line in file if line.startswith(field + ':'))


def processes(*argv):
    """Those with exactly this command line."""
    wanted, found = '\0'.join(argv) + '\0', []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline') as file:
                if file.read() == wanted:
                    found.append(int(pid))
        except OSError:
            pass
    return found


def state(pid):
    """The process' state as one letter, or nothing if it has gone."""
    try:
        return status(pid, 'State')[0]
    except (FileNotFoundError, ProcessLookupError):
        return ''


def hierarchies():
    if V2:
        return [ROOT]
    return [entry.path for entry in os.scandir(ROOT) if entry.is_dir(follow_symlinks=False)]


def remove_cgroups(name):
    """Kill what runs below the cgroups of this name and remove them; gives what is left."""
    left = []
    for top in (os.path.join(hierarchy, name) for hierarchy in hierarchies()):
        for _ in range(100):
            for folder, _, _ in os.walk(top, topdown=False):
                remove_cgroup(folder)
            if not os.path.exists(top):
                break
            time.sleep(0.02)
        else:
            left.append(top)
    return left


def remove_cgroup(folder):
    try:
        with open(os.path.join(folder, 'cgroup.procs')) as file:
            for pid in map(int, file.read().split()):
                os.kill(pid, signal.SIGKILL)
        if 'freezer' in folder:  # a frozen process does not die
            with open(os.path.join(folder, 'freezer.state'), 'w') as file:
                file.write('THAWED')
        os.rmdir(folder)
    except OSError:
        pass  # gone meanwhile, or busy until the killed have been reaped: there is a next turn


def living_in(holder):
    """Processes that share the holder's mount namespace: daemons, shims and clients that we started."""
    home, found = namespace(holder, 'mnt'), []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if int(pid) != holder and namespace(pid, 'mnt') == home:
                found.append(int(pid))
        except OSError:
            pass
    return found
