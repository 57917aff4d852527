"""Writes an image's bill of materials to stdout, as CycloneDX JSON: `python .ci/sbom.py IMAGE`.

The Python packages come from the lock file, with the hashes that pip was held to and what they say is built into them;
the Debian packages from the records in the image. No time or random number is in it: the same image, the same bytes.
"""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parent.parent
DEBIAN, RELEASE = "var/lib/dpkg/status.d/", "etc/os-release"
EMBEDDED = r"opt/avatar-setup/lib/([^/]+)-[^-/]+\.dist-info/sboms/.*\.json"
SCHEMA = SchemaVersion.V1_6


def docker(*words: str, into: IO[bytes] | int = subprocess.PIPE) -> bytes:
    return subprocess.run(["docker", *words], stdout=into, check=True).stdout or b""


def records(image: str) -> dict[str, str]:
    """Path -> text of all that says in an image what is in it."""
    name = docker("create", image).decode().strip()
    try:
        with tempfile.TemporaryFile() as file:
            docker("export", name, into=file)
            file.seek(0)
            with tarfile.open(fileobj=file) as contents:
                found = {one.name: contents.extractfile(one) for one in contents if one.isfile() and _tells(one.name)}
                return {path: content.read().decode() for path, content in sorted(found.items()) if content}
    finally:
        docker("rm", name)


def _tells(path: str) -> bool:
    return path.startswith(DEBIAN) or path == RELEASE or bool(re.fullmatch(EMBEDDED, path))


def debian_components(told: dict[str, str]) -> Iterator[Component]:
    """Debian's packages."""
    release = dict(line.split("=", 1) for line in told[RELEASE].splitlines())["VERSION_ID"].strip('"')
    for path, text in told.items():
        if path.startswith(DEBIAN):
            yield debian_component(release, email.message_from_string(text))


def debian_component(release: str, record: Message) -> Component:
    """Return a package by its source package, as scanners search Debian's advisories."""
    name, version = record["Package"], record["Version"]
    source = (record["Source"] or name).split()[0]
    qualifiers = {"arch": record["Architecture"], "distro": f"debian-{release}", "upstream": source}
    url = PackageURL("deb", "debian", name, version, qualifiers)
    return Component(name=name, version=version, purl=url, bom_ref=str(url), type=ComponentType.LIBRARY)


def python_components(told: dict[str, str]) -> Iterator[Component]:
    """Return the components of the lock file, without its lines as descriptions: they only repeat the hashes."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "requirements.txt"]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for component in Bom.from_json(json.loads(made)).components:
        component.description = None
        component.bom_ref.value = str(component.purl)
        component.components = embedded(component, told)
        yield component


def embedded(component: Component, told: dict[str, str]) -> list[Component]:
    """Return what was built into a package's libraries, such as OpenSSL, from the package's own bills (PEP 770)."""
    parts = []
    for path, text in told.items():
        of = re.fullmatch(EMBEDDED, path)
        if of and re.sub(r"[-_.]+", "-", of[1]).lower() == component.name:
            parts += Bom.from_json(json.loads(text)).components
    return [
        Component(
            name=part.name, version=part.version, purl=part.purl, type=part.type, hashes=part.hashes,
            bom_ref=f"{component.purl}#{part.name}@{part.version}",
        )
        for part in parts
    ]  # fmt: skip


def subject(image: str) -> Component:
    """Return the image itself; the digests of its layers identify it, because builds are reproducible."""
    found = json.loads(docker("image", "inspect", image))[0]
    labels = found["Config"]["Labels"]
    title, version = labels["org.opencontainers.image.title"], labels["org.opencontainers.image.version"]
    layers = [
        Property(name=f"avatar-setup:layer:{number}", value=digest)
        for number, digest in enumerate(found["RootFS"]["Layers"])
    ]
    return Component(
        name=title, version=version, type=ComponentType.CONTAINER, bom_ref=f"{title}@{version}",
        description=labels["org.opencontainers.image.description"], properties=layers,
    )  # fmt: skip


def main(image: str) -> int:
    told = records(image)
    parts = [*python_components(told), *debian_components(told)]
    bom = Bom(components=parts)
    bom.metadata.component = subject(image)
    bom.register_dependency(bom.metadata.component, parts)
    document = json.loads(make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    text = json.dumps(document, indent=2, sort_keys=True)
    invalid = JsonStrictValidator(SCHEMA).validate_str(text)
    if invalid:
        sys.exit(f"this is no valid CycloneDX document: {invalid}")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
