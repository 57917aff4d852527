"""TARGET: one set of answers gives the files of each engine, and every command follows it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from setup.config.engines import ENGINES
from setup.volume.layout import BLUEPRINT, CA_BUNDLE, CERTIFICATE, COMPOSE, MAIN_FILES
from tests.support import foreign_trees, pki
from tests.support.documents import read_yaml
from tests.support.runs import (
    LAST_GOOD,
    OPERATORS,
    REQUIRED,
    ROOT,
    STATE,
    deployed,
    env_file,
    present,
    ran,
    run,
    secrets,
    tree,
)

SETTINGS = {**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"}
OTHERS = ("kubernetes", "swarm")
MOVES = "data does not move"
API = {"swarm": "AVATAR_API_VERSION=3.22.0", "compose": "AVATAR_API_VERSION"}


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=SETTINGS)


def start_of(engine: str) -> list[str]:
    """Return what starts a deployment, as root types it on the host."""
    return [text.format(sudo="sudo ") for text in ENGINES[engine].start]


def last_lines(text: str, number: int) -> list[str]:
    return [line.strip() for line in text.rstrip("\n").split("\n")[-number:]]


def files(out: Path) -> dict[str, tuple[str, bytes]]:
    """Return the files of a deployment, without what avatar-setup remembers, and without folders."""
    of_deployment = {path: each for path, each in present(out).items() if not path.startswith(".deployment-")}
    return {path: each for path, each in of_deployment.items() if (out / path).is_file()}


def main_files(out: Path) -> set[str]:
    return {path for path in MAIN_FILES if (out / path).exists()}


@pytest.mark.parametrize("engine", ("compose", *OTHERS))
def test_a_first_run_writes_the_files_of_one_engine_and_says_how_to_start_it(empty: Path, engine: str) -> None:
    done = ran(empty, settings={**SETTINGS, "TARGET": engine})
    assert main_files(empty) == {ENGINES[engine].main}
    assert set(ENGINES[engine].files) <= set(tree(empty))
    start = start_of(engine)
    assert last_lines(done.stdout, len(start)) == start


OLDER = {
    "compose": ("docker volume ls -q --filter name=avatar_postgres_data\n", "this host"),
    "swarm": (
        "docker volume ls -q --filter name=avatar_postgres_data    # on the node of avatar.database\n",
        "that node",
    ),
    "kubernetes": ("kubectl -n avatar get pvc --ignore-not-found -o name postgres-data-db-0\n", "the namespace"),
}


@pytest.mark.parametrize("engine", OLDER)
def test_a_first_run_says_where_an_older_database_would_be(empty: Path, engine: str) -> None:
    done = ran(empty, settings={**SETTINGS, "TARGET": engine}).stdout
    command, place = OLDER[engine]
    assert command in done
    assert f"a name means that {place} already has a database" in done


@pytest.mark.parametrize("engine", OTHERS)
def test_a_change_keeps_every_secret_and_answer_and_warns_that_data_does_not_move(out: Path, engine: str) -> None:
    kept, env, compose = secrets(out), env_file(out), (out / COMPOSE).read_bytes()
    done = ran(out, "--set", f"TARGET={engine}", settings={})
    assert secrets(out) == kept
    assert env_file(out) == env
    assert (out / COMPOSE).read_bytes() == compose
    assert done.stderr.count(MOVES) == 1
    assert f"TARGET={engine}" in done.stderr
    again = ran(out, settings={})
    assert "Nothing to do" in again.stdout
    assert MOVES not in again.stderr
    first = {
        "kubernetes": "kubectl create namespace avatar",
        "swarm": "docker node update --label-add avatar.database=true",
    }
    assert first[engine] in done.stdout
    assert first[engine] not in ran(out, "--set", "LOG_LEVEL=DEBUG", settings={}).stdout


def test_another_release_of_the_api_changes_the_database_of_a_cluster_before_its_pods_start(out: Path) -> None:
    ran(out, "--set", "TARGET=kubernetes", settings={})
    page = (ROOT / "docs/install/kubernetes.md").read_text()
    steps = page.partition("A new release of the API changes the database.")[2].split("```")[1]
    expected = steps.removeprefix("sh").strip().split("\n")
    done = ran(out, "--set", "AVATAR_API_VERSION=3.21.0", settings={})
    assert last_lines(done.stdout, len(expected)) == expected
    for again in (("--set", "AVATAR_WEB_VERSION=0.69.0"), ()):
        assert expected[0] not in ran(out, *again, settings={}).stdout
    for engine in ("swarm", "compose"):  # their own order waits for the one-shot
        done = ran(out, "--set", f"TARGET={engine}", settings={})
        done = ran(out, "--unset" if engine == "compose" else "--set", API[engine], settings={})
        assert last_lines(done.stdout, len(start_of(engine))) == start_of(engine)
        assert "init-db" not in done.stdout


def test_another_namespace_is_prepared_again_and_gets_no_data(out: Path) -> None:
    ran(out, "--set", "TARGET=kubernetes", settings={})
    done = ran(out, "--set", "KUBERNETES_NAMESPACE=other", settings={})
    assert f"KUBERNETES_NAMESPACE=other: {MOVES}" in done.stderr
    assert "kubectl create namespace other" in done.stdout
    assert MOVES not in ran(out, settings={}).stderr


@pytest.mark.parametrize("engine", OTHERS)
def test_a_change_back_continues_with_the_files_of_before(out: Path, engine: str) -> None:
    before = (out / COMPOSE).read_bytes()
    ran(out, "--set", f"TARGET={engine}", settings={})
    ran(out, "--set", "REPLICAS_API=3", settings={})
    done = ran(out, "--set", "TARGET=compose", settings={})
    assert MOVES in done.stderr
    assert (out / COMPOSE).read_bytes() != before  # not kept as if it were somebody's
    assert "Ready" in ran(out, "--check", settings={}).stdout
    assert ran(out, "--diff", settings={}).stdout.startswith("Nothing to do")


@pytest.mark.parametrize("engine", OTHERS)
def test_an_edit_of_a_file_of_another_engine_is_not_overwritten_on_the_way_back(out: Path, engine: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    edited = (out / COMPOSE).read_bytes() + b"# mine\n"
    (out / COMPOSE).write_bytes(edited)
    done = run(out, "--set", "TARGET=compose", settings={})
    assert done.returncode == 4
    assert COMPOSE in done.stderr
    assert (out / COMPOSE).read_bytes() == edited


@pytest.mark.parametrize("engine", OTHERS)
def test_a_preview_shows_no_secret(out: Path, engine: str) -> None:
    done = ran(out, "--diff", "--set", f"TARGET={engine}", settings={}, code=3)
    assert ENGINES[engine].main in done.stdout
    long = {name: text for name, text in secrets(out).items() if len(text) > 15}
    assert len(long) > 10
    assert [name for name, text in long.items() if text in done.stdout] == []


@pytest.mark.parametrize("engine", OTHERS)
def test_a_check_reads_the_files_of_the_engine(out: Path, engine: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    ready = ran(out, "--check", settings={}).stdout
    start = start_of(engine)
    assert ENGINES[engine].main in ready
    assert last_lines(ready, len(start)) == start
    shutil.rmtree(out / "authentik" / "branding")
    broken = ran(out, "--check", "--json", settings={}, code=3).stdout
    missing = [row for row in json.loads(broken)["findings"] if row["name"] == "mount-missing"]
    assert [row["text"].partition(" ")[0] for row in missing] == [
        path for path in ENGINES[engine].files if path == ENGINES[engine].main
    ]


EDITS = [("swarm", "nginx/nginx.conf"), ("swarm", BLUEPRINT), ("kubernetes", BLUEPRINT)]


@pytest.mark.parametrize("engine, path", EDITS)
def test_an_edited_file_gets_a_new_name_because_the_engine_takes_no_other_content(
    out: Path, engine: str, path: str
) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    before, text = files(out), (out / path).read_bytes()
    (out / path).write_bytes(text + b"\n# mine\n")
    shown = ran(out, "--diff", settings={}, code=3).stdout
    said = ran(out, settings={}).stdout
    edited = files(out)
    named = {name for name, entry in edited.items() if entry != before.get(name)} - {path}
    follows = ", ".join(sorted(named)) + (" follow" if len(named) > 1 else " follows")
    assert f"Because {follows} from files that were edited by hand" in shown
    assert f"Changed: {follows} from files that were edited by hand" in said
    assert named and named <= {"stack.yml", "stack.jobs.yml", "kubernetes/jobs.yaml"}
    assert all(f"{name} (changes)" in shown for name in named)
    assert "Nothing to do" in ran(out, "--diff", settings={}).stdout
    assert "Nothing to do" in ran(out, settings={}).stdout
    (out / path).write_bytes(text + b"\n# mine again\n")
    ran(out, settings={})
    assert all(files(out)[name] not in (before[name], edited[name]) for name in named)
    (out / path).write_bytes(text)
    ran(out, settings={})
    assert {name: files(out)[name] for name in before} == before


@pytest.mark.parametrize("engine, path", [*EDITS, ("compose", BLUEPRINT)])
def test_the_new_text_of_a_kept_file_needs_a_run_where_its_content_has_a_name(
    out: Path, engine: str, path: str
) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    with (out / path).open("a") as file:
        file.write("# mine\n")
    change = ("--set", "PUBLIC_URL=other.example.com", "--on-conflict", "keep")
    shown = ran(out, "--diff", *change, settings={}, code=4).stderr
    done = ran(out, *change, settings={}, code=4).stderr
    for told in (shown, done):
        assert ("run avatar-setup again" in told) == (engine != "compose")
    (out / f"{path}.new").replace(out / path)
    assert ("Nothing to do" in ran(out, settings={}).stdout) == (engine == "compose")


@pytest.mark.parametrize("word, is_kept", [("keep", True), ("replace", False)])
def test_a_stack_names_what_is_there_after_a_conflict(out: Path, word: str, is_kept: bool) -> None:
    def name() -> str:
        configs = read_yaml((out / "stack.yml").read_text())["services"]["nginx"]["configs"]
        return next(each["source"] for each in configs if each["target"] == "/etc/nginx/nginx.conf")

    ran(out, "--set", "TARGET=swarm", settings={})
    with (out / "nginx/nginx.conf").open("a") as file:
        file.write("# mine\n")
    ran(out, settings={})
    edited = name()
    change = ("--set", "PUBLIC_URL=other.example.com", "--on-conflict", word)
    ran(out, *change, settings={}, code=4 if is_kept else 0)
    assert (name() == edited) == is_kept
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_a_stack_names_a_bundle_of_somebody_else_that_stays(out: Path) -> None:
    ran(out, "--set", "TARGET=swarm", "--set", "TLS_MODE=provided", settings={})
    (out / CA_BUNDLE).write_text("# mine\n")
    ran(out, "--set", "TLS_MODE=self-signed", "--on-conflict", "keep", settings={}, code=4)
    assert "Nothing to do" in ran(out, settings={}).stdout


@pytest.mark.parametrize(
    ("target", "path", "is_named"),
    [
        ("compose", "nginx/nginx.conf", False),
        ("swarm", "nginx/nginx.conf", True),
        ("swarm", "stack.yml", False),
        ("kubernetes", "kubernetes/nginx.conf", False),
        ("kubernetes", "kubernetes/network.yaml", False),
        ("kubernetes", "authentik/octopize-avatar-blueprint.yaml", True),
    ],
)
def test_a_check_asks_for_a_run_as_long_as_an_edited_file_has_no_name(
    out: Path, target: str, path: str, is_named: bool
) -> None:
    def advice() -> str | None:
        checked = json.loads(ran(out, "--check", "--json", settings={}).stdout)["findings"]
        return next((row["todo"] for row in checked if row["name"] == "file-edited"), None)

    if target != "compose":
        ran(out, "--set", f"TARGET={target}", settings={})
    original = (out / path).read_bytes()
    (out / path).write_bytes(original + b"# mine\n")
    told = advice()
    assert told and ("run avatar-setup" in told) == is_named
    assert ("Nothing to do" in ran(out, settings={}).stdout) != is_named
    told = advice()
    assert told and "run avatar-setup" not in told
    (out / path).write_bytes(original)
    assert advice() == ("run avatar-setup, then deploy" if is_named else None)
    assert ("Nothing to do" in ran(out, settings={}).stdout) != is_named
    assert advice() is None


@pytest.mark.parametrize(
    ("engine", "secret", "names"),
    [
        ("swarm", "db_admin_password", ["stack.state.yml", "stack.jobs.yml"]),
        ("swarm", "db_password", ["stack.jobs.yml", "stack.yml"]),
        ("kubernetes", "db_password", ["kubernetes/jobs.yaml"]),
        ("kubernetes", "seaweedfs_admin_password", []),  # kustomize alone follows its content
    ],
)
def test_the_reason_names_the_files_that_follow_from_a_secret(
    out: Path, engine: str, secret: str, names: list[str]
) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    (out / ".secrets" / secret).write_text("changed by hand")
    shown = json.loads(ran(out, "--diff", "--json", settings={}, code=3).stdout)
    assert [row["path"] for row in shown["files"]] == names
    follows = f"{', '.join(names)} {'follow' if names[1:] else 'follows'} from the secrets that services mount"
    assert shown["reasons"] == [follows if names else "the secrets that services mount changed"]
    assert f"Changed: {shown['reasons'][0]}\n" in ran(out, settings={}).stdout


@pytest.mark.parametrize("engine", OTHERS)
def test_a_rotation_says_how_to_apply_it(out: Path, engine: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    before = files(out)
    done = ran(out, "--rotate", "sso", "--yes", settings={})
    printed = [line.strip() for line in done.stdout.split("\n")]
    assert all(line in printed for line in start_of(engine))
    assert "docker compose" not in done.stdout
    changed = {path for path, entry in files(out).items() if entry != before[path]}
    assert changed & {path for path in before if path.startswith(("stack.", "kubernetes/"))}
    assert COMPOSE not in changed
    database = ran(out, "--rotate", "db_password", "--yes", settings={}).stdout
    inside = ENGINES[engine].inside.format(sudo="sudo ", service="db", namespace="avatar")
    assert f"sudo cat .secrets/db_password | {inside}sh -c " in database


@pytest.mark.parametrize("group", ["database", "storage"])
def test_a_command_inside_a_container_of_a_swarm_says_how_to_type_it_for_another_node(out: Path, group: str) -> None:
    ran(out, "--set", "TARGET=swarm", settings={})
    printed = ran(out, "--rotate", group, "--yes", settings={}).stdout.split("\n")
    (inside,) = {
        number
        for number, line in enumerate(printed)
        if "docker exec" in line and "docker exec" not in printed[number - 1]
    }
    service = {"database": "avatar_db", "storage": "avatar_master"}[group]
    assert printed[inside - 1] == (
        f"# if docker service ps {service} names another node, type docker -H ssh://NODE in place of docker"
    )


@pytest.mark.parametrize("engine", OTHERS)
def test_a_restore_brings_back_the_engine_of_that_time(out: Path, engine: str) -> None:
    before = files(out)
    ran(out, "--set", f"TARGET={engine}", settings={})
    (newest, *_) = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    done = ran(out, "--restore", newest["id"], "--yes", settings={})
    assert files(out) == before
    assert last_lines(done.stdout, 1) == start_of("compose")
    (newest, *_) = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    undo = ran(out, "--restore", newest["id"], "--yes", settings={})
    assert last_lines(undo.stdout, len(start_of(engine))) == start_of(engine)
    assert ENGINES[engine].main in main_files(out)


@pytest.mark.parametrize("engine, path", EDITS)
def test_a_restore_of_an_edit_that_no_run_had_seen_asks_for_one(out: Path, engine: str, path: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    named = out / ("kubernetes/jobs.yaml" if engine == "kubernetes" else "stack.yml")
    before = named.read_bytes()
    with (out / path).open("a") as file:
        file.write("# mine\n")
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (newest, *_) = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    for _ in range(2):  # the second finds nothing to restore, and says it again
        done = ran(out, "--restore", newest["id"], "--yes", settings={}).stdout
        assert "it gives each edited file its name for the engine" in done
        assert last_lines(done, len(start_of(engine))) == start_of(engine)
    assert named.read_bytes() == before
    ran(out, settings={})
    assert named.read_bytes() != before
    ran(out, "--set", "LOG_LEVEL=ERROR", settings={})
    (newest, *_) = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    assert "its name for the engine" not in ran(out, "--restore", newest["id"], "--yes", settings={}).stdout


@pytest.mark.parametrize("engine", OTHERS)
def test_a_restore_of_another_engine_never_recreates_containers_of_compose(out: Path, engine: str) -> None:
    """The compose file of before lies beside the others, and its labels have not changed with nginx's configuration."""
    ran(out, "--set", f"TARGET={engine}", "--set", "TLS_EXTRA_NAMES=more.example.com", settings={})
    for _ in range(2):
        (newest, *_) = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
        done = ran(out, "--restore", newest["id"], "--yes", settings={})
    assert last_lines(done.stdout, len(start_of(engine))) == start_of(engine)
    assert "docker compose" not in ran(out, "--restore", newest["id"], "--yes", settings={}).stdout


