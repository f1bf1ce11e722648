"""Limits, as the kernel has them and as a container sees them."""
import kernel
from checks import Unsupported, contains, equal, eventually, expect

MIB = 1024 * 1024


def memory_limit(engine):
    name = engine.start(options=['--memory', '48m'])
    equal(kernel.limit(engine.pid(name), 'memory'), str(48 * MIB))
    equal(engine.exec(name, 'cat', kernel.path_inside('memory')).stdout.strip(), str(48 * MIB), 'inside')


def memory_reservation(engine):
    name = engine.start(options=['--memory', '64m', '--memory-reservation', '32m'])
    equal(kernel.limit(engine.pid(name), 'reservation'), str(32 * MIB))


def cpu_limit(engine):
    name = engine.start(options=['--cpus', '0.5'])
    pid = engine.pid(name)
    equal(int(kernel.limit(pid, 'quota')) * 2, int(kernel.limit(pid, 'period')), 'twice the quota')
    quota = engine.exec(name, 'cat', kernel.path_inside('quota')).stdout.split()[0]
    equal(quota, kernel.limit(pid, 'quota'), 'inside')


def cpu_limit_is_felt(engine):
    name = engine.start('sh', '-c', 'while :; do :; done', options=['--cpus', '0.2'])
    pid = engine.pid(name)

    def throttled():
        with open(f'{kernel.cgroup_of(pid, "cpu")}/cpu.stat') as file:
            return dict(line.split() for line in file)['nr_throttled'] != '0'
    eventually(throttled, 'the loop is throttled')


def cpu_shares(engine):
    name = engine.start(options=['--cpu-shares', '512'])
    # v2: the weight that engines and runtimes make of 512 shares has two formulas by now
    contains(['512'] if not kernel.V2 else ['20', '59'], kernel.limit(engine.pid(name), 'shares'))


def cpu_set(engine):
    name = engine.start(options=['--cpuset-cpus', '0'])
    equal(kernel.limit(engine.pid(name), 'cpuset'), '0')
    equal(kernel.status(engine.pid(name), 'Cpus_allowed_list'), '0')
    equal(engine.exec(name, 'nproc').stdout.strip(), '1', 'nproc of an exec')


def process_limit(engine):
    name = engine.start(options=['--pids-limit', '20'])
    equal(kernel.limit(engine.pid(name), 'pids'), '20')
    equal(engine.exec(name, 'cat', kernel.path_inside('pids')).stdout.strip(), '20', 'inside')


def process_limit_is_felt(engine):
    done = engine.run('sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done', options=['--pids-limit', '8'])
    contains(done.stderr, "can't fork")


def update_of_a_running_container(engine):
    name = engine.start(options=['--memory', '48m', '--memory-swap', '48m', '--cpus', '0.5', '--pids-limit', '20'])
    pid = engine.pid(name)
    engine.must('update', '--memory', '96m', '--memory-swap', '96m', '--cpus', '0.25', '--pids-limit', '40', name)
    equal(kernel.limit(pid, 'memory'), str(96 * MIB), 'memory')
    equal(int(kernel.limit(pid, 'quota')) * 4, int(kernel.limit(pid, 'period')), 'four times the quota')
    equal(kernel.limit(pid, 'pids'), '40', 'pids')
    equal(engine.exec(name, 'cat', kernel.path_inside('memory')).stdout.strip(), str(96 * MIB), 'inside')


def update_of_one_limit_keeps_the_others(engine):
    name = engine.start(options=['--memory', '48m', '--memory-swap', '48m', '--cpu-shares', '512',
                                 '--pids-limit', '20'])
    pid = engine.pid(name)
    engine.must('update', '--cpu-shares', '256', name)
    equal(kernel.limit(pid, 'memory'), str(48 * MIB), 'memory')
    equal(kernel.limit(pid, 'pids'), '20', 'pids')
    if not kernel.V2:
        equal(kernel.limit(pid, 'shares'), '256', 'shares')


def exceeding_memory_kills_and_is_reported(engine):
    name = engine.start('sh', '-c', 'x=$(head -c 90000000 /dev/zero | tr "\\0" x); echo survived',
                        options=['--memory', '16m', '--memory-swap', '16m'])
    eventually(lambda: engine.status(name) == 'exited', 'it has ended', 30)
    expect('survived' not in engine.must('logs', name), 'it survived')
    # One process of the container is killed; whether its first one is, is the kernel's choice.
    equal(engine.read(name, 'State.OOMKilled'), True, 'OOMKilled')


def ulimit(engine):
    out = engine.sh('ulimit -n; ulimit -Hn', ['--ulimit', 'nofile=100:200'])
    equal(out.split(), ['100', '200'])
    out = engine.sh('ulimit -c', ['--ulimit', 'core=0'])
    equal(out, '0')


def raised_ulimit_is_refused_with_a_reason(engine):
    with open('/proc/self/limits') as file:
        hard = next(line.split()[4] for line in file if line.startswith('Max open files'))
    if int(kernel.status('self', 'CapEff'), 16) >> 24 & 1 or hard == 'unlimited':
        raise Unsupported('root may raise limits on this machine')
    done = engine.run('true', options=['--ulimit', f'nofile={int(hard) + 1}'])
    expect(done.returncode in (125, 126, 127), 'exit code', done.returncode)
    contains(done.stdout + done.stderr, 'limit')


def oom_score(engine):
    equal(engine.output('cat', '/proc/self/oom_score_adj', options=['--oom-score-adj', '500']), '500')


def shm_size(engine):
    contains(engine.output('df', '-k', '/dev/shm', options=['--shm-size', '20m']), ' 20480 ')


def sysctl(engine):
    options = ['--sysctl', 'kernel.msgmax=4096', '--sysctl', 'net.ipv4.ip_unprivileged_port_start=77']
    out = engine.sh('cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start', options)
    equal(out.split(), ['4096', '77'])
