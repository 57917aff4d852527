"""What holds for every deployment that comes up: imported whole by each module that has a stack of its own.

The fixture `stack` is that module's. Tables are those of the platform's facts, written out here and in test_targets.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import SPOOFED, exchanges_frames, told
from tests.support.runs import env_file, secrets
from tests.support.stack import HOST, Stack, reached
from tests.unit.deploy.test_targets import (
    API_SERVICES,
    AUTHENTIK,
    NETWORKS,
    ONE_SHOTS,
    of_api,
    of_authentik,
    of_web,
    secrets_of,
)

PORTS = {
    "api": (8000,),
    "dask-scheduler": (8786, 8787),
    "web": (3000,),
    "db": (5432,),
    "master": (9333,),
    "volume": (8080,),
    "filer": (8888,),
    "s3": (8333,),
    "admin": (23646,),
    "authentik_server": (9000, 9300),
}
ON_LOOPBACK = {"worker": (9327,)}
NAMES = {"dask-scheduler": ("dask-scheduler", "my-dask-scheduler")}
CHECKED = {"api", "db", "master", "volume", "filer", "s3", "admin", "worker", "authentik_server", "authentik_worker"}
# They report nothing, so that they are looked at from outside; each with its environment.
REAL_PROGRAMS = {
    "nginx": set(),
    "db": {"POSTGRES_USER_FILE", "POSTGRES_PASSWORD_FILE"},
    "authentik_init_db": {"PGHOST", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING"},
}
# As the originals: a shell as entry point keeps root, SeaweedFS's own entry point and Authentik do not.
UIDS = dict.fromkeys(("master", "volume", "worker", *AUTHENTIK), 1000) | dict.fromkeys(
    ("api", "init-db", "dask-scheduler", "dask-worker", "web", "filer", "s3", "admin", "init-storage"), 0
)


# --- It comes up ---------------------------------------------------------------------------------------


def test_every_service_runs_or_has_ended_well_at_its_first_attempt(stack: Stack) -> None:
    containers = stack.containers()
    assert set(containers) == stack.services
    states = {service: entry["State"] for service, entry in containers.items()}
    ended = {service: state["ExitCode"] for service, state in states.items() if not state["Running"]}
    assert ended == dict.fromkeys(ONE_SHOTS & stack.services, 0)
    assert {
        service for service, state in states.items() if state.get("Health", {}).get("Status") == "unhealthy"
    } == set()
    assert {service: entry["RestartCount"] for service, entry in containers.items() if entry["RestartCount"]} == {}


def test_the_databases_open_to_those_they_are_made_for(stack: Stack) -> None:
    texts = secrets(stack.out)
    for who, name in (("db", "db_name"), ("authentik_database", "authentik_database_name")):
        user, password = texts[f"{who}_user"], texts[f"{who}_password"]
        assert stack.sql("SELECT current_user", user, password, texts[name]) == user
    admin = (texts["db_admin_user"], texts["db_admin_password"])
    extensions = stack.sql("SELECT extname FROM pg_extension", *admin, texts["authentik_database_name"])
    assert {"uuid-ossp", "citext"} <= set(extensions.split())


def test_starting_again_recreates_nothing_and_the_one_shots_do_their_work_twice(stack: Stack) -> None:
    before = stack.containers()
    stack.up()
    after = stack.containers()
    assert {service: entry["Id"] for service, entry in after.items()} == {
        service: entry["Id"] for service, entry in before.items()
    }
    started = [{service: entry["State"]["StartedAt"] for service, entry in one.items()} for one in (before, after)]
    again = {service for service in after if started[0][service] != started[1][service]}
    assert again == ONE_SHOTS & stack.services
    assert {after[service]["State"]["ExitCode"] for service in again} == {0}


# --- Through nginx ---------------------------------------------------------------------------------------

ROUTES = (
    ("/web", "web", "/web"),
    ("/web/a%2Fb?q=%20", "web", "/web/a%2Fb?q=%20"),
    ("/api/users/a%2Fb?x=%26", "api", "/users/a%2Fb?x=%26"),
    ("/sso/if/flow/?next=%2F", "authentik_server", "/sso/if/flow/?next=%2F"),
    ("/storage/bucket/a%2Fb%20c", "s3", "/bucket/a%2Fb%20c"),
)
UPSTREAM_PATHS = [path for path, _, _ in ROUTES]


@pytest.mark.parametrize(("path", "service", "upstream_path"), ROUTES)
def test_every_route_leads_to_its_service(stack: Stack, path: str, service: str, upstream_path: str) -> None:
    seen = stack.client.ask(path).seen
    assert (seen["service"], seen["method"], seen["path"]) == (service, "GET", upstream_path)


def test_the_bare_address_leads_to_the_web_client(stack: Stack) -> None:
    answer = stack.client.ask("/")
    assert (answer.status, answer.all("Location")) == (302, ["/web"])


@pytest.mark.parametrize("path", UPSTREAM_PATHS)
@pytest.mark.parametrize("port", ["none", "public", "foreign"])
def test_upstreams_are_told_the_host_as_asked_and_the_rest_by_nginx_alone(stack: Stack, path: str, port: str) -> None:
    """The port is passed on if it is the public one; no link may lead to another."""
    asked = {"none": HOST, "public": f"{HOST}:{stack.public_port}", "foreign": f"{HOST}:8443"}[port]
    host = HOST if port == "foreign" else asked
    headers = stack.client.ask(path, SPOOFED, host=asked).seen["headers"]
    assert headers["host"] == host
    found = told(headers)
    assert found.pop("x-forwarded-for") == found.pop("x-real-ip") in stack.client_addresses()
    expected = {"x-forwarded-host": host, "x-forwarded-proto": stack.scheme}
    assert found == expected | ({"x-forwarded-prefix": "/storage"} if path.startswith("/storage") else {})


@pytest.mark.parametrize("path", UPSTREAM_PATHS)
def test_a_response_header_of_8_kb_passes(stack: Stack, path: str) -> None:
    answer = stack.client.ask(f"{path}{'&' if '?' in path else '?'}header=8192")
    assert answer.status == 200
    assert [len(value) for value in answer.all("X-Large")] == [8192]


@pytest.mark.parametrize("path", ["/web/socket", "/sso/ws/client/"])
def test_a_websocket_is_opened_and_carries_frames_both_ways(stack: Stack, path: str) -> None:
    exchanges_frames(stack.client, path)


def test_containers_find_the_public_address_at_nginx_unless_another_proxy_is_in_front(stack: Stack) -> None:
    if stack.settings.get("TLS_MODE") == "behind-proxy":
        assert stack.execute("api", "sh", "-c", f"getent hosts {HOST} || echo unknown") == "unknown\n"
        return
    seen = json.loads(stack.execute("api", "curl", "-sS", f"{stack.scheme}://{stack.netloc}/sso/x"))
    assert (seen["service"], seen["headers"]["host"]) == ("authentik_server", stack.netloc)


# Prints the result of a sum, and what the stand-in's preloaded module left on each worker.
DASK = """\
import json
from distributed import Client
with Client("my-dask-scheduler:8786", timeout=60) as client:
    client.wait_for_workers(1, timeout=60)
    marks = client.run(lambda dask_worker: dask_worker.preloaded)
    print(json.dumps([client.submit(sum, [40, 2]).result(timeout=60), list(marks.values())]))