@pytest.mark.parametrize("engine", OTHERS)
def test_a_deployment_of_another_engine_without_state_and_secrets_is_refused(out: Path, engine: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    (out / COMPOSE).unlink()
    for path in out.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run(out, settings={**SETTINGS, "TARGET": engine})
    assert done.returncode == 1
    assert f"{ENGINES[engine].main}: avatar-setup wrote it" in done.stderr
    assert not (out / STATE).exists()


@pytest.mark.parametrize("engine", OTHERS)
def test_a_deployment_without_state_does_not_fall_back_to_compose(empty: Path, engine: str) -> None:
    ran(empty, settings={**SETTINGS, "TARGET": engine})
    for path in empty.glob(".deployment-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = present(empty)
    done = run(empty, settings=SETTINGS)
    assert done.returncode == 1
    (command,) = re.findall(f"--adopt {empty}$", done.stderr, re.MULTILINE)
    assert f"{ENGINES[engine].main}: avatar-setup wrote it for TARGET={engine}" in done.stderr
    assert present(empty) == before
    ran(empty, *command.split(), "--dry-run", settings={}, code=3)
    for target in (engine, "compose"):
        ran(empty, "--diff", settings={**SETTINGS, "TARGET": target}, code=3)
    assert main_files(empty) == {ENGINES[engine].main}


@pytest.mark.parametrize("engine", OTHERS)
def test_the_preflight_is_of_compose_alone(out: Path, engine: str) -> None:
    done = ran(out, "--set", f"TARGET={engine}", "--set", "PREFLIGHT_IMAGE=avatar-setup", settings={})
    assert "PREFLIGHT_IMAGE is given, but not used: it applies only with TARGET=compose" in done.stderr
    assert "avatar-setup\n" not in ran(out, "--images", settings={}).stdout


def test_the_images_are_loaded_by_what_runs_them(out: Path) -> None:
    loads = {"compose": "docker load -i", "swarm": "docker load -i", "kubernetes": "ctr -n k8s.io images import"}
    for engine, start in loads.items():
        lines = ran(out, "--images", "--set", f"TARGET={engine}", settings={}).stdout.split("\n")
        (line,) = [line for line in lines if line.startswith(f"  {start}")]
        assert ("on every node" in line) == (engine != "compose")


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("lost", [(), (STATE, LAST_GOOD)], ids=["whole", "without-state"])
def test_adopting_a_deployment_of_ours_keeps_its_engine(
    out: Path, empty: Path, engine: str, lost: tuple[str, ...]
) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    for path in (COMPOSE, *lost):
        (out / path).unlink()
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert main_files(empty) == {ENGINES[engine].main}
    assert secrets(empty) == secrets(out)
    assert "Other files" not in done.stdout


def lose_state(out: Path) -> None:
    for path in (STATE, LAST_GOOD):
        (out / path).unlink()


PLACES = {
    "kubernetes": {"KUBERNETES_NAMESPACE": "n"},
    "swarm": {
        "SEAWEEDFS_METADATA_VOLUME": "my_metadata",
        "AUTHENTIK_VOLUME": "my_uploads",
        "NGINX_PUBLISHED_PORT": "8443",
    },
}


@pytest.mark.parametrize("engine", OTHERS)
def test_adopting_without_a_state_goes_on_with_the_same_data_and_certificate(
    empty: Path, tmp_path: Path, engine: str
) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, **PLACES[engine], "TARGET": engine})
    lose_state(out)
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert "Missing" not in done.stdout
    assert "overrid" not in done.stdout
    answers = ran(empty, "--export", "-", settings={}).stdout
    assert [key for key, text in PLACES[engine].items() if f'\n{key}: "{text}"\n' not in answers] == []
    assert (empty / CERTIFICATE).read_bytes() == (out / CERTIFICATE).read_bytes()


