"""Writes an image's bill of materials to stdout, as CycloneDX JSON: `python .ci/sbom.py IMAGE`.

The Python packages come from the lock file, with the hashes that pip was held to; the Debian packages from the records
in the image. No time and no random number is in it: the same image gives the same bytes.
"""

from __future__ import annotations

import email
import json
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
RECORDS = "var/lib/dpkg/status.d/"
SCHEMA = SchemaVersion.V1_6


def docker(*words: str, into: IO[bytes] | int = subprocess.PIPE) -> bytes:
    return subprocess.run(["docker", *words], stdout=into, check=True).stdout or b""


def debian_records(image: str) -> Iterator[tuple[str, Message]]:
    """Debian's release, and the record of each of its packages in the image."""
    name = docker("create", image).decode().strip()
    try:
        with tempfile.TemporaryFile() as file:
            docker("export", name, into=file)
            file.seek(0)
            with tarfile.open(fileobj=file) as contents:
                found = {one.name: contents.extractfile(one) for one in contents if one.isfile() and _wanted(one.name)}
                texts = {path: content.read().decode() for path, content in found.items() if content}
    finally:
        docker("rm", name)
    release = dict(line.split("=", 1) for line in texts.pop("etc/os-release").splitlines())["VERSION_ID"].strip('"')
    yield from ((release, email.message_from_string(text)) for _, text in sorted(texts.items()))


def _wanted(path: str) -> bool:
    return path.startswith(RECORDS) or path == "etc/os-release"


def debian_component(release: str, record: Message) -> Component:
    """A package as scanners look Debian's advisories up: by its source package."""
    name, version = record["Package"], record["Version"]
    source = (record["Source"] or name).split()[0]
    qualifiers = {"arch": record["Architecture"], "distro": f"debian-{release}", "upstream": source}
    url = PackageURL("deb", "debian", name, version, qualifiers)
    return Component(name=name, version=version, purl=url, bom_ref=str(url), type=ComponentType.LIBRARY)


def python_components() -> Iterator[Component]:
    """What cyclonedx-py makes of the lock file; the line of the lock file, all hashes again, is no description."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "requirements.txt"]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for component in Bom.from_json(json.loads(made)).components:
        component.description = None
        component.bom_ref.value = str(component.purl)
        yield component


def subject(image: str) -> Component:
    """The image itself; the digests of its layers say which one it is, as builds are reproducible."""
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
    parts = [*python_components(), *(debian_component(*one) for one in debian_records(image))]
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
