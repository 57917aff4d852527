"""Files that no run may take for its input: malformed documents, and paths that are no readable files."""

from __future__ import annotations

import os
import socket

from setup.formats.yaml_file import DEEPEST, LARGEST_FILE


def nested(levels: int) -> bytes:
    return b"A: " + b"[" * (levels - 1) + b"x" + b"]" * (levels - 1)


SECRET = "hunter2"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MALFORMED = {
    "bomb": (BOMB.encode(), "anchors and aliases"),
    "alias": (b"A: 1\nB: *hunter2\n", "anchors and aliases"),
    "anchored scalar": (b"A: &hunter2 x\n", "line 1: anchors"),
    "anchored mapping": (b"A:\n  &hunter2 b: c\n", "line 2: anchors"),
    "anchored sequence": (b"A: &hunter2 [b]\n", "line 1: anchors"),
    "merge": (b"A: &a {b: hunter2}\nC:\n  <<: *a\n", "line 1: anchors"),
    "python tag": (b"A: !!python/object/apply:os.system [hunter2]\n", "line 1: tags"),
    "string tag": (b"A: !!str hunter2\n", "line 1: tags"),
    "local tag": (b"A: 1\nB: !hunter2 x\n", "line 2: tags"),
    "tag on a mapping": (b"A: !!map {b: hunter2}\n", "line 1: tags"),
    "too deep": (nested(DEEPEST + 1), "nested deeper than 8"),
    "very deep": (b"[" * 100_000, "nested deeper than 8"),
    "very deep blocks": (b"".join(b" " * level + b"a:\n" for level in range(300)), "nested deeper than 8"),
    "deep mappings": (b"{a: " * 50_000, "nested deeper than 8"),
    "two documents": (b"A: 1\n---\nB: hunter2\n", "line 2: only one document"),
    "second document after an end": (b"A: 1\n...\n---\nB: 2\n", "only one document"),
    "duplicate key": (b"A: 1\nB: 2\nA: hunter2\n", "line 3: the key 'A' appears twice"),
    "duplicate key, quoted": (b"A: 1\n'A': hunter2\n", "line 2: the key 'A' appears twice"),
    "duplicate key of a mapping": (b"A: {b: 1}\nA: hunter2\n", "line 2: the key 'A' appears twice"),
    "duplicate key or value": (b"hunter2: 1\nhunter2: 2\n", "line 2: the key (not shown, as it may be a value)"),
    "duplicate key inside": (b"A: {b: hunter2, b: 2}\n", "the key 'b' appears twice"),
    "empty key": (b": hunter2\n", "line 1"),
    "empty key in braces": (b"{: hunter2}\n", "line 1"),
    "percent sign": (b"A: %hunter2\n", "line 1"),
    "null key": (b"~: hunter2\n", "a key must be a plain name"),
    "sequence as key": (b"? [a, b]\n: hunter2\n", "a key must be a plain name"),
    "mapping as key": (b"{a: b}: hunter2\n", "a key must be a plain name"),
    "tab as indent": (b"A:\n\tB: hunter2\n", "line 2"),
    "colon in a value": (b"A: 1\nPASSWORD: hunter2: x\n", "line 2"),
    "open quote": (b"A: 'hunter2\n", "line"),
    "open bracket": (b"A: [hunter2\n", "line"),
    "open brace": (b"A: {hunter2: x\n", "line"),
    "at sign": (b"A: @hunter2\n", "line 1"),
    "backtick": (b"A: `hunter2`\n", "line 1"),
    "bad escape": (b'A: "hunter2\\q"\n', "line 1"),
    "line without a colon": (b"A: 1\nhunter2\n", "line"),
    "wrong indent": (b"A: 1\n B: hunter2\n", "line 2"),
    "unknown directive": (b"%TAG hunter2\n---\nA: 1\n", "line 1"),
    "NUL": (b"A: hunter2\x00\n", "characters that YAML does not allow"),
    "escape character": (b"A: hunter2\x1b[2J\n", "characters that YAML does not allow"),
    "Latin-1": ("A: hunter2é\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("A: hunter2\n".encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": ("A: hunter2\n".encode("utf-16-le"), "characters that YAML does not allow"),
    "UTF-32": ("A: hunter2\n".encode("utf-32"), "not UTF-8"),
    "overlong UTF-8": (b"A: hunter2\xc0\x80\n", "not UTF-8"),
    "surrogate in UTF-8": (b"A: hunter2\xed\xa0\x80\n", "not UTF-8"),
    "binary": (bytes(range(256)), "not UTF-8"),
}  # fmt: skip


def _too_large(path):
    path.write_bytes(b"x" * (LARGEST_FILE + 1))


def _socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


NOT_READABLE = {
    "missing": (lambda path: None, "no such file"),
    "directory": (lambda path: path.mkdir(), "it is a directory, which Docker creates"),
    "FIFO": (os.mkfifo, "not a regular file"),
    "socket": (_socket, "cannot be read"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "too large": (_too_large, "256 KiB"),
}
