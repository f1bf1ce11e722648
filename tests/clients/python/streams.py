"""Streams: logs, attach, exec, events, and sockets taken over from HTTP."""
import os
import socket
import threading
import time

import websocket
from checks import eventually, raises, unique
from docker.errors import APIError
from docker.utils.socket import frames_iter, read_exactly


def _raw(taken):
    """The socket below what the client gives back."""
    return getattr(taken, '_sock', taken)


def _until(sock, text):
    """Reads until `text` has come."""
    sock.settimeout(60)
    seen = b''
    while text not in seen:
        part = sock.recv(4096)
        assert part, f'the stream ended: {seen!r}'
        seen += part
    return seen


def logs_have_tail_times_and_sides(world):
    with world.container(['sh', '-c', 'echo 3 >&2; sleep 0.2; echo 1; echo 2']) as made:
        made.wait()
        assert sorted(made.logs().split()) == [b'1', b'2', b'3']
        assert made.logs(stderr=False) == b'1\n2\n' and made.logs(stdout=False) == b'3\n'
        assert made.logs(stderr=False, tail=1) == b'2\n'
        stamped = made.logs(stderr=False, timestamps=True).split(b'\n')[0]
        assert stamped.endswith(b'Z 1'), stamped
        assert made.logs(since=int(time.time()) + 100) == b''
        assert made.logs(until=int(time.time()) - 1000) == b''


def logs_are_followed_to_the_end(world):
    with world.container(['sh', '-c', 'echo first; while ! [ -e /go ]; do sleep 0.05; done; echo last']) as made:
        stream = made.logs(stream=True, follow=True)
        assert next(stream) == b'first\n'
        world.shell(made, 'touch /go')
        assert b''.join(stream) == b'last\n'


def logs_of_a_terminal_are_plain(world):
    with world.container(['sh', '-c', 'echo one'], tty=True) as made:
        made.wait()
        assert made.logs() == b'one\r\n'


def exec_has_code_output_and_sides(world):
    with world.container() as made:
        result = made.exec_run(['sh', '-c', 'echo out; echo err >&2; exit 5'], demux=True)
        assert result.exit_code == 5 and result.output == (b'out\n', b'err\n'), result
        options = dict(environment={'A': 'b c'}, workdir='/tmp', user='3:4')
        assert world.shell(made, 'echo $A; pwd; id -u', **options).split('\n') == ['b c', '/tmp', '3', '']
        everything = world.shell(made, 'grep CapEff /proc/self/status', privileged=True).split()[1]
        with open('/proc/self/status') as own:
            assert f'CapEff:\t{everything}\n' in own, everything
        assert made.exec_run('/no/such').exit_code in (126, 127)


def quick_output_is_not_lost(world):
    """The client reads output from the socket below its own buffer: what came with the head of the answer would be lost."""
    with world.container() as made:
        seen = [made.exec_run(['echo', 'x']).output for _ in range(50)]
        assert seen == [b'x\n'] * 50, seen


def exec_streams(world):
    with world.container() as made:
        code, stream = made.exec_run(['sh', '-c', 'echo 1; sleep 0.2; echo 2'], stream=True)
        assert code is None and b''.join(stream) == b'1\n2\n'
        code, stream = made.exec_run(['sh', '-c', 'echo 1; echo 2 >&2'], stream=True, demux=True)
        sides = list(stream)
        assert b''.join(out or b'' for out, _ in sides) == b'1\n'
        assert b''.join(err or b'' for _, err in sides) == b'2\n'


def exec_detached_goes_on(world):
    with world.container() as made:
        made.exec_run(['sh', '-c', 'sleep 0.1; touch /done'], detach=True)
        eventually('the detached command has run', lambda: made.exec_run('ls /done').exit_code == 0)


def exec_gives_a_socket_for_both_ways(world):
    with world.container() as made:
        taken = made.exec_run('cat', stdin=True, socket=True).output
        sock = _raw(taken)
        sock.sendall(b'to and fro\n')
        head = read_exactly(taken, 8)
        assert head[0] == 1 and read_exactly(taken, int.from_bytes(head[4:], 'big')) == b'to and fro\n'
        sock.sendall(b'more\n')
        sock.shutdown(socket.SHUT_WR)
        assert b''.join(data for _, data in frames_iter(taken, tty=False)) == b'more\n'
        taken.close()


