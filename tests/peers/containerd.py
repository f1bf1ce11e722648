"""containerd and its runc shim, through ctr: the judged runtime is the shim's BinaryName."""
import json
import os
import signal
import subprocess

import kernel
from checks import contains, equal, eventually, expect
from image import NAME as IMAGE
from terminal import Terminal

SECONDS = 60
MIB = 1024 * 1024
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


class Containerd:
    name = 'containerd'

    def __init__(self, world):
        self.world, self.count, self.made = world, 0, []
        self.socket = world.path('containerd.sock')
        # The namespace's name is also that of the cgroup above its containers.
        self.client = ['ctr', '--address', self.socket, '--namespace', world.cgroup]

    def open(self):
        settings = self.world.write('containerd.toml', f'''version = 3
root = "{self.world.path('containerd-data')}"
state = "{self.world.path('containerd-run')}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
[grpc]
address = "{self.socket}"
''')
        self.command = ['containerd', '--config', settings]
        self.start_daemon()
        self.must('images', 'import', self.world.archive)

    def start_daemon(self):
        self.daemon = self.world.spawn('containerd', self.command, lambda: self.cli('version').returncode == 0)

    # -- the client -------------------------------------------------------------
    def cli(self, *words, seconds=SECONDS, **options):
        if 'input' not in options:
            options['stdin'] = subprocess.DEVNULL
        return self.world.sandbox.run([*self.client, *words], env={'PATH': PATH}, capture_output=True, text=True,
                                      timeout=seconds, check=False, **options)

    def must(self, *words, **options):
        done = self.cli(*words, **options)
        equal(done.returncode, 0, f'{" ".join(words)}: {done.stderr.strip()}: exit code')
        return done.stdout.strip()

    def terminal(self, *words, **size):
        return Terminal(self.world.sandbox, [*self.client, *words], {'PATH': PATH, 'TERM': 'xterm'}, **size)

    def talk(self, *words):
        """Send a line and close: exit code and output.

        Not earlier than the line has come back: ctr forgets to close a standard input that ends before it has the task.
        """
        client = self.world.sandbox.popen([*self.client, *words], env={'PATH': PATH}, text=True,
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            client.stdin.write('line\n')
            client.stdin.flush()
            first = client.stdout.readline()
            client.stdin.close()
            rest = client.stdout.read()
            return client.wait(SECONDS), first + rest
        finally:
            client.kill()
            client.wait()

    def words(self, options, command):
        self.count += 1
        self.made.append(f'judged-{self.count}')
        return ['run', '--runc-binary', self.world.runtime, *options, IMAGE, self.made[-1], *command]

    def run(self, *command, options=(), **further):
        return self.cli(*self.words(['--rm', *options], command), **further)

    def output(self, *command, options=()):
        return self.must(*self.words(['--rm', *options], command))

    def start(self, *command, options=()):
        self.must(*self.words(['--detach', '--log-uri', f'file://{self.log()}', *options],
                              command or ['sleep', '100000']))
        return self.made[-1]

    def log(self):
        return self.world.path(f'containerd-{self.count + 1}.log')

    def logged(self, name):
        with open(self.world.path(f'containerd-{name.rpartition("-")[2]}.log')) as file:
            return file.read()

    def exec(self, name, *command, options=(), **further):
        self.count += 1
        return self.cli('tasks', 'exec', '--exec-id', f'exec-{self.count}', *options, name, *command, **further)

    def task(self, name):
        """Process and status, or nothing."""
        for line in self.must('tasks', 'ls').splitlines()[1:]:
            words = line.split()
            if words[0] == name:
                return int(words[1]), words[2]
        return 0, ''

    def pid(self, name):
        return self.task(name)[0]

    def wait_status(self, name, wanted):
        eventually(lambda: self.task(name)[1] == wanted, f'{name} is {wanted}')

    def clear(self):
        for name in self.made:
            self.cli('tasks', 'delete', '--force', name)
            self.cli('containers', 'delete', name)
        self.made = []


# -- a container's life ---------------------------------------------------------------
def output_and_errors_arrive(engine):
    done = engine.run('sh', '-c', 'echo to-out; echo to-err >&2')
    equal((done.returncode, done.stdout, done.stderr), (0, 'to-out\n', 'to-err\n'))


def exit_code_is_passed_on(engine):
    for code in (0, 1, 42, 255):
        equal(engine.run('sh', '-c', f'exit {code}').returncode, code, 'exit code')


def program_that_is_missing_is_named(engine):
    done = engine.run('no-such-program')
    expect(done.returncode != 0, 'exit code', done.returncode)
    contains(done.stderr, 'no-such-program')


def failed_start_leaves_nothing(engine):
    engine.run('no-such-program')
    equal(engine.task(engine.made[-1]), (0, ''), 'task')
    for hierarchy in kernel.hierarchies():
        expect(not os.path.exists(os.path.join(hierarchy, engine.world.cgroup, engine.made[-1])), 'a cgroup is left')


def stdin_is_read_to_its_end(engine):
    equal(engine.talk(*engine.words(['--rm'], ['sh', '-c', 'cat; echo end'])), (0, 'line\nend\n'))


def environment_folder_and_hostname(engine):
    out = engine.output('sh', '-c', 'echo $GIVEN; pwd; hostname',
                        options=['--env', 'GIVEN=value', '--cwd', '/tmp', '--hostname', 'a-name'])
    equal(out.split(), ['value', '/tmp', 'a-name'])


def terminal_has_and_follows_the_clients_size(engine):
    script = 'trap "stty size" WINCH; stty size; tty; echo ready; read line; exit 8'
    with engine.terminal(*engine.words(['--rm', '--tty'], ['sh', '-c', script]), rows=33, columns=111) as terminal:
        contains(terminal.wait_for('ready'), '/dev/pts/0')
        terminal.resize_until_seen(50, 132)


def terminal_takes_input(engine):
    with engine.terminal(*engine.words(['--rm', '--tty'], ['sh'])) as terminal:
        terminal.wait_for('#')
        terminal.type('echo answer-$((40 + 2)); exit 7\n')
        terminal.wait_for('answer-42')
        equal(terminal.wait(), 7, 'exit code')


def detached_container_runs(engine):
    name = engine.start()
    pid, status = engine.task(name)
    equal(status, 'RUNNING')
    equal(kernel.status(pid, 'Name'), 'sleep')


def processes_are_listed(engine):
    name = engine.start()
    contains(engine.must('tasks', 'ps', name), str(engine.pid(name)))


def exec_gives_output_and_exit_code(engine):
    name = engine.start()
    done = engine.exec(name, 'sh', '-c', 'echo out; echo err >&2; exit 6')
    equal((done.returncode, done.stdout, done.stderr), (6, 'out\n', 'err\n'))


def exec_reads_stdin(engine):
    name = engine.start()
    equal(engine.talk('tasks', 'exec', '--exec-id', 'talk', name, 'cat'), (0, 'line\n'))


def exec_of_a_missing_program_fails(engine):
    name = engine.start()
    done = engine.exec(name, 'no-such-program')
    expect(done.returncode != 0, 'exit code', done.returncode)
    contains(done.stderr, 'no-such-program')
    equal(engine.task(name)[1], 'RUNNING')


def exec_as_another_user(engine):
    name = engine.start()
    equal(engine.exec(name, 'sh', '-c', 'id -u; id -g', options=['--user', '7:8']).stdout.split(), ['7', '8'])


def exec_has_a_terminal(engine):
    name = engine.start()
    script = 'trap "stty size" WINCH; tty; echo ready; while :; do sleep 0.1; done'
    with engine.terminal('tasks', 'exec', '--exec-id', 'terminal', '--tty', name, 'sh', '-c', script) as terminal:
        contains(terminal.wait_for('ready'), '/dev/pts/')
        terminal.resize_until_seen(41, 99)


def exec_is_in_the_containers_cgroup(engine):
    name = engine.start()
    engine.exec(name, 'sleep', '4321', options=['--detach'])
    with open(f'{kernel.cgroup_of(engine.pid(name), "pids")}/cgroup.procs') as file:
        equal(len(file.read().split()), 2, 'processes in the cgroup')


def kill_sends_the_signal(engine):
    name = engine.start('sh', '-c', 'trap "echo got-usr1" USR1; trap "echo got-term; exit 11" TERM; echo ready; '
                        'while :; do sleep 0.1; done')
    eventually(lambda: 'ready' in engine.logged(name), 'the traps are set')
    engine.must('tasks', 'kill', '--signal', 'SIGUSR1', name)
    eventually(lambda: 'got-usr1' in engine.logged(name), 'the trap runs')
    engine.must('tasks', 'kill', '--signal', 'SIGTERM', name)
    eventually(lambda: 'got-term' in engine.logged(name), 'the trap runs')
    engine.wait_status(name, 'STOPPED')
    contains(engine.cli('tasks', 'delete', name).stderr, 'exit code 11')


def kill_all_ends_every_process(engine):
    seconds = str(60000000 + os.getpid())
    name = engine.start('sh', '-c', f'sleep {seconds} & sleep {seconds} & wait')
    eventually(lambda: len(kernel.processes('sleep', seconds)) == 2, 'both run')
    engine.must('tasks', 'kill', '--all', '--signal', 'SIGKILL', name)
    eventually(lambda: not kernel.processes('sleep', seconds), 'both have ended')


def pause_stops_the_clock(engine):
    name = engine.start('sh', '-c', 'while :; do :; done')
    pid = engine.pid(name)

    def used():
        with open(f'/proc/{pid}/stat') as file:
            return sum(map(int, file.read().rpartition(')')[2].split()[11:13]))
    eventually(lambda: used() > 0, 'it takes time')
    engine.must('tasks', 'pause', name)
    engine.wait_status(name, 'PAUSED')
    first = used()
    eventually(lambda: kernel.state(pid) in 'D', 'it is frozen')
    equal(used(), first, 'its time')
    engine.must('tasks', 'resume', name)
    engine.wait_status(name, 'RUNNING')
    eventually(lambda: used() > first, 'it goes on')


def metrics_are_read(engine):
    name = engine.start(options=['--memory-limit', str(64 * MIB)])
    text = engine.must('tasks', 'metrics', '--format', 'json', name)
    json.loads(text)
    expect(str(64 * MIB) in text, 'no limit in', text)


def delete_force_ends_the_process(engine):
    name = engine.start()
    pid = engine.pid(name)
    engine.cli('tasks', 'delete', '--force', name)
    equal(kernel.state(pid), '', 'the process')


def restart_of_the_daemon_keeps_containers(engine):
    name = engine.start()
    pid = engine.pid(name)
    engine.daemon.terminate()
    engine.daemon.wait(20)
    engine.world.daemons.remove(engine.daemon)
    engine.start_daemon()
    equal(engine.task(name), (pid, 'RUNNING'))
    equal(engine.exec(name, 'echo', 'still here').stdout, 'still here\n')


def container_of_a_killed_shim_is_taken_down(engine):
    """The shim's last words: containerd has it delete the container by the runtime's `delete --force`."""
    name = engine.start()
    pid = engine.pid(name)
    cgroup = kernel.cgroup_of(pid, 'pids')
    with open(f'/proc/{pid}/stat') as file:
        shim = int(file.read().rpartition(')')[2].split()[1])
    with open(f'/proc/{shim}/cmdline') as file:
        contains(file.read(), 'containerd-shim')
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not kernel.state(pid), 'the process has ended')
    eventually(lambda: not os.path.exists(cgroup), 'the cgroup is gone')