SIZES = {
    "REPLICAS_API": "3",
    "REPLICAS_WEB": "2",
    "REPLICAS_DASK_WORKER": "4",
    "MEMORY_API": "4g",
    "MEMORY_WEB": "512m",
    "MEMORY_DASK_WORKER": "8g",
    "CPUS_API": "2",
    "CPUS_WEB": "0.5",
    "CPUS_DASK_WORKER": "1.25",
}
CLUSTER = {
    "TLS_MODE": "behind-proxy",
    "KUBERNETES_EXPOSURE": "Ingress",
    "KUBERNETES_INGRESS_CLASS": "traefik",
    "KUBERNETES_INGRESS_TLS_SECRET": "public",
    "KUBERNETES_STORAGE_CLASS": "fast",
    "KUBERNETES_DATABASE_SIZE": "21Gi",
    "KUBERNETES_BLOCKS_SIZE": "2Ti",
    "KUBERNETES_METADATA_SIZE": "11Gi",
    "KUBERNETES_UPLOADS_SIZE": "900Mi",
    "KUBERNETES_IMAGE_PULL_SECRET": "mine",
    "KUBERNETES_CLUSTER_DOMAIN": "cluster.example",
    "KUBERNETES_DNS_ADDRESS": "10.96.0.11",
    "KUBERNETES_NGINX_ADDRESS": "10.96.0.80",
}
KNOWN = {
    "compose": SIZES,
    "swarm": SIZES | {"TARGET": "swarm", "SWARM_ENCRYPTED": "true", "SWARM_PORT_MODE": "ingress"},
    "ingress": SIZES | CLUSTER | {"TARGET": "kubernetes", "KUBERNETES_NAMESPACE": "n"},
    "node-port": {
        "TARGET": "kubernetes",
        "KUBERNETES_EXPOSURE": "NodePort",
        "NGINX_PUBLISHED_PORT": "30443",
        "KUBERNETES_DNS_ADDRESS": "fd00::a",
    },
}


