"""What a run supersedes is forgotten, so that a later, silent run does not bring it back."""

import pytest

from tests.support.runs import REQUIRED, env_file, ran, run


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_preset_does_not_flip_back_in_a_later_silent_run(out):
    ran(out, settings=REQUIRED | {"USE_CONSOLE_LOGGING": "true"})
    ran(out, "--preset", "airgapped")
    assert "Nothing to do" in ran(out).stdout
    ran(out, "--set", "LOG_LEVEL=ERROR")
    assert env_file(out)["USE_CONSOLE_LOGGING"] == "false"


API_2 = {"AVATAR_API_VERSION": "2.81"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"NGINX_TLS_ENABLED": "true"}, {"TLS_MODE": "behind-proxy"}),
        ({"TLS_MODE": "behind-proxy"}, {"NGINX_TLS_ENABLED": "true"}),
        ({**API_2, "USE_EMAIL_AUTHENTICATION": "false"}, {"AUTH_TYPE": "email"}),
        ({**API_2, "AUTH_TYPE": "username"}, {"USE_EMAIL_AUTHENTICATION": "true"}),
    ],
)
def test_the_spelling_used_in_one_run_replaces_a_saved_one_for_good(out, first, second):
    ran(out, settings=REQUIRED | first)
    ran(out, settings=REQUIRED | second)
    assert "Nothing to do" in ran(out).stdout


@pytest.mark.parametrize("flag", ["--config", "--defaults-file"])
def test_an_empty_path_is_refused(out, flag):
    """`--config "$FILE"` with FILE unset runs without the file and exits 0: cli/configure test `if config_file`."""
    done = run(out, flag, "")
    assert done.returncode in (1, 2)
    assert list(out.iterdir()) == []
