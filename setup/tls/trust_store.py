"""The authorities that the API services trust: the public roots, and a private one if there is one."""

from __future__ import annotations

import contextlib
import os

from setup.config.values import Values
from setup.deploy.targets import CA_BUNDLE
from setup.errors import InputError, VolumeError
from setup.formats.yaml_file import Malformed, read_input
from setup.volume.volume import Volume

PUBLIC_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_BEGIN, _PRIVATE = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


def ca_bundle(volume: Volume, values: Values, ours: bytes = b"") -> bytes:
    """What the API services trust where that is more than the public roots; b"" where it is not.

    `ours` is the authority's certificate where one is made here.
    """
    if not (ours or values["TLS_CA_PATH"]):
        return b""
    known = b""
    with contextlib.suppress(VolumeError):  # what stands in its place is named before it is written
        known = volume.read(CA_BUNDLE) or b""
    return trusted(volume, values, known) + ours


def trusted(volume: Volume, values: Values, known: bytes = b"") -> bytes:
    """The public roots followed by the private authority."""
    private = private_authority(volume, values, known)
    return public_roots() + (private + b"\n" if private else b"")


def private_authority(volume: Volume, values: Values, known: bytes = b"") -> bytes:
    """The private authority of TLS_CA_PATH, b"" for none; InputError when that is no readable PEM certificate.

    In a bundle that is `known`, it was looked at closely when that was written.
    """
    path = str(values["TLS_CA_PATH"])
    if not path:
        return b""
    bundle, place = (os.path.realpath(os.path.join(volume.path, one)) for one in (CA_BUNDLE, path))
    if place == bundle and os.path.normpath(path) != CA_BUNDLE:
        raise InputError(
            f"TLS_CA_PATH={path}: it leads to {CA_BUNDLE}, which is written here, and would take in itself with every "
            "run. Put the authority's own certificate into another file and name that, as in "
            "TLS_CA_PATH=./tls/authority.crt"
        )
    try:
        if place == bundle:
            raise Malformed("this file is written here, and would take in itself with every run")
        private = _read(volume, path)
        if _BEGIN not in private or _PRIVATE in private:
            raise Malformed("it is not a PEM certificate, or it holds a private key too")
        if private.strip() not in known:
            _require_whole(private)
    except Malformed as error:
        raise InputError(
            f"TLS_CA_PATH={path}: {error}. Put the certificate below the deployment's directory, "
            "as in TLS_CA_PATH=./tls/ca.crt, or mount it and give the path inside the container"
        ) from None
    return private.strip()


def _require_whole(certificates: bytes) -> None:
    from setup.tls.certificates import all_of  # and with it the library

    try:
        all_of(certificates)
    except ValueError:
        raise Malformed("it holds a certificate that is damaged: copy it again") from None


def _read(volume: Volume, path: str) -> bytes:
    if path.startswith("/"):
        return read_input(path)
    try:
        data = volume.read(path.removeprefix("./"))
    except VolumeError as error:
        raise Malformed(str(error)) from None
    if data is None:
        raise Malformed("there is no such file below the output directory")
    return data


def public_roots() -> bytes:
    """The public authorities in PEM, as this system has them; InputError when it has none."""
    for path in PUBLIC_ROOTS:
        try:
            with open(path, "rb") as file:
                return file.read().strip() + b"\n"
        except OSError:
            continue
    raise InputError("no public roots found on this system: install the package ca-certificates")
