"""Read PEM with the grammar of OpenSSL, as nginx does, and say what is wrong with a file or how to convert it; pure.

OpenSSL reads lines of at most 254 bytes, takes a block only if BEGIN and END have a line of their own, and skips blocks
of another label and what is outside of blocks. A slip in any block that it reads makes the file unusable.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from enum import Enum, auto

from setup.environment import shell_word
from setup.typed import NamedTuple

_LONGEST = 254  # bytes
_BLANK = bytes(range(33))  # what OpenSSL drops at the end of a line
_BEGIN = re.compile(rb"-----BEGIN (.*)-----", re.DOTALL)
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/= \t\r]")
_UTF_8_MARK = b"\xef\xbb\xbf"  # OpenSSL skips it before a block
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # and cannot read what follows these
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # the object identifier of PKCS#7
_CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_TRUSTED = b"TRUSTED CERTIFICATE"  # taken as the first one, and skipped behind it
_REQUESTS = {b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"}
_PKCS_8, _ENCRYPTED = b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"
_KEYS = {_PKCS_8, _ENCRYPTED, b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"DSA PRIVATE KEY"}
# What tells PKCS#8 under the label of an older form: the object identifier of the algorithm near its beginning.
_ALGORITHMS = {
    b"RSA PRIVATE KEY": bytes.fromhex("06092a864886f70d010101"),
    b"EC PRIVATE KEY": bytes.fromhex("06072a8648ce3d0201"),
}
_COPY_AGAIN = "copy it again, as its CA issued it"
_SERVER_FIRST = "put the server certificate there, then its intermediates"
_ISSUED = "put there the certificate that the CA issued for it"
_REPLACE = "convert it, and replace the file with the result"
# However somebody spells it: a reader skips what it does not know.
_MEANT = re.compile(rb"(?i)--+[ \t]*BEGIN [A-Z0-9 ]*CERTIFICATE(?! REQUEST)")


class PemFile(NamedTuple):
    """A file that should hold certificates or a key, by the path that messages name."""

    path: str
    data: bytes


class Problem(NamedTuple):
    """What is wrong with a file, and what to do."""

    text: str
    todo: str


class Unusable(Exception):
    """A file that nginx could not use."""

    def __init__(self, text: str, todo: str) -> None:
        super().__init__(text)
        self.problem = Problem(text, todo)


class Chain(NamedTuple):
    """The certificates that nginx reads from a file, in DER by their line, and the lines of those that it skips."""

    certificates: dict[int, bytes]
    skipped: list[int]


def read_chain(file: PemFile, wanted: str = _SERVER_FIRST) -> Chain:
    """Read the certificates of a file; raise Unusable, which asks for what is wanted if it holds none."""
    _require_text(file, "-nokeys", "x509")
    certificates: dict[int, bytes] = {}
    for block in _blocks(file.data):
        if isinstance(block, Unusable):
            raise _line_ends(file) or block
        if block.label in _CERTIFICATES or (block.label == _TRUSTED and not certificates):
            _require_no_header(block)
            der = _first_value(block.der)
            if not certificates and not _may_follow(block.der[len(der) :]):
                raise damaged(block.line)
            certificates[block.line] = der
    if not certificates:
        raise _no_certificate(file, wanted)
    skipped = []
    for number, line in enumerate(file.data.split(b"\n"), 1):
        if number not in certificates and _MEANT.search(line):
            skipped.append(number)
    return Chain(certificates, skipped)


def read_authorities(file: PemFile) -> dict[int, bytes]:
    """Read every certificate of a file, in DER by its line; raise Unusable, also for one that programs skip."""
    plain = file._replace(data=file.data.replace(_TRUSTED, b"CERTIFICATE"))
    chain = read_chain(plain, "put the CA's certificate there")
    for line in chain.skipped:
        skips = Unusable(f"programs skip the certificate whose BEGIN is in line {line}", _COPY_AGAIN)
        raise _unread(plain, line) or skips
    return chain.certificates


def read_keys(file: PemFile) -> Iterator[bytes]:
    """Yield the private keys of a file, of which nginx takes the first that is whole, as PEM; raise Unusable."""
    _require_text(file, "-nocerts -nodes", "pkey")
    problem: Unusable | None = None
    has_key = False
    for block in _blocks(file.data):
        if isinstance(block, Unusable):  # OpenSSL looks for a key behind it
            problem = problem or block
        elif block.label == _ENCRYPTED and not _is_whole(block.der):
            problem = problem or damaged(block.line)
        elif block.label in _KEYS:
            if block.label == _ENCRYPTED or block.header.startswith(b"Proc-Type: 4,ENCRYPTED"):
                todo = f"decrypt it, and replace the file with the result: openssl pkey {_openssl_paths(file.path)}"
                raise Unusable("it is encrypted, and nginx cannot ask for the passphrase", todo)
            _require_no_header(block)
            has_key, der = True, _first_value(block.der)
            label = _PKCS_8 if _ALGORITHMS.get(block.label, b"\0") in der[:40] else block.label
            yield _as_key(label, base64.encodebytes(der))
    if problem or not has_key:
        raise _line_ends(file) or problem or _no_key(file)


def relabel_key(key: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a key in PEM under each usual label, and that label: one of them may be what its DER is."""
    for label in (_PKCS_8, *_ALGORITHMS):
        yield label.decode(), _as_key(label, b"".join(key.splitlines(keepends=True)[1:-1]))