@pytest.mark.parametrize("engine", KNOWN)
def test_adopting_without_a_state_keeps_what_only_the_files_of_the_engine_say(
    empty: Path, tmp_path: Path, engine: str
) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed", **KNOWN[engine]})
    before = exported(out)
    lose_state(out)
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    after = exported(empty)
    assert {key: before[key] for key in KNOWN[engine]} == KNOWN[engine]
    unknown = {"TLS_MODE"} if engine != "ingress" else set()  # who made a certificate is nowhere else
    assert {key for key in before if before[key] != after.get(key)} <= unknown, done.stdout
    assert set(after) <= set(before)
    assert ("add --set TLS_MODE=self-signed" in done.stdout) == bool(unknown)


GIVEN_MODES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "flag": (("--set", "TLS_MODE=self-signed"), {}),
    "environment": ((), {"TLS_MODE": "provided"}),
    "configuration file": (("--config", "{config}"), {}),
    "another certificate": ((), {}),
}


@pytest.mark.parametrize("given", GIVEN_MODES)
@pytest.mark.parametrize("engine", ["compose", "kubernetes"])
def test_an_adoption_does_not_ask_who_made_a_certificate_if_that_is_known(
    empty: Path, tmp_path: Path, engine: str, given: str
) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, "TARGET": engine})
    lose_state(out)
    config = tmp_path / "config.yaml"
    config.write_text("TLS_MODE: self-signed\n")
    flags, settings = GIVEN_MODES[given]
    if given == "another certificate":
        other = pki.issue(pki.HOST, names=(pki.HOST,))
        (out / CERTIFICATE).write_bytes(other.pem)
        (out / "tls/private/server.decrypted.key").write_bytes(other.private())
    flags = tuple(flag.format(config=config) for flag in flags)
    done = ran(empty, "--adopt", str(out), "--yes", *flags, settings=settings)
    assert "What changes" in done.stdout
    assert "made the certificate in use" not in done.stdout


