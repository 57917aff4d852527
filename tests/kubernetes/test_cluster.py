"""The base on a real cluster: applied, reached, applied again, rotated under load, scaled, and pruned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.volume.layout import BLUEPRINT
from tests.support.cluster import PAGE, Cluster, namespace
from tests.support.engine import until
from tests.support.page_commands import blocks_of

QUERY = 'psql -U "$(cat /run/secrets/db_admin_user)" -d postgres -c "$0"'
ROUTES = {"/api/health": "api", "/web": "web", "/sso/-/health/live/": "authentik_server"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with namespace(tmp_path_factory.mktemp("kubernetes") / "avatar") as made:
        made.configure()
        made.apply()
        made.wait()
        yield made


@pytest.fixture(scope="module")
def visited(cluster: Cluster) -> Cluster:
    cluster.invite_visitor()
    return cluster


def test_no_container_failed_on_the_first_start(cluster: Cluster) -> None:
    restarts = {}
    for pod in cluster.objects("pods"):
        status = pod["status"]
        for container in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
            restarts[pod["metadata"]["name"], container["name"]] = container["restartCount"]
    assert {name: count for name, count in restarts.items() if count} == {}
    assert all(job["status"].get("failed", 0) == 0 for job in cluster.objects("jobs"))


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_leads_to_its_service(visited: Cluster, path: str) -> None:
    status, body = visited.ask(path)
    assert isinstance(status, int) and status < 400, status
    if '"service"' in body:  # a stand-in says who it is
        assert json.loads(body)["service"] == ROUTES[path]


def test_a_second_apply_changes_nothing(cluster: Cluster) -> None:
    generations = cluster.generations()
    cluster.configure()
    assert cluster.kubectl("diff", "-k", cluster.directory) == ""
    cluster.apply()
    assert cluster.generations() == generations


def test_an_edited_blueprint_runs_its_job_again_and_no_other(cluster: Cluster) -> None:
    """A Job cannot be changed: one of the same name would be refused."""
    before, pods = jobs(cluster), cluster.pods("authentik-server")
    with (cluster.directory / BLUEPRINT).open("a") as file:
        file.write("# mine\n")
    cluster.configure()
    cluster.apply()
    cluster.wait()
    assert {name.rpartition("-")[0] for name in jobs(cluster) - before} == {"authentik-blueprint"}
    assert cluster.pods("authentik-server") == pods


def jobs(cluster: Cluster) -> set[str]:
    return {job["metadata"]["name"] for job in cluster.objects("jobs")}


def test_a_rotation_under_load_fails_no_request(visited: Cluster) -> None:
    before = visited.pods("api") | visited.pods("authentik-server")
    database, web = visited.pods("db"), visited.pods("web")
    with visited.load(*ROUTES) as answers:
        visited.configure("--rotate", "authjwt_secret_key", "--yes")
        visited.configure("--rotate", "authentik_secret_key", "--yes")
        visited.apply()
        visited.wait()
        until(
            "the old pods are gone", lambda: not before & (visited.pods("api") | visited.pods("authentik-server")), 180
        )
    assert min(answers.get(f"{path} 200", 0) for path in ROUTES) > 20, answers
    assert set(answers) == {f"{path} 200" for path in ROUTES}
    assert (visited.pods("db"), visited.pods("web")) == (database, web), "pods without the secrets were replaced"


def test_what_is_no_longer_used_is_pruned_and_nothing_else(cluster: Cluster) -> None:
    before = {secret["metadata"]["name"] for secret in cluster.objects("secrets")}
    claims = cluster.kubectl("get", "pvc", "-o", "name")
    cluster.prune()
    after = {secret["metadata"]["name"] for secret in cluster.objects("secrets")}
    gone = {name.rpartition("-")[0] for name in before - after}
    assert {"secrets-authjwt-secret-key", "secrets-authentik-secret-key"} <= gone
    assert {name.rpartition("-")[0] for name in after} == {name.rpartition("-")[0] for name in before}
    assert cluster.kubectl("get", "pvc", "-o", "name") == claims
    cluster.wait()


def test_every_service_runs_as_often_as_its_setting_says(visited: Cluster) -> None:
    with visited.load(*ROUTES) as answers:
        visited.configure(REPLICAS_API="4", REPLICAS_WEB="2", REPLICAS_DASK_WORKER="3")
        visited.apply()
        visited.wait()
        visited.configure(REPLICAS_API="2")
        visited.apply()
        until("the API has two pods", lambda: len(visited.pods("api")) == 2, 180)
    counts = {name: len(visited.pods(name)) for name in ("api", "web", "dask-worker", "db")}
    assert counts == {"api": 2, "web": 2, "dask-worker": 3, "db": 1}
    assert set(answers) == {f"{path} 200" for path in ROUTES}


def test_a_backup_as_on_the_page_brings_back_what_the_volumes_held(cluster: Cluster, tmp_path: Path) -> None:
    backup, restore = (block.text for block in blocks_of(PAGE) if "copy.yaml" in block.text)
    places = [*((f"{pod}-0", "/data/mine") for pod in ("filer", "master", "volume"))]
    places.append(("deployment/authentik-worker", "/data/mine"))
    cluster.kubectl("exec", "db-0", "--", "sh", "-c", QUERY, "CREATE TABLE mine AS SELECT 'mine' AS text")
    for pod, path in places:
        cluster.kubectl("exec", pod, "--", "sh", "-c", 'echo mine > "$0"', path)
    cluster.type(backup, tmp_path)
    cluster.wait()
    cluster.kubectl("delete", "-k", cluster.directory, "--wait")
    cluster.kubectl("delete", "pvc", "--all", "--wait")
    cluster.type(restore, tmp_path)
    cluster.wait()
    assert "mine" in cluster.kubectl("exec", "db-0", "--", "sh", "-c", QUERY, "SELECT text FROM mine")
    for pod, path in places:
        assert cluster.kubectl("exec", pod, "--", "cat", path) == "mine\n"
