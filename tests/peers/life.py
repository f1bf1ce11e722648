"""A container's life as a user of docker or podman sees it: output, exit codes, terminals, exec, signals."""
import json
import os
import subprocess
import time

import kernel
from checks import Unsupported, contains, equal, eventually, expect


def judged_runtime_is_used(engine):
    name = engine.start()
    used = engine.inspect(name, 'HostConfig.Runtime' if engine.name.startswith('docker') else 'OCIRuntime')
    expect('judged' in used or engine.world.runtime in used, 'the runtime is', used)


def output_and_errors_arrive(engine):
    done = engine.run('sh', '-c', 'echo to-out; echo to-err >&2')
    equal((done.returncode, done.stdout, done.stderr), (0, 'to-out\n', 'to-err\n'))


def large_output_is_whole(engine):
    done = engine.run('sh', '-c', 'head -c 3000000 /dev/zero | tr "\\0" x')
    equal((done.returncode, len(done.stdout)), (0, 3000000), 'code and length')


def exit_code_is_passed_on(engine):
    for code in (0, 1, 42, 255):
        equal(engine.run('sh', '-c', f'exit {code}').returncode, code, 'exit code')


def exit_code_of_a_signal_is_128_more(engine):
    name = engine.start()
    equal(engine.exec(name, 'sh', '-c', 'kill -KILL $$').returncode, 137, 'exit code of an exec')
    name = engine.start()
    engine.must('kill', '--signal', 'KILL', name)
    equal(engine.must('wait', name), '137')


def program_that_is_missing_gives_127(engine):
    for command in ('no-such-program', '/no/such/program'):
        equal(engine.run(command).returncode, 127, f'exit code of {command}')


def program_without_permission_gives_126(engine):
    done = engine.run('/etc/passwd')
    equal(done.returncode, 126, f'exit code ({done.stderr.strip()})')


def folder_as_program_gives_126(engine):
    done = engine.run('/etc')
    equal(done.returncode, 126, f'exit code ({done.stderr.strip()})')


def failed_start_leaves_no_container_behind(engine):
    engine.run('no-such-program')
    engine.run('true')
    tops = [os.path.join(hierarchy, engine.world.cgroup) for hierarchy in kernel.hierarchies()]
    left = [entry.path for top in tops if os.path.exists(top) for entry in os.scandir(top) if entry.is_dir()]
    # conmon's cgroup is Podman's to remove, and it does so a little later
    equal([path for path in left if 'conmon' not in path], [], 'cgroups of ended containers')


def stdin_is_read_to_its_end(engine):
    done = engine.run('sh', '-c', 'cat; echo end', options=['--interactive'], input='line 1\nline 2\n')
    equal((done.returncode, done.stdout), (0, 'line 1\nline 2\nend\n'))


def large_stdin_is_whole(engine):
    done = engine.run('wc', '-c', options=['--interactive'], input='y' * 2000000)
    equal(done.stdout.strip(), '2000000')


def environment_and_folder(engine):
    out = engine.sh('echo $GIVEN $FROM_IMAGE; pwd', ['--env', 'GIVEN=value', '--workdir', '/tmp'])
    equal(out, 'value yes\n/tmp')


def hostname_is_set(engine):
    equal(engine.output('hostname', options=['--hostname', 'a-name']), 'a-name')


# -- terminals ---------------------------------------------------------------------
# Podman sends the first size when the program may run already, and stty knows none until then.
UNTIL_SIZED = 'until stty size 2>/dev/null | grep -v "^0 0"; do sleep 0.05; done; '


def terminal_has_the_clients_size(engine):
    with engine.terminal(*engine.words(['--rm', '-it'], ['sh', '-c', UNTIL_SIZED + 'tty; test -t 0 && echo is-a-tty']),
                         rows=33, columns=111) as terminal:
        seen = terminal.wait_for('is-a-tty')
        contains(seen, '33 111')
        contains(seen, '/dev/pts/0')
        equal(terminal.wait(), 0, 'exit code')


def terminal_follows_a_resize(engine):
    script = 'trap "stty size" WINCH; echo ready; while :; do sleep 0.1; done'
    with engine.terminal(*engine.words(['--rm', '-it'], ['sh', '-c', script])) as terminal:
        terminal.wait_for('ready')
        terminal.resize_until_seen(50, 132)


def terminal_takes_input_and_interrupts(engine):
    with engine.terminal(*engine.words(['--rm', '-it'], ['sh'])) as terminal:
        terminal.wait_for('#')
        terminal.type('echo answer-$((40 + 2))\n')
        terminal.wait_for('answer-42')
        seconds = str(70000000 + os.getpid())
        terminal.type(f'sleep {seconds}\n')
        terminal.wait_for(seconds)
        eventually(lambda: kernel.processes('sleep', seconds), 'sleep runs')
        terminal.type('\x03')
        terminal.type('echo still-$((1 + 1))\n')
        terminal.wait_for('still-2')
        terminal.type('exit 7\n')
        equal(terminal.wait(), 7, 'exit code')


