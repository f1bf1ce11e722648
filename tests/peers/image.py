"""The one image that all engines run: busybox, in the archive format that docker, podman and ctr can load."""
import hashlib
import io
import json
import os
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'oci'))
from bundle import make_rootfs

NAME = 'localhost/busybox:peers'


def make_image(archive, folder, busybox):
    """Write the archive; the root file system is left in `folder`."""
    make_rootfs(folder, busybox)
    layer = layer_of(folder)
    config = json.dumps({
        'architecture': 'amd64', 'os': 'linux',
        'config': {'Cmd': ['sh'], 'Env': ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'FROM_IMAGE=yes']},
        'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(layer).hexdigest()]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + '.json'
    manifest = json.dumps([{'Config': config_name, 'RepoTags': [NAME], 'Layers': ['layer.tar']}]).encode()
    with tarfile.open(archive, 'w') as file:
        for name, data in (('layer.tar', layer), (config_name, config), ('manifest.json', manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))


def layer_of(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as layer:
        for name in sorted(os.listdir(folder)):
            layer.add(os.path.join(folder, name), name)
    return buffer.getvalue()