def test_an_adoption_reads_a_cluster_in_its_own_units(empty: Path, tmp_path: Path) -> None:
    """As a cluster shows its objects: decimal units where somebody wrote them, and a node port that it chose."""
    settings = {**SETTINGS, "TARGET": "kubernetes", "MEMORY_API": "2g", "MEMORY_WEB": "1g"}
    out = deployed(tmp_path / "out", settings=settings)
    lose_state(out)
    workloads, network, nginx = (out / "kubernetes" / name for name in ("workloads.yaml", "network.yaml", "nginx.conf"))
    workloads.write_text(workloads.read_text().replace('"2Gi"', '"2G"'))
    text = network.read_text()
    assert "targetPort: 443\n" in text
    network.write_text(text.replace("targetPort: 443\n", "targetPort: 443\n    nodePort: 31000\n"))
    nginx.write_text(f"# from api.avatar.svc.other.example\n{nginx.read_text()}")
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert "MEMORY_API: kubernetes/workloads.yaml has 2G, which it does not take" in " ".join(done.stdout.split())
    after = exported(empty)
    assert after.get("MEMORY_API", "") == ""
    assert after["MEMORY_WEB"] == "1g"
    assert "NGINX_PUBLISHED_PORT" not in after
    assert after.get("KUBERNETES_CLUSTER_DOMAIN", "cluster.local") == "cluster.local"