"""


def test_the_api_computes_on_the_worker_of_the_real_dask(stack: Stack) -> None:
    computed = json.loads(stack.execute("api", "/opt/dask/bin/python", "-c", DASK))
    assert computed == [42, ["api.domain.dask_worker_setup"]]


# --- Who reaches whom --------------------------------------------------------------------------------------


def reachable(stack: Stack, service: str, addresses: dict[str, dict[str, str]]) -> set[tuple[str, int]]:
    """What a service should reach of all that others listen on, by name and by address."""
    found = set()
    for other, ports in (PORTS | {"nginx": (stack.port,)}).items():
        shared = set(NETWORKS[service].split()) & set(NETWORKS[other].split())
        if other != service and other in addresses and shared:
            hosts = [*NAMES.get(other, (other,)), *(addresses[other][network] for network in shared)]
            found |= {(host, port) for host in hosts for port in ports}
    return found


def test_services_reach_each_other_as_the_table_says_and_no_further(stack: Stack) -> None:
    addresses = stack.addresses()
    assert {service: set(row) for service, row in addresses.items()} == {
        service: set(NETWORKS[service].split()) for service in stack.services - ONE_SHOTS
    }
    targets = {
        service: [
            (host, port)
            for other, ports in (PORTS | ON_LOOPBACK | {"nginx": (stack.port,)}).items()
            if other != service
            for host in (*NAMES.get(other, (other,)), *addresses.get(other, {}).values())
            for port in ports
        ]
        for service in stack.services
    }
    with stack.places(ONE_SHOTS & stack.services) as places, ThreadPoolExecutor(len(NETWORKS)) as pool:
        found = dict(pool.map(lambda place: (place[0], reached(place[1], targets[place[0]])), places.items()))
    assert found == {service: reachable(stack, service, addresses) for service in stack.services}


# --- Who gets what -----------------------------------------------------------------------------------------


def everything_at_run_secrets(stack: Stack) -> dict[str, set[str]]:
    """Its secrets, and for Authentik a file with the user name of the mail, which is none."""
    found = secrets_of(stack.auth, stack.mail, bundled=stack.bundled)
    return found | {service: found[service] | {"smtp_username"} for service in AUTHENTIK}


def test_every_service_gets_its_documented_secrets_and_no_other(stack: Stack) -> None:
    mounted = {
        service: {mount["Destination"] for mount in entry["Mounts"] if mount["Destination"].startswith("/run/secrets")}
        for service, entry in stack.containers().items()
    }
    expected = everything_at_run_secrets(stack)
    assert mounted == {
        service: {f"/run/secrets/{name}" for name in expected.get(service, ())} for service in stack.services
    }


def test_every_stand_in_can_read_its_secrets_as_the_user_it_is(stack: Stack) -> None:
    expected = everything_at_run_secrets(stack)
    reports = stack.reports()
    assert {service: (found["uid"], found["secrets"]) for service, found in reports.items()} == {
        service: (UIDS[service], dict.fromkeys(expected.get(service, ()), "readable"))
        for service in stack.services - REAL_PROGRAMS.keys()
    }


def test_another_user_in_a_container_could_read_them_too(stack: Stack) -> None:
    """The uid of the API's image is not known; and PostgreSQL's, which starts as root, is another one."""
    for service in ("api", "db" if stack.bundled else "authentik_server"):
        stack.execute(service, "sh", "-c", "cat /run/secrets/* >/dev/null", user="54321")


# What processes have without a word of the compose file.
INHERITED = {"PATH", "HOME", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "LC_CTYPE", "_"}


def test_every_service_has_its_documented_environment_and_no_more(stack: Stack) -> None:
    env = env_file(stack.out)
    of_the_api = {*of_api(env)}
    of_authentiks = {*of_authentik(env, "", stack.private_ca)}
    expected = REAL_PROGRAMS | {
        **{service: of_the_api | ({"SSL_CERT_FILE"} if stack.private_ca else set()) for service in API_SERVICES},
        **dict.fromkeys(AUTHENTIK, of_authentiks),
        **{service: {"WEED_S3_SSE_KEK"} for service in ("filer", "s3")},
        "admin": {"WEED_ADMIN_PASSWORD"},
        "web": set(of_web("")),
    }
    found = {service: set(row["environment"]) for service, row in stack.reports().items()}
    for service in REAL_PROGRAMS.keys() & stack.services:
        found[service] = stack.variables(service)
    if not stack.bundled:
        tls = {"PGSSLROOTCERT"} if env["DB_SSLMODE"].startswith("verify-") else set()
        expected["authentik_init_db"] = REAL_PROGRAMS["authentik_init_db"] | {"PGPORT", "PGSSLMODE"} | tls
    assert {service: names - INHERITED for service, names in found.items()} == {
        service: expected.get(service, set()) for service in stack.services
    }


__all__ = [name for name in globals() if name.startswith("test_")]