def exec_of_the_low_level_client(world):
    api = world.client.api
    with world.container() as made:
        made_exec = api.exec_create(made.id, ['sh', '-c', 'stty size; read line; echo "got $line"'], tty=True, stdin=True)
        taken = api.exec_start(made_exec['Id'], tty=True, socket=True)
        assert api.exec_inspect(made_exec['Id'])['Running'] is True
        api.exec_resize(made_exec['Id'], height=33, width=99)
        sock = _raw(taken)
        sock.sendall(b'line\n')
        _until(sock, b'got line')
        taken.close()
        eventually('the exec has ended', lambda: not api.exec_inspect(made_exec['Id'])['Running'])
        assert api.exec_inspect(made_exec['Id'])['ExitCode'] == 0
        raises(APIError, 'No such exec', lambda: api.exec_inspect('0123456789abcdef'))


def attach_follows_output(world):
    with world.container(['sh', '-c', 'read line; echo "$line"; echo wrong >&2'], start=False, stdin_open=True) as made:
        stream = made.attach(stream=True, demux=True, stdout=True, stderr=True)
        sock = made.attach_socket(params={'stdin': 1, 'stream': 1})
        made.start()
        _raw(sock).sendall(b'typed\n')
        sides = list(stream)
        assert b''.join(out or b'' for out, _ in sides) == b'typed\n', sides
        assert b''.join(err or b'' for _, err in sides) == b'wrong\n', sides
        sock.close()


def attach_gives_what_was_written_before(world):
    with world.container(['sh', '-c', 'echo before']) as made:
        made.wait()
        began = time.monotonic()
        assert made.attach(logs=True, stream=False, stdout=True, stderr=True) == b'before\n'
        assert time.monotonic() - began < 25, 'the daemon ends what has nothing more to say'


def attach_to_a_terminal_and_resize_it(world):
    with world.container('sh', tty=True, stdin_open=True) as made:
        taken = made.attach_socket(params={'stdin': 1, 'stdout': 1, 'stderr': 1, 'stream': 1})
        sock = _raw(taken)
        made.resize(31, 97)
        sock.sendall(b'stty size; echo en"d"\n')
        assert b'31 97' in _until(sock, b'end\r\n')
        sock.sendall(b'exit 6\n')
        assert made.wait()['StatusCode'] == 6
        taken.close()


def attach_over_a_websocket(world):
    with world.container('cat', stdin_open=True) as made:
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(60)
        raw.connect(os.environ['DOCKER_HOST'].removeprefix('unix://'))
        target = f'ws://localhost/containers/{made.id}/attach/ws?stream=1&stdin=1&stdout=1'
        taken = websocket.create_connection(target, socket=raw, timeout=60)
        taken.send('over the web\n')
        seen = b''
        while b'over the web\n' not in seen:
            part = taken.recv()
            seen += part.encode() if isinstance(part, str) else part
        taken.close()


def events_tell_what_happens(world):
    name = unique('events')
    began = int(time.time()) - 1
    filters = {'type': 'container', 'container': name}
    live = world.client.events(filters=filters, decode=True, since=began)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(
        event for event in iter(lambda: _next(live), None)), daemon=True)
    reader.start()
    with world.container('true', name=name) as made:
        made.wait()
    actions = lambda: [event['Action'] for event in seen]
    eventually('the removal is told', lambda: 'destroy' in actions())
    live.close()
    assert [what for what in actions() if what in ('create', 'start', 'die', 'destroy')] == \
        ['create', 'start', 'die', 'destroy'], actions()
    assert seen[0]['Actor']['Attributes']['name'] == name and seen[0]['Type'] == 'container'
    # As text, and of the past alone.
    past = list(world.client.events(filters={'container': name, 'event': 'start'}, since=began, until=int(time.time()) + 1))
    assert len(past) == 1 and b'"start"' in past[0], past


def _next(stream):
    try:
        return next(stream)
    except (StopIteration, ValueError, OSError):
        return None
