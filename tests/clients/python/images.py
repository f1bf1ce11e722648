"""`client.images`: names, archives, registries, removal."""
import contextlib
import io

import docker
from checks import eventually, raises, unique
from docker.errors import APIError, ImageNotFound, NotFound


def _own(world, what):
    """An image that nobody else has: busybox with a label."""
    name = unique(what)
    with world.container('true', start=False) as made:
        return name, made.commit(name, 'latest', changes=f'LABEL own={name}')


def an_image_is_found_by_name_and_id(world):
    image = world.client.images.get('busybox')
    assert 'busybox:latest' in image.tags and image.id.startswith('sha256:')
    assert world.client.images.get(image.id) == image == world.client.images.get(image.short_id)
    assert image.labels == {} and image.attrs['Os'] == 'linux' and image.attrs['Size'] > 0
    assert image in world.client.images.list('busybox')
    assert image.id in {entry['Id'] for entry in world.client.api.images()}
    raises(ImageNotFound, 'No such image', lambda: world.client.images.get(unique('nothing')))


def a_list_has_its_filters(world):
    name, image = _own(world, 'listed')
    try:
        assert world.client.images.list(filters={'label': f'own={name}'}) == [image]
        assert world.client.images.list(filters={'reference': f'{name}:*'}) == [image]
        assert world.client.images.list(name, all=True) == [image]
        assert world.client.images.list(filters={'since': name, 'reference': name}) == []
    finally:
        world.client.images.remove(name)


def a_tag_is_another_name(world):
    name, image = _own(world, 'tagged')
    assert image.tag(name, 'other') and image.tag(f'{name}-b', 'v1')
    image.reload()
    assert set(image.tags) == {f'{name}:latest', f'{name}:other', f'{name}-b:v1'}
    failure = raises(APIError, 'must be forced', lambda: world.client.images.remove(image.id))
    assert failure.status_code == 409
    world.client.images.remove(f'{name}:other')
    image.reload()
    assert set(image.tags) == {f'{name}:latest', f'{name}-b:v1'}
    image.remove(force=True)
    raises(ImageNotFound, 'No such image', lambda: world.client.images.get(image.id))
    raises(APIError, 'invalid', lambda: world.client.images.get('busybox').tag('UPPER CASE'))


def an_image_in_use_stays(world):
    name, image = _own(world, 'used')
    with _container_of(world, name) as made:
        failure = raises(APIError, made.short_id, lambda: world.client.images.remove(name))
        assert failure.status_code == 409
    world.client.images.remove(name)


@contextlib.contextmanager
def _container_of(world, image):
    """A created container of another image than busybox."""
    made = world.client.containers.create(image, 'true')
    try:
        yield made
    finally:
        made.remove(force=True)


def an_archive_goes_out_and_comes_in(world):
    name, image = _own(world, 'saved')
    archive = b''.join(image.save(named=True))
    world.client.images.remove(name)
    raises(ImageNotFound, 'No such image', lambda: world.client.images.get(name))
    loaded = world.client.images.load(archive)
    assert [again.id for again in loaded] == [image.id] and loaded[0].tags == [f'{name}:latest']
    raises((APIError, docker.errors.ImageLoadError), '', lambda: world.client.images.load(b'not a tar'))
    assert [again.id for again in world.client.images.load(io.BytesIO(archive))] == [image.id]
    world.client.images.remove(name)


def history_tells_the_layers(world):
    steps = world.client.images.get('busybox').history()
    assert steps[0]['CreatedBy'] == 'layer 0' and 'busybox:latest' in steps[0]['Tags'], steps


def a_pull_from_a_registry(world):
    remote = f'{world.registry}/clients/pull'
    pulled = world.client.images.pull(remote, 'v1')
    assert pulled.labels == {'of': 'clients/pull'} and f'{remote}:v1' in pulled.tags
    assert pulled.attrs['RepoDigests'][0].startswith(f'{remote}@sha256:'), pulled.attrs
    progress = list(world.client.api.pull(remote, 'v1', stream=True, decode=True))
    assert 'Image is up to date' in progress[-1]['status'], progress
    assert world.client.images.pull(pulled.attrs['RepoDigests'][0]).id == pulled.id
    pulled.remove(force=True)
    raises((NotFound, ImageNotFound), 'not found', lambda: world.client.images.pull(remote, 'v9'))


def a_push_says_that_it_cannot_be_had(world):
    failure = raises(APIError, 'pushing images', lambda: world.client.images.push(f'{world.registry}/clients/pull', 'v1'))
    assert failure.status_code == 501


def prune_takes_what_has_no_name(world):
    name, image = _own(world, 'pruned')
    world.client.images.get('busybox').tag(name, 'latest')
    found = eventually('it dangles', lambda: world.client.images.list(filters={'dangling': True, 'label': f'own={name}'}))
    assert found == [image]
    gone = world.client.images.prune(filters={'dangling': True, 'label': f'own={name}'})
    assert image.id in {entry.get('Deleted') for entry in gone['ImagesDeleted']}, gone
    world.client.images.remove(name)


def a_build_says_that_it_cannot_be_had(world):
    failure = raises(APIError, 'building images', lambda: world.client.images.build(fileobj=io.BytesIO(b'FROM busybox')))
    assert failure.status_code == 501
