"""A cluster that somebody has: a namespace of our own in it, the base applied there, and a visitor inside.

`KUBECONFIG` says which. Settings of the catalogue in the environment count, so that images, pull secret, storage class
and DNS are those of the cluster; nothing outside the namespace is made or removed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setup.config.settings import SETTINGS
from tests.support import kubernetes
from tests.support.runs import OPERATORS, REQUIRED, ROOT, ran

SIZES = ("KUBERNETES_DATABASE_SIZE", "KUBERNETES_BLOCKS_SIZE", "KUBERNETES_METADATA_SIZE", "KUBERNETES_UPLOADS_SIZE")
PAGE = ROOT / "docs" / "install" / "kubernetes.md"
MINE = "app.kubernetes.io/part-of=avatar"
SECONDS = 900  # images may have to be pulled first

# Runs in the visitor: asks for each path again and again until its input ends, then tells how often each answer came.
_VISITOR = """
import collections, http.client, json, ssl, sys, threading
ended, answers = threading.Event(), collections.Counter()
def ask(path):
    server = http.client.HTTPSConnection("nginx", 443, timeout=20, context=ssl._create_unverified_context())
    try:
        server.request("GET", path, headers={"Host": sys.argv[1]})
        answer = server.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return repr(error), ""
    finally:
        server.close()
def repeat(path):
    while not ended.wait(0.05):
        answers[f"{path} {ask(path)[0]}"] += 1
if sys.argv[2] == "once":
    print(json.dumps(ask(sys.argv[3])))
else:
    threads = [threading.Thread(target=repeat, args=(path,)) for path in sys.argv[3:]]
    [thread.start() for thread in threads]
    sys.stdin.read()
    ended.set()
    [thread.join() for thread in threads]
    print(json.dumps(answers))
"""


class Cluster:
    """A namespace, and the directory that is configured for it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.namespace = directory, f"avatar-proof-{uuid.uuid4().hex[:8]}"
        self.settings = {"TARGET": "kubernetes", "TLS_MODE": "self-signed"} | REQUIRED | OPERATORS
        self.settings |= dict.fromkeys(SIZES, "1Gi")
        self.settings |= {key: os.environ[key] for key in SETTINGS if os.environ.get(key)}
        self.settings["KUBERNETES_NAMESPACE"] = self.namespace

    def kubectl(self, *arguments: str | Path, input: str | None = None, seconds: int = SECONDS) -> str:
        """What `kubectl ARGUMENTS` prints; a failure shows what it said."""
        done = subprocess.run(
            self._command(*arguments), input=input, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
        assert not done.returncode, f"kubectl {' '.join(map(str, arguments))[:300]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _command(self, *arguments: str | Path) -> list[str]:
        return [kubernetes.kubectl(), "-n", self.namespace, *map(str, arguments)]

    def configure(self, *flags: str, **settings: str) -> None:
        self.settings |= settings
        ran(self.directory, *flags, settings=self.settings)

    def apply(self) -> None:
        self.kubectl("apply", "-k", self.directory)

    def prune(self) -> str:
        """Removes what is no longer used, as the page on Kubernetes says."""
        (command,) = re.findall(r"kubectl (apply -k \. --prune .*?)\n```", PAGE.read_text(), re.DOTALL)
        words = shlex.split(command.replace("\\\n", " "))
        return self.kubectl(*(str(self.directory) if word == "." else word for word in words))

    def type(self, script: str, backup: Path) -> None:
        """Types a block of the page, for this namespace and directory, and another place for the backup."""
        places = {"/app/avatar": self.directory, "/srv/backup": backup, "-n avatar": f"-n {self.namespace}"}
        for written, meant in places.items():
            script = script.replace(written, str(meant))
        path = f"{Path(kubernetes.kubectl()).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert not done.returncode, f"{done.stdout}\n{done.stderr}"

    def wait(self) -> None:
        """Waits until every Job is complete and every pod is ready."""
        limit = f"--timeout={SECONDS}s"
        try:
            self.kubectl("wait", "--for=condition=complete", limit, "job", "-l", MINE)
            for kind in ("statefulset", "deployment"):
                self.kubectl("rollout", "status", kind, "-l", MINE, limit)
        except AssertionError as error:
            error.add_note(self.kubectl("get", "pods"))
            error.add_note(self.kubectl("get", "events", "--sort-by=.lastTimestamp"))
            raise

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        chosen = ("-l", f"{MINE},{selector}" if selector else MINE)
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *chosen, "-o", "json"))["items"]
        return found

    def generations(self) -> dict[str, int]:
        """Which specification each workload has, by number: one that changes makes a new one."""
        found = self.objects("deployments,statefulsets,jobs")
        return {kubernetes.label(entry): entry["metadata"]["generation"] for entry in found}

    def pods(self, service: str) -> set[str]:
        """The pods of a service, those that still end included."""
        return {pod["metadata"]["uid"] for pod in self.objects("pods", f"app.kubernetes.io/name={service}")}

    def invite_visitor(self) -> None:
        """Starts a pod in the namespace that can ask nginx, with the API's image: that is there, and has Python."""
        (api,) = self.objects("deployment", "app.kubernetes.io/name=api")
        template = api["spec"]["template"]["spec"]
        image = template["containers"][0]["image"]
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "visitor"}}
        spec = {key: template[key] for key in ("imagePullSecrets", "nodeSelector", "tolerations") if key in template}
        spec |= {"containers": [{"name": "visitor", "image": image, "command": ["sleep", "86400"]}]}
        spec |= {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
        self.kubectl("apply", "-f", "-", input=json.dumps(about | {"spec": spec}))
        self.kubectl("wait", "--for=condition=ready", f"--timeout={SECONDS}s", "pod/visitor")

    def ask(self, path: str) -> tuple[int | str, str]:
        """The status and the body that nginx answers inside of the cluster."""
        status, body = json.loads(self.kubectl(*self._visit("once", path)))
        return status, body

    def _visit(self, *arguments: str) -> list[str]:
        return ["exec", "-i", "visitor", "--", "python3", "-c", _VISITOR, self.settings["PUBLIC_URL"], *arguments]

    @contextmanager
    def load(self, *paths: str) -> Iterator[dict[str, int]]:
        """Asks for paths again and again while the block runs; then path and answer -> how often it came."""
        answers: dict[str, int] = {}
        command = self._command(*self._visit("repeat", *paths))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitor:
            try:
                yield answers
            finally:
                output, _ = visitor.communicate(timeout=60)
            assert not visitor.returncode
            answers.update(json.loads(output))


@contextmanager
def namespace(directory: Path) -> Iterator[Cluster]:
    """A namespace, removed with all it has at the end; the volumes of its claims are the storage class's to remove."""
    directory.mkdir(exist_ok=True)
    cluster = Cluster(directory)
    cluster.kubectl("create", "namespace", cluster.namespace)
    try:
        # What the page promises: no pod needs more than this level of Pod Security.
        cluster.kubectl("label", "namespace", cluster.namespace, "pod-security.kubernetes.io/enforce=baseline")
        _copy_pull_secret(cluster)
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


def _copy_pull_secret(cluster: Cluster) -> None:
    """Copies the account of the registry from the namespace `default`, if one is named."""
    if name := cluster.settings.get("KUBERNETES_IMAGE_PULL_SECRET"):
        secret: Mapping[str, Any] = json.loads(cluster.kubectl("get", "secret", name, "-o", "json", "-n", "default"))
        copy = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        copy |= {"type": secret["type"], "data": secret["data"]}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(copy))
