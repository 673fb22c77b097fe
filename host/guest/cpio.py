"""Write a "newc" cpio archive, the form of an initramfs.

Ref: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat

__all__ = ["Cpio"]


class Cpio:
    """An archive in memory. All files belong to root and are of time 0 unless told, so the same content gives the same bytes.

    Folders on the way to a file are made as needed. Paths are absolute, as the guest will see them.
    """
    def __init__(self):
        self._parts = []
        self._folders = {"/"}
        self._count = 0

    def _add(self, path, mode, data=b"", rdev=(0, 0), mtime=0):
        parent = path.rpartition("/")[0]
        if parent and parent not in self._folders:
            self.folder(parent)
        self._count += 1
        self._entry(path.lstrip("/"), self._count, mode, data, rdev, mtime)

    def _entry(self, name, ino, mode, data, rdev, mtime):
        encoded = name.encode() + b"\0"
        fields = (ino, mode, 0, 0, 1, mtime, len(data), 0, 0, *rdev, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, path):
        """Add a folder, unless it is there."""
        if path not in self._folders:
            self._folders.add(path)
            self._add(path, stat.S_IFDIR | 0o755)

    def file(self, path, data, mode=0o644, mtime=0):
        """Add a regular file with these bytes; ``mtime`` in seconds."""
        self._add(path, stat.S_IFREG | mode, data, mtime=mtime)

    def link(self, path, target):
        """Add a symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor, mode=0o600):
        """Add a character device node."""
        self._add(path, stat.S_IFCHR | mode, rdev=(major, minor))

    def getvalue(self):
        """Return the archive as it stands, with its end mark."""
        before = list(self._parts)
        self._entry("TRAILER!!!", 0, 0, b"", (0, 0), 0)
        archive, self._parts = b"".join(self._parts), before
        return archive