@pytest.mark.parametrize("damage", ["other line ends", "a comment", "damaged", "missing", "another name"])
def test_an_adoption_never_exposes_a_cluster_in_another_way_without_a_word(
    empty: Path, tmp_path: Path, damage: str
) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, **KNOWN["node-port"]})
    lose_state(out)
    network = out / "kubernetes/network.yaml"
    data = network.read_bytes()
    changed = {
        "other line ends": data.replace(b"\n", b"\r\n"),
        "a comment": data.replace(b"\n---\n", b"\n--- # next\n"),
    }
    other = {"another name": data.replace(b"name: nginx\n", b"name: front\n")}
    network.write_bytes((changed | other).get(damage, b"a: [\n"))
    if damage == "missing":
        network.unlink()
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    is_read = damage in changed
    assert (exported(empty).get("KUBERNETES_EXPOSURE") == "NodePort") == is_read
    reason = {"damaged": "cannot be read (line 2", "missing": "is missing", "another name": "has no Service nginx"}
    assert is_read or f"kubernetes/network.yaml {reason[damage]}" in done.stdout
    assert ("KUBERNETES_EXPOSURE and its other settings get their defaults" in done.stdout) == (not is_read)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("  nginx:", "  front:", "has no service nginx, so SWARM_PORT_MODE, NGINX_PUBLISHED_PORT and its other"),
        ("  api:", "  front:", "has no service api, so REPLICAS_API and its other"),
        ("services:", "parts:", "has no service api, so REPLICAS_API and its other"),
    ],
)
def test_an_adoption_names_what_a_stack_lacks(empty: Path, tmp_path: Path, old: str, new: str, reason: str) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, "TARGET": "swarm"})
    lose_state(out)
    (out / "stack.yml").write_text((out / "stack.yml").read_text().replace(old, new))
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert f"stack.yml {reason} settings get their defaults" in done.stdout
    assert "docker compose" not in done.stdout