def exec_has_a_terminal(engine):
    name = engine.start()
    script = UNTIL_SIZED + 'trap "stty size" WINCH; echo ready; until test -e /tmp/enough; do sleep 0.1; done; exit 9'
    with engine.terminal('exec', '-it', name, 'sh', '-c', script, rows=20, columns=70) as terminal:
        contains(terminal.wait_for('ready'), '20 70')
        terminal.resize_until_seen(41, 99)
        engine.exec(name, 'touch', '/tmp/enough')
        equal(terminal.wait(), 9, 'exit code')


# -- in the background --------------------------------------------------------------
def detached_container_runs_and_is_listed(engine):
    name = engine.start()
    equal(engine.status(name), 'running')
    contains(engine.must('ps', '--format', '{{.Names}}').split(), name)


def logs_have_the_output(engine):
    name = engine.start('sh', '-c', 'echo out; echo err >&2')
    engine.must('wait', name)
    done = engine.cli('logs', name)
    equal((done.stdout, done.stderr), ('out\n', 'err\n'))


def wait_gives_the_exit_code(engine):
    name = engine.start('sh', '-c', 'sleep 0.5; exit 3')
    equal(engine.must('wait', name), '3')
    equal(engine.read(name, 'State.ExitCode'), 3)


def create_then_start(engine):
    engine.must(*engine.words([], ['echo', 'late'], verb='create'))
    name = engine.made[-1]
    equal(engine.status(name), 'created')
    equal(engine.must('start', '--attach', name), 'late')


def restart_gives_a_new_process(engine):
    name = engine.start()
    first = engine.pid(name)
    engine.must('restart', '--time', '1', name)
    equal(engine.status(name), 'running')
    expect(engine.pid(name) != first, 'the process is the same')
    equal(kernel.state(first), '', 'the old process')


def restart_policy_is_obeyed(engine):
    name = engine.start('sh', '-c', 'exit 5', options=['--restart', 'on-failure:2'])
    eventually(lambda: engine.read(name, 'RestartCount') == 2, 'two restarts', 20)
    eventually(lambda: engine.status(name) == 'exited', 'it has exited')
    equal(engine.read(name, 'State.ExitCode'), 5)


def top_shows_processes(engine):
    name = engine.start()
    contains(engine.must('top', name), 'sleep')


def rm_force_ends_the_process(engine):
    name = engine.start()
    pid = engine.pid(name)
    engine.must(*engine.remove, name)
    equal(kernel.state(pid), '', 'the process')


# -- exec ---------------------------------------------------------------------------
def exec_gives_output_and_exit_code(engine):
    name = engine.start()
    done = engine.exec(name, 'sh', '-c', 'echo out; echo err >&2; exit 6')
    equal((done.returncode, done.stdout, done.stderr), (6, 'out\n', 'err\n'))


def exec_reads_stdin(engine):
    name = engine.start()
    equal(engine.exec(name, 'cat', options=['--interactive'], input='typed').stdout, 'typed')


def exec_of_a_missing_program_gives_127(engine):
    name = engine.start()
    done = engine.exec(name, 'no-such-program')
    equal(done.returncode, 127, f'exit code ({done.stderr.strip()}{done.stdout.strip()})')


def exec_without_permission_gives_126(engine):
    name = engine.start()
    done = engine.exec(name, '/etc/passwd')
    equal(done.returncode, 126, f'exit code ({done.stderr.strip()}{done.stdout.strip()})')


def exec_as_another_user(engine):
    name = engine.start()
    equal(engine.exec(name, 'id', options=['--user', 'guest']).stdout.strip(),
          'uid=1000(guest) gid=1000(guest) groups=1000(guest),2000(extra)')
    equal(engine.exec(name, 'id', '-u', options=['--user', '4242']).stdout.strip(), '4242')
    equal(engine.exec(name, 'sh', '-c', 'id -u; id -g', options=['--user', '7:8']).stdout.split(), ['7', '8'])


def exec_has_environment_and_folder(engine):
    name = engine.start()
    options = ['--env', 'ADDED=1', '--workdir', '/var']
    done = engine.exec(name, 'sh', '-c', 'echo $ADDED $FROM_IMAGE; pwd', options=options)
    equal(done.stdout.split(), ['1', 'yes', '/var'])


def exec_joins_all_namespaces(engine):
    name = engine.start()
    pid = engine.pid(name)
    for kind in ('pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'):
        equal(engine.exec(name, 'readlink', f'/proc/self/ns/{kind}').stdout.strip(), kernel.namespace(pid, kind), kind)


