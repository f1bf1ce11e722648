"""What the definition cannot say of a request that gets somewhere, and what must not come of one on the machine of a test."""

import io
import random
import tarfile
import zlib

import schemathesis
from hypothesis import strategies


def member(body, name):
    """The member of an object, whatever the case of its name, as the daemon reads it."""
    return next((key for key in body if key.lower() == name.lower()), name)


def thin_out(members, always=()):
    """Most of the time only a few of an object's members: each of them is looked at before one of the others is refused."""
    chance = random.Random(zlib.crc32(repr(sorted(members.items(), key=str)).encode()))
    if chance.random() < 0.2:
        return
    rest = sorted((name for name in members if name not in always), key=str)
    for name in chance.sample(rest, max(0, len(rest) - chance.randint(1, 3))):
        del members[name]


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    if case.operation.path == "/containers/{id}/update":
        thin_out(body)
    if case.operation.path != "/containers/create":
        return
    always = [member(body, name) for name in ("Image", "Cmd", "HostConfig")]
    thin_out(body, always)
    # That the image is not there, or that there is nothing to run, is all that would be said of every create.
    body[member(body, "Image")] = "busybox"
    if not body.get(member(body, "Cmd")):
        body[member(body, "Cmd")] = ["true"]
    host = body.get(member(body, "HostConfig"))
    if isinstance(host, dict):
        thin_out(host)
        # A folder of the host is made where a bind's source is missing, and a parent group stays when its container goes.
        for name in ("Binds", "CgroupParent"):
            host.pop(member(host, name), None)
        mounts = host.get(member(host, "Mounts"))
        for mount in mounts if isinstance(mounts, list) else []:
            if isinstance(mount, dict):
                mount.pop(member(mount, "BindOptions"), None)


@strategies.composite
def archives(draw):
    """Tars of a few members, whole or cut off; now and then no tar at all."""
    if draw(strategies.integers(0, 9)) == 0:
        return draw(strategies.binary(max_size=2000))
    likely = strategies.sampled_from(["a", "a/b", "../c", "/d", ".", "..", "", "manifest.json", "a/./b"])
    names = likely | strategies.text(max_size=20)
    kinds = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"Z"]
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", errors="surrogatepass") as archive:
        for _ in range(draw(strategies.integers(0, 4))):
            member = tarfile.TarInfo(draw(names))
            member.type = draw(strategies.sampled_from(kinds))
            member.linkname = draw(names) if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            member.mode = draw(strategies.integers(0, 0o7777))
            member.uid = draw(strategies.sampled_from([0, 5, 2**21, 2**31]))
            content = draw(strategies.binary(max_size=100)) if member.type == tarfile.REGTYPE else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = written.getvalue()
    return whole[: draw(strategies.integers(0, len(whole)))] if draw(strategies.integers(0, 4)) == 0 else whole


schemathesis.openapi.media_type("application/x-tar", archives())
