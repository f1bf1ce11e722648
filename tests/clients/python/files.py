"""Files of containers: archives in and out, changes, export, commit."""
import io
import tarfile

from checks import raises, unique
from docker.errors import APIError, NotFound


def _archive(**files):
    """A tar of these names and bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(text), 0o640, 12, 34
            tar.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def _read(chunks):
    return tarfile.open(fileobj=io.BytesIO(b''.join(chunks)))


def an_archive_goes_in_and_comes_out(world):
    with world.container() as made:
        assert made.put_archive('/tmp', _archive(one=b'first', two=b'x' * 300_000)) is True
        assert world.shell(made, 'cat /tmp/one; stat -c "%a %u:%g" /tmp/one; wc -c < /tmp/two') == 'first640 12:34\n300000\n'
        chunks, stat = made.get_archive('/tmp/two')
        assert stat['name'] == 'two' and stat['size'] == 300_000, stat
        entry = _read(chunks).getmembers()[0]
        assert (entry.name, entry.size, entry.uid, entry.gid) == ('two', 300_000, 12, 34)
        chunks, _ = made.get_archive('/tmp', encode_stream=True)
        assert {'tmp/one', 'tmp/two'} <= set(_read(chunks).getnames())
        raises(NotFound, 'Could not find the file', lambda: made.get_archive('/no/such'))
        raises(APIError, '', lambda: made.put_archive('/no/such', _archive(a=b'')))


def an_archive_of_a_container_that_does_not_run(world):
    with world.container(start=False) as made:
        assert made.put_archive('/', _archive(early=b'bird'))
        made.start()
        assert world.shell(made, 'cat /early') == 'bird'


def changes_are_told(world):
    with world.container(['sh', '-c', 'echo > /added; rm /etc/group; echo >> /etc/passwd']) as made:
        made.wait()
        kinds = {change['Path']: change['Kind'] for change in made.diff()}
        assert kinds.get('/added') == 1 and kinds.get('/etc/group') == 2 and kinds.get('/etc/passwd') == 0, kinds


def an_export_is_the_whole_tree(world):
    with world.container(['sh', '-c', 'echo kept > /kept']) as made:
        made.wait()
        names = _read(made.export()).getnames()
        assert 'kept' in names and 'bin/busybox' in names
        imported = unique('imported')
        world.client.api.import_image_from_data(b''.join(made.export()), repository=imported, tag='v1', changes=['CMD cat /kept'])
        try:
            assert world.client.containers.run(f'{imported}:v1', remove=True) == b'kept\n'
        finally:
            world.client.images.remove(f'{imported}:v1')


def a_commit_is_an_image(world):
    name = unique('committed')
    with world.container(['sh', '-c', 'echo kept > /kept']) as made:
        made.wait()
        image = made.commit(name, 'v2', message='why', author='who', changes='ENV NEW=yes', conf={'Cmd': ['cat', '/kept']})
        try:
            assert image.tags == [f'{name}:v2'] and image.attrs['Comment'] == 'why' and image.attrs['Author'] == 'who'
            assert 'NEW=yes' in image.attrs['Config']['Env'], image.attrs['Config']
            assert world.client.containers.run(f'{name}:v2', remove=True) == b'kept\n'
            assert image.history()[0]['Comment'] == 'why'
        finally:
            world.client.images.remove(image.id, force=True)
