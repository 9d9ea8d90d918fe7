"""What a power cut leaves of a data folder: the layer (layer.cpp) noted each file's content and each folder's names at
their last sync; everything else is thrown away, or survives by chance."""

import ctypes
import os
import pathlib
import shutil
import stat
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_STATX_INO, _STATX_BTIME = 0x100, 0x800


def identity(path):
    """As in layer.cpp: the inode's number and time of birth."""
    buffer = ctypes.create_string_buffer(256)
    if _LIBC.statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_INO | _STATX_BTIME, buffer) != 0:
        raise OSError(ctypes.get_errno(), "statx", str(path))
    inode, = struct.unpack_from("Q", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)
    return f"{inode}-{seconds}.{nanoseconds}"


class Node:
    """A file or folder: what it holds now, if it still exists, and what is durable of it."""

    def __init__(self, folder, now=None, durable=None):
        self.folder, self.now, self.durable = folder, now, durable


class Disk:
    """The state of a data folder when its programs have died; nothing may run in it meanwhile."""

    def __init__(self, faults):
        self.data, self.disk = faults.data, faults.disk
        self.nodes = {}
        self.paths = {}
        self.root = self._read(self.data)
        for noted in (self.disk / "names").iterdir():
            if ".making." not in noted.name:
                self._node(noted.name, True).durable = self._names(noted)
        for noted in (self.disk / "content").iterdir():
            if ".making." not in noted.name:
                self._node(noted.name, False).durable = noted.read_bytes()

    def _node(self, name, folder):
        return self.nodes.setdefault(name, Node(folder))

    def _read(self, path):
        name = identity(path)
        node = self._node(name, path.is_dir())
        self.paths[name] = str(path.relative_to(self.data))
        if node.folder:
            node.now = {child.name: (self._read(child), child.is_dir()) for child in path.iterdir()}
        else:
            node.now = path.read_bytes()
        return name

    @staticmethod
    def _names(noted):
        names = {}
        for line in noted.read_text().splitlines():
            name, kind, child = line.split(" ", 2)
            names[child] = (name, kind == "d")
        return names

    def unsynced(self):
        """The identities of what a power cut would change, with their paths."""
        return {name: path for name, path in self.paths.items()
                if self.nodes[name].now != (self.nodes[name].durable or ({} if self.nodes[name].folder else b""))}

    def write(self, target, survives):
        """What is left, as a new folder `target`. survives(identity, folder): its state of now is left, not its last
        synced one."""
        self._write(self.root, target, survives)

    def _write(self, name, target, survives):
        node = self.nodes.get(name) or Node(True)
        left = node.now if node.now is not None and survives(name, node.folder) else node.durable
        if not node.folder:
            target.write_bytes(left or b"")
            target.chmod(stat.S_IRUSR | stat.S_IWUSR)
            return
        target.mkdir()
        for child, (child_name, child_is_folder) in (left or {}).items():
            self.nodes.setdefault(child_name, Node(child_is_folder))
            self._write(child_name, target / child, survives)


def nothing(_, folder):
    return False


def names(_, folder):
    """A journalled file system: changes of folders survive, contents only when synced."""
    return folder


def all_but(lost):
    """Only this one file or folder falls behind."""
    return lambda name, folder: name != lost


def by_chance(draw):
    chosen = {}
    return lambda name, folder: chosen.setdefault(name, draw.random() < 0.5)


def settle(faults):
    """All that is there is durable: the machine is up again."""
    for part in ("names", "content"):
        shutil.rmtree(faults.disk / part)
        (faults.disk / part).mkdir()

    def note(path):
        name = identity(path)
        if path.is_dir():
            lines = [f"{note(child)} {'d' if child.is_dir() else 'f'} {child.name}\n" for child in path.iterdir()]
            (faults.disk / "names" / name).write_text("".join(lines))
        else:
            (faults.disk / "content" / name).write_bytes(path.read_bytes())
        return name
    if faults.data.exists():
        note(faults.data)


def cut(faults, survives):
    """The power fails under programs that have died; the data folder is what is left."""
    disk, left = Disk(faults), pathlib.Path(str(faults.data) + ".left")
    disk.write(left, survives)
    shutil.rmtree(faults.data)
    left.rename(faults.data)
    settle(faults)