# -- limits and isolation ---------------------------------------------------------------
def memory_limit(engine):
    name = engine.start(options=['--memory-limit', str(48 * MIB)])
    equal(kernel.limit(engine.pid(name), 'memory'), str(48 * MIB))


def cpu_limits(engine):
    name = engine.start(options=['--cpus', '0.5', '--cpuset-cpus', '0'])
    pid = engine.pid(name)
    equal(int(kernel.limit(pid, 'quota')) * 2, int(kernel.limit(pid, 'period')), 'twice the quota')
    equal(kernel.limit(pid, 'cpuset'), '0')


def exceeding_memory_is_an_event(engine):
    with open(engine.world.path('events.log'), 'w+') as log:
        events = engine.world.sandbox.popen([*engine.client, 'events'], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env={'PATH': PATH})
        try:
            name = engine.start('sh', '-c', 'sleep 0.5; x=$(head -c 90000000 /dev/zero | tr "\\0" x); sleep 1',
                                options=['--memory-limit', str(8 * MIB)])

            def reported():
                log.seek(0)
                return [line for line in log.read().splitlines() if '/tasks/oom' in line and name in line]
            eventually(reported, 'an event /tasks/oom', 20)
        finally:
            events.kill()
            events.wait()


def capabilities(engine):
    def effective(*options):
        line = engine.output('grep', 'CapEff', '/proc/self/status', options=options)
        return int(line.split()[1], 16)
    expect(not effective() & 1 << 12, 'NET_ADMIN by default')
    expect(effective('--cap-add', 'CAP_NET_ADMIN') & 1 << 12, 'NET_ADMIN was not added')
    expect(not effective('--cap-drop', 'CAP_CHOWN') & 1, 'CHOWN was not dropped')
    equal(effective('--privileged'), int(kernel.status('self', 'CapBnd'), 16), 'privileged')