def exec_is_confined_like_the_container(engine):
    name = engine.start()
    script = 'grep -E "^(Cap|Seccomp:|NoNewPrivs)" /proc/self/status'
    first = engine.exec(name, 'sh', '-c', 'grep -E "^(Cap|Seccomp:|NoNewPrivs)" /proc/1/status').stdout
    equal(engine.exec(name, 'sh', '-c', script).stdout, first, 'status')
    contains(first, 'Seccomp:\t2')


def exec_is_in_the_containers_cgroup(engine):
    name = engine.start()
    engine.must('exec', '--detach', name, 'sleep', '4321')
    top = kernel.cgroup_of(engine.pid(name), 'pids')

    def processes():
        with open(f'{top}/cgroup.procs') as file:
            return len(file.read().split())
    eventually(lambda: processes() == 2, 'two processes in the cgroup')


def exec_privileged_has_all_capabilities(engine):
    name = engine.start()
    done = engine.exec(name, 'grep', 'CapEff', '/proc/self/status', options=['--privileged'])
    equal(done.stdout.split()[-1:], [kernel.status('self', 'CapBnd')])


# -- signals ------------------------------------------------------------------------
TRAPPED = 'trap "echo got-usr1" USR1; trap "echo got-term; exit 11" TERM; echo ready; while :; do sleep 0.1; done'


def started_trapping(engine, *options):
    name = engine.start('sh', '-c', TRAPPED, options=options)
    eventually(lambda: 'ready' in engine.must('logs', name), 'the traps are set')
    return name


def kill_sends_the_signal(engine):
    name = started_trapping(engine)
    engine.must('kill', '--signal', 'USR1', name)
    eventually(lambda: 'got-usr1' in engine.must('logs', name), 'the trap runs')
    equal(engine.status(name), 'running')
    engine.must('kill', name)
    engine.wait_status(name, 'exited')
    equal(engine.read(name, 'State.ExitCode'), 137)


def stop_sends_term(engine):
    name = started_trapping(engine)
    engine.must('stop', name)
    contains(engine.must('logs', name), 'got-term')
    equal(engine.read(name, 'State.ExitCode'), 11)


def stop_kills_after_its_time(engine):
    name = engine.start()
    engine.must('stop', '--time', '1', name)
    equal(engine.read(name, 'State.ExitCode'), 137)


def stop_sends_the_containers_own_signal(engine):
    name = started_trapping(engine, '--stop-signal', 'USR1')
    engine.must('stop', '--time', '1', name)
    contains(engine.must('logs', name), 'got-usr1')


def foreground_client_passes_signals_on(engine):
    process = engine.popen(*engine.words(['--rm'], ['sh', '-c', TRAPPED]), stdout=subprocess.PIPE,
                           stdin=subprocess.DEVNULL)
    equal(process.stdout.readline(), 'ready\n')
    process.terminate()
    equal(process.wait(20), 11, 'exit code')
    contains(process.stdout.read(), 'got-term')


def pause_stops_the_clock(engine):
    name = engine.start('sh', '-c', 'i=0; while :; do i=$((i + 1)); echo $i >/tmp/new; mv /tmp/new /tmp/now; done')
    pid = engine.pid(name)

    def now():
        with open(f'/proc/{pid}/root/tmp/now') as file:
            return int(file.read())
    eventually(lambda: os.path.exists(f'/proc/{pid}/root/tmp/now'), 'it counts')
    engine.must('pause', name)
    equal(engine.status(name), 'paused')
    first = now()
    time.sleep(0.4)
    equal(now(), first, 'the count')
    engine.must('unpause', name)
    equal(engine.status(name), 'running')
    eventually(lambda: now() > first, 'it goes on')


def stats_are_read(engine):
    name = engine.start('sh', '-c', 'while :; do :; done', options=['--memory', '64m'])
    line = json.loads(engine.must('stats', '--no-stream', '--format', 'json', name).splitlines()[0]) \
        if engine.name.startswith('docker') else \
        json.loads(engine.must('stats', '--no-stream', '--format', 'json', name))[0]
    text = json.dumps(line)
    expect('64MiB' in text or '67.11MB' in text, 'no limit of 64 MiB in', text)
    pids = line.get('PIDs') or line.get('pids')
    equal(str(pids), '1', 'processes')


def init_reaps_orphans(engine):
    if not engine.has_init():
        raise Unsupported('the tree has no init program for it')
    out = engine.sh('(sleep 0.1 &) ; sleep 0.6; ps -o pid,stat,args', ['--init'])
    expect(' Z' not in out, out)
    expect('init' in out.splitlines()[1], out)