def exported(out: Path) -> dict[str, str]:
    """Return the settings of a deployment as --export has them."""
    return read_yaml(ran(out, "--export", "-", settings={}).stdout.encode())


@pytest.mark.parametrize("engine", ["compose", "swarm"])
def test_an_adoption_names_a_limit_that_no_setting_can_say(empty: Path, tmp_path: Path, engine: str) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, "TARGET": engine, "MEMORY_API": "4g"})
    lose_state(out)
    main = out / ENGINES[engine].main
    main.write_text(main.read_text().replace('memory: "4g"', 'memory: "4000000KB"'))
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert f"MEMORY_API: {main.name} has 4000000KB, which it does not take" in done.stdout
    assert "MEMORY_WEB" not in done.stdout.partition("What changes")[2]


@pytest.mark.parametrize(
    ("spelling", "key", "text"),
    [
        ("scale: 3", "REPLICAS_API", "3"),
        ("mem_limit: 2GiB", "MEMORY_API", "2g"),
        ("mem_limit: 536870912", "MEMORY_API", "512m"),
        ("mem_limit: ${API_MEMORY:-4g}", "MEMORY_API", "4g"),
        ("mem_limit: 0", "MEMORY_API", ""),
        ("cpus: 0.5", "CPUS_API", "0.5"),
        ("mem_limit: 512k", "MEMORY_API", None),
        ("cpus: 010", "CPUS_API", None),
        ("deploy: {replicas: 010}", "REPLICAS_API", None),
        ("deploy: {replicas: 0x10}", "REPLICAS_API", None),
        ("deploy: {resources: {limits: [memory: 4g]}}", "MEMORY_API", None),
        ("deploy: {resources: none}", "CPUS_API", None),
    ],
)
def test_a_size_in_any_spelling_of_compose_is_taken_or_named(
    empty: Path, tmp_path: Path, spelling: str, key: str, text: str | None
) -> None:
    source = foreign_trees.by_hand(tmp_path / "source")
    main = source / COMPOSE
    main.write_text(main.read_text().replace("  api:\n", f"  api:\n    {spelling}\n"))
    done = ran(empty, "--adopt", str(source), "--yes", settings={})
    assert exported(empty).get(key, "") == (text or "")
    assert (f"{key}: {COMPOSE} has " in done.stdout) == (text is None)
    assert (f"give it as --set {key}=VALUE" in done.stdout) == (text is None)