def _as_key(label: bytes, text: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, text, label)


def labels(data: bytes) -> set[bytes]:
    """Return what blocks a file seems to have, however they are written."""
    return set(re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", data))


def is_pkcs_12(data: bytes) -> bool:
    """Tell whether a file begins like PKCS#12, which may hold certificates and key."""
    return _binary_kind(data) == "PKCS#12"


def convert_pkcs_12(path: str) -> Problem:
    """Say how to convert a file that is certificate and key at once: nginx reads both from one PEM file, too."""
    return _conversion("PKCS#12", f"openssl pkcs12 -nodes {_openssl_paths(path)}")


def private_key_beside(path: str) -> Unusable:
    """Say how to take the certificates alone out of a file."""
    result = shell_word(f"{path}.pem")
    command = f"openssl crl2pkcs7 -nocrl -certfile {shell_word(path)} | openssl pkcs7 -print_certs -out {result}"
    return Unusable("it holds a private key", f"{_REPLACE}: {command}")


# --- the grammar --------------------------------------------------------------------------------


class _Block(NamedTuple):
    """What is between BEGIN and END; `line` is that of BEGIN."""

    label: bytes
    header: bytes
    der: bytes
    line: int


class _Piece(NamedTuple):
    """What OpenSSL reads at once: a line, or a part of a long one; `is_rest` if the line began before."""

    line: int
    text: bytes
    is_rest: bool


class _Part(Enum):
    UNKNOWN = auto()  # header or text: an empty line tells
    HEADER = auto()
    TEXT = auto()


def _pieces(data: bytes) -> Iterator[_Piece]:
    for number, line in enumerate(data.split(b"\n"), 1):
        for start in range(0, len(line) + 1, _LONGEST):
            yield _Piece(number, line[start : start + _LONGEST].rstrip(_BLANK), start > 0)


def _blocks(data: bytes) -> Iterator[_Block | Unusable]:
    """Yield the blocks of a file, and instead of one that OpenSSL cannot read the reason."""
    pieces, is_first = _pieces(data), True
    for piece in pieces:
        begin = _BEGIN.fullmatch(piece.text.removeprefix(_UTF_8_MARK) if is_first else piece.text)
        is_first = begin is not None
        if begin:
            try:
                yield _read_block(begin[1], piece.line, pieces)
            except Unusable as error:
                yield error


def _read_block(label: bytes, begin: int, pieces: Iterator[_Piece]) -> _Block:
    part, empty, is_over = _Part.UNKNOWN, 0, False
    header: list[_Piece] = []
    body: list[_Piece] = []
    for piece in pieces:
        if part is _Part.UNKNOWN and b":" in piece.text:
            part = _Part.HEADER
        if not piece.text:
            if not piece.is_rest and part is _Part.TEXT:
                raise _empty_line(piece.line)
            if not piece.is_rest:
                part, empty = _Part.TEXT, piece.line
            continue
        if piece.text.startswith(b"-----END "):
            _require_end(label, begin, piece)
            break
        if is_over or (part is _Part.TEXT and len(piece.text) > 64):
            raise _empty_line(empty)
        (body if part is _Part.TEXT else header).append(piece)
        is_over = part is _Part.TEXT and len(piece.text) < 64
    else:
        raise Unusable(f"the block that begins in line {begin} is cut off: it has no END line", _COPY_AGAIN)
    if part is _Part.UNKNOWN:
        header, body = [], header
    return _Block(label, b"\n".join(piece.text for piece in header), _decode(begin, body), begin)


def _require_end(label: bytes, begin: int, piece: _Piece) -> None:
    if piece.text == b"-----END %b-----" % label:
        return
    if b"-----BEGIN" in piece.text:
        raise Unusable(f"line {piece.line}: END and BEGIN are on one line", "put a line end between them")
    raise Unusable(f"line {piece.line} is not the END line of the block that begins in line {begin}", _COPY_AGAIN)


def _empty_line(number: int) -> Unusable:
    return Unusable(f"line {number}: an empty line is inside a block", "remove it")


def damaged(begin: int) -> Unusable:
    """Say which block of a file is damaged."""
    return Unusable(f"the block that begins in line {begin} is damaged", _COPY_AGAIN)


def _require_no_header(block: _Block) -> None:
    if block.header and b":" not in block.header:
        raise _empty_line(block.line + block.header.count(b"\n") + 2)
    if block.header:
        raise Unusable(f"line {block.line + 1}: a header is inside the block", "remove the lines that hold a colon")


def _decode(begin: int, body: list[_Piece]) -> bytes:
    """Decode the text of a block, which a dash ends."""
    text = b""
    for piece in body:
        taken, dash, _ = piece.text.partition(b"-")
        odd = _NO_BASE64.search(taken)
        if odd:
            char = taken[odd.start() :].decode(errors="replace")[0]
            raise Unusable(f"line {piece.line}: U+{ord(char):04X} is in the text of a block", "remove that character")
        text += taken.translate(None, b" \t\r")
        if dash:
            break
    if not text or len(text) % 4 or b"=" in text.removesuffix(b"=").removesuffix(b"="):
        raise damaged(begin)
    return base64.b64decode(text)


def _first_value(der: bytes) -> bytes:
    """Return the first value, without what follows it: trust settings in a TRUSTED CERTIFICATE."""
    return der[: _size(der)]


def _is_whole(der: bytes) -> bool:
    """Tell whether a value has all the bytes that it claims."""
    return len(der) >= _size(der)


def _may_follow(der: bytes) -> bool:
    """Tell whether OpenSSL takes this behind the first certificate: nothing, or what `openssl x509 -trustout` adds."""
    if not der:
        return True
    settings = _first_value(der)[_start(der) :]
    tags = b""
    while settings and _is_whole(settings):
        tags += settings[:1]
        settings = settings[_size(settings) :]
    is_whole = _is_whole(der) and not settings
    return is_whole and der[:1] == b"\x30" and re.fullmatch(b"\x30?\xa0?\x0c?\x04?\xa1?", tags) is not None


def _size(der: bytes) -> int:
    """Return the bytes of the first value, with its tag and length."""
    start = _start(der)
    size = int.from_bytes(der[2:start]) if start > 2 else int.from_bytes(der[1:2])
    return start + size


def _start(der: bytes) -> int:
    """Return where the first value begins, behind its tag and length."""
    size = int.from_bytes(der[1:2])
    return 2 + (size & 0x7F if size & 0x80 else 0)


# --- what else a file may be --------------------------------------------------------------------


def _require_text(file: PemFile, part: str, program: str) -> None:
    """Raise Unusable with the conversion for a file in another format."""
    kind, paths = _binary_kind(file.data), _openssl_paths(file.path)
    if file.data.startswith(_UTF_16_MARKS):
        result = shell_word(f"{file.path}.pem")
        raise Unusable(*_conversion("UTF-16", f"iconv -f UTF-16 -t UTF-8 {shell_word(file.path)} >{result}"))
    if kind == "PKCS#12":
        raise Unusable(*_conversion(kind, f"openssl pkcs12 {part} {paths}"))
    if kind == "PKCS#7" and program == "x509":
        raise Unusable(*_conversion(kind, f"openssl pkcs7 -inform DER -print_certs {paths}"))
    if kind:
        raise Unusable(*_conversion(kind, f"openssl {program} -inform DER {paths}"))


def _no_certificate(file: PemFile, wanted: str) -> Unusable:
    given = labels(file.data)
    if given & _REQUESTS:
        return Unusable("it is a certificate request (CSR)", wanted if wanted != _SERVER_FIRST else _ISSUED)
    if b"PKCS7" in given:
        return Unusable(*_conversion("PKCS#7", f"openssl pkcs7 -print_certs {_openssl_paths(file.path)}"))
    if given and not given & _CERTIFICATES and given & _KEYS:
        return Unusable("it is a private key", "swap the two paths, or put the certificate there")
    return _unread(file) or Unusable("it is not a PEM certificate", wanted)


def _no_key(file: PemFile) -> Unusable:
    if labels(file.data) & _CERTIFICATES and not labels(file.data) & _KEYS:
        return Unusable("it is a certificate", "swap the two paths, or put the key there")
    return _unread(file) or Unusable("it is not a PEM private key", "put the certificate's key there")


def _unread(file: PemFile, only: int = 0) -> Unusable | None:
    """Say why nginx skips the first block, or only that of a line; None if it reads it, or if there is none."""
    for number, line in enumerate(file.data.split(b"\n"), 1):
        if only not in (0, number) or b"-----BEGIN" not in line:
            continue
        begin = None if b"\r" in line.strip() else _BEGIN.fullmatch(line.rstrip(_BLANK))
        if begin:
            problem = _unknown_label(file, number, begin[1])
            if problem:
                return problem
            continue
        if line.startswith(b"-----BEGIN"):
            return _line_ends(file) or Unusable(f"line {number}: something is behind the last dash", "remove it")
        if line.lstrip().startswith(b"-----BEGIN"):
            return _rewritten(file, f"line {number}: -----BEGIN is indented", "sed 's/^[[:blank:]]*//'")
        return Unusable(f"line {number}: something is before -----BEGIN on its line", "put BEGIN on its own line")
    return None


def _unknown_label(file: PemFile, number: int, label: bytes) -> Unusable | None:
    """Say what to do about a label that OpenSSL does not read as a certificate or a key; None for any other."""
    if label == b"OPENSSH PRIVATE KEY":
        path, result = shell_word(file.path), shell_word(f"{file.path}.pem")
        return Unusable(
            *_conversion("an OpenSSH key", f"cp {path} {result} && ssh-keygen -p -N '' -m PKCS8 -f {result}")
        )
    for usual in (_PKCS_8, b"CERTIFICATE"):
        if label.upper().endswith(usual) and label not in _CERTIFICATES | _KEYS:
            what = "its label is not in capitals" if label != label.upper() else "its label is unknown to nginx"
            return Unusable(f"line {number}: {what}", f"write {usual.decode()} in its BEGIN and END lines")
    return None


def _line_ends(file: PemFile) -> Unusable | None:
    """Say that the lines end with CR alone; None if they do not."""
    if re.search(rb"-----BEGIN[^\n\r]*\r[^\n\r]*\r", file.data):
        return _rewritten(file, "its lines end with CR alone", "tr '\\r' '\\n' <")
    return None


def _rewritten(file: PemFile, text: str, command: str) -> Unusable:
    path, result = shell_word(file.path), shell_word(f"{file.path}.pem")
    space = "" if command.endswith("<") else " "
    return Unusable(text, f"{_REPLACE}: {command}{space}{path} >{result}")


def _openssl_paths(path: str) -> str:
    return f"-in {shell_word(path)} -out {shell_word(f'{path}.pem')}"


def _conversion(kind: str, command: str) -> Problem:
    return Problem(f"it is {kind}", f"{_REPLACE}: {command}")


def _binary_kind(data: bytes) -> str:
    """Name the format of a file that begins like DER, "" for any other."""
    if data[:1] != b"\x30" or b"-----BEGIN" in data:
        return ""
    if _SIGNED_DATA in data[:40]:
        return "PKCS#7"
    return "PKCS#12" if b"\x02\x01\x03\x30" in data[:10] else "DER"