def seccomp_and_no_new_privileges(engine):
    out = engine.output('grep', '-E', '^(Seccomp|NoNewPrivs):', '/proc/self/status', options=['--seccomp'])
    equal(out.split(), ['NoNewPrivs:', '1', 'Seccomp:', '2'])


def user(engine):
    equal(engine.output('id', options=['--user', 'guest']).split()[0], 'uid=1000(guest)')
    equal(engine.output('sh', '-c', 'id -u; id -g', options=['--user', '12:34']).split(), ['12', '34'])


def root_read_only_and_mounts(engine):
    folder = engine.world.path('scratch-containerd')
    os.makedirs(folder, exist_ok=True)
    done = engine.run('sh', '-c', 'touch /file; echo x >/here/file; touch /there/file', options=[
        '--read-only', '--mount', f'type=bind,src={folder},dst=/here,options=rbind:rw',
        '--mount', f'type=bind,src={folder},dst=/there,options=rbind:ro'])
    contains(done.stderr, '/file: Read-only file system')
    contains(done.stderr, '/there/file: Read-only file system')
    with open(f'{folder}/file') as file:
        equal(file.read(), 'x\n')


def namespaces(engine):
    pid = engine.pid(engine.start())
    holder = engine.world.sandbox.holder
    for kind in ('pid', 'mnt', 'net', 'ipc', 'uts'):
        expect(kernel.namespace(pid, kind) != kernel.namespace(holder, kind), kind, 'is shared')
    host = engine.pid(engine.start(options=['--net-host']))
    equal(kernel.namespace(host, 'net'), kernel.namespace(holder, 'net'), '--net-host')
    joined = engine.pid(engine.start(options=['--with-ns', f'network:/proc/{pid}/ns/net', '--with-ns',
                                              f'ipc:/proc/{pid}/ns/ipc']))
    for kind in ('net', 'ipc'):
        equal(kernel.namespace(joined, kind), kernel.namespace(pid, kind), kind)


def user_namespace(engine):
    name = engine.start(options=['--uidmap', '0:100000:65536', '--gidmap', '0:200000:65536'])
    equal(kernel.status(engine.pid(name), 'Uid').split()[0], '100000')
    equal(engine.exec(name, 'sh', '-c', 'id -u; touch /made && ls -n /made').stdout.split()[0], '0')


def device(engine):
    script = 'test -c /dev/kmsg && echo there'
    equal(engine.run('sh', '-c', script, options=['--device', '/dev/kmsg']).stdout, 'there\n')
    equal(engine.run('sh', '-c', script).stdout, '', 'without')