@pytest.mark.parametrize("field", ["mem_limit: 16g", "deploy: {resources: {limits: {cpus: 4}}}", "scale: 2"])
def test_a_size_that_is_not_a_setting_is_named(empty: Path, tmp_path: Path, field: str) -> None:
    source = foreign_trees.by_hand(tmp_path / "source")
    main = source / COMPOSE
    main.write_text(main.read_text().replace("  db:\n", f"  db:\n    {field}\n"))
    done = ran(empty, "--adopt", str(source), "--yes", settings={})
    assert f"the compose file gives db {field.partition(':')[0]}, which this stack does not" in done.stdout


@pytest.mark.parametrize("engine", OTHERS)
def test_an_adoption_says_how_to_stop_what_ran_before(out: Path, empty: Path, engine: str) -> None:
    stop = {
        "kubernetes": "kubectl -n avatar scale deployment,statefulset -l app.kubernetes.io/part-of=avatar --replicas=0",
        "swarm": "docker stack rm avatar",
    }
    ran(out, "--set", f"TARGET={engine}", settings={})
    done = ran(empty, "--adopt", str(out), "--yes", settings={})
    assert f"  {stop[engine]} " in done.stdout
    assert "compose" not in done.stdout.replace(f"{ENGINES['compose'].main} was read", "")
    assert "--volumes" not in done.stdout


@pytest.mark.parametrize("engine", OTHERS)
def test_two_engines_without_a_state_are_not_guessed_between(out: Path, empty: Path, engine: str) -> None:
    ran(out, "--set", f"TARGET={engine}", settings={})
    lose_state(out)
    done = run(empty, "--adopt", str(out), "--yes", settings={})
    assert done.returncode == 1
    assert "TARGET cannot be determined" in done.stderr
    ran(empty, "--adopt", str(out), "--yes", "--set", f"TARGET={engine}", settings={})
    assert main_files(empty) == {ENGINES[engine].main}


@pytest.mark.parametrize("engine", OTHERS)
def test_a_compose_file_of_earlier_is_not_taken_for_what_runs(out: Path, empty: Path, engine: str) -> None:
    compose = (out / COMPOSE).read_text()
    ran(out, "--set", f"TARGET={engine}", settings={})
    (out / COMPOSE).write_text(compose.replace('"443:443"', '"9443:443"'))
    ran(empty, "--adopt", str(out), "--yes", settings={})
    assert main_files(empty) == {ENGINES[engine].main}
    assert "9443" not in ran(empty, "--export", "-", settings={}).stdout


def test_a_way_back_to_the_own_database_says_whose_secrets_it_gets(tmp_path: Path) -> None:
    external = {"DB_HOST": "pg.example.com", "DB_ADMIN_USER": "root", "DB_ADMIN_PASSWORD": "of-that-server"}
    out = deployed(tmp_path / "out", settings={**SETTINGS, **external})
    done = ran(out, "--set", "DB_HOST=db", settings={})
    assert "note: DB_HOST=db: data does not move here from pg.example.com" in done.stderr
    assert "db_admin_password stay those of that server" in done.stderr
    assert secrets(out)["db_admin_password"] == "of-that-server"
    assert "DB_HOST" not in ran(out, settings={}).stderr


def test_an_unknown_target_names_the_known_ones(empty: Path) -> None:
    done = run(empty, settings={**SETTINGS, "TARGET": "nomad"})
    assert done.returncode == 1
    assert "TARGET='nomad'" in done.stderr
    assert all(name in done.stderr for name in ENGINES)
