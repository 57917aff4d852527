"""Bring an older deployment to this release: its versions, and what the platform renamed or removed; pure."""

from __future__ import annotations

from collections.abc import Mapping

from setup.commands.adopt.interpret import Entry, Interpretation
from setup.config.derived import LICENSES, OLDER_LICENSES, is_before
from setup.config.releases import AUTHENTIK, FLOORS, POSTGRES, refuse_other_postgres, refuse_pin, refuse_upgrade
from setup.typed import NamedTuple
from setup.volume.layout import STATE

_API = "AVATAR_API_VERSION"
_NGINX = "NGINX_IMAGE"
_LICENSE = "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE"
_RENAMED = dict(zip(OLDER_LICENSES, (LICENSES[0], LICENSES[2]), strict=True))
_TRUE = ("true", "yes", "on", "1")


class Ours(NamedTuple):
    """What the adopting run has: the settings that the operator gave it, and the values of this release."""

    given: Mapping[str, str]
    defaults: Mapping[str, str]


def modernize(content: Interpretation, ours: Ours, *, has_own_state: bool) -> Interpretation:
    """Return the same deployment with the settings of this release, notes about them, and what prevents that."""
    settings = dict(content.settings)
    notes = [*_move_versions(content, settings, ours, has_own_state)]
    api = ours.given.get(_API) or (settings[_API].text if _API in settings else ours.defaults[_API])
    if not is_before(api, 3):
        notes += _remove_what_api_3_removed(settings, ours)
    notes += _correct_smtp_tls(settings, ours)
    problems = (*content.problems, *_find_refusals(content.settings, ours))
    return content._replace(settings=settings, notes=(*content.notes, *notes), problems=problems)


def _move_versions(content: Interpretation, settings: dict[str, Entry], ours: Ours, has_own_state: bool) -> list[str]:
    """Drop the versions that releases manage, unless they are newer than these or somebody pinned them."""
    notes = []
    for key in (*FLOORS, _NGINX):
        entry, new = settings.get(key), ours.defaults[key]
        is_pinned = key in ours.given or (has_own_state and entry and entry.where == STATE)
        is_pinned = is_pinned or (key in content.runs and not _is_too_old(key, content.runs[key].text))
        if entry and not is_pinned and _is_older(entry.text, new):
            del settings[key]
            notes.append(f"{key}: {entry.text} -> {new}, made for this release; --set {key}=... keeps another")
    return notes


def _is_too_old(key: str, version: str) -> bool:
    """Tell whether this stack cannot run a release that the compose file pins."""
    return key in FLOORS and bool(refuse_pin(key, version))


def _is_older(text: str, new: str) -> bool:
    """Tell whether a version, or an image of the same name, is of an earlier release than another."""
    name, _, version = text.rpartition(":")
    new_name, _, new_version = new.rpartition(":")
    numbers = tuple(map(int, filter(str.isdecimal, new_version.split("."))))
    return name == new_name and is_before(version, *numbers)


def _remove_what_api_3_removed(settings: dict[str, Entry], ours: Ours) -> list[str]:
    notes = []
    license_type = settings.get(_LICENSE)
    if license_type and license_type.text in _RENAMED and _LICENSE not in ours.given:
        new = _RENAMED[license_type.text]
        settings[_LICENSE] = license_type._replace(text=new)
        notes.append(f"{_LICENSE}: {license_type.text} -> {new}, because API 3 renamed the licences")
    provider = settings.get("MAIL_PROVIDER")
    if provider and provider.text.lower() == "aws":
        del settings["MAIL_PROVIDER"]
        notes.append("MAIL_PROVIDER=aws was removed from the platform: mail goes through SMTP_HOST")
    for key, old in (("AUTH_TYPE", "username"), ("USE_EMAIL_AUTHENTICATION", "false")):
        entry = settings.get(key)
        if entry and entry.text.lower() == old:
            del settings[key]
            notes.append(f"{key}={old} was removed from the platform: people sign in with their e-mail address")
    return notes


def _correct_smtp_tls(settings: dict[str, Entry], ours: Ours) -> list[str]:
    """Drop implicit TLS on a port that begins without TLS, which was the public tool's default and never works."""
    keys = ("SMTP_USE_TLS", "SMTP_START_TLS")
    use_tls, start_tls = (settings[key].text.lower() in _TRUE if key in settings else False for key in keys)
    port = ours.given.get("SMTP_PORT") or (settings["SMTP_PORT"].text if "SMTP_PORT" in settings else "587")
    if port not in ("587", "25") or not use_tls or start_tls or any(key in ours.given for key in keys):
        return []
    for key in keys:
        settings.pop(key, None)
    return [
        f"SMTP_USE_TLS=true cannot work on port {port}, which begins without TLS: STARTTLS is used there "
        "(SMTP_USE_TLS=false, SMTP_START_TLS=true)"
    ]


def _find_refusals(settings: Mapping[str, Entry], ours: Ours) -> list[str]:
    """Return why a version that the operator gave for this adoption cannot be taken."""
    refusals = []
    for key in FLOORS:
        if key in ours.given:
            refusals.append(refuse_pin(key, ours.given[key]))
    for key, refuse in ((AUTHENTIK, refuse_upgrade), (POSTGRES, refuse_other_postgres)):
        if key in ours.given and key in settings:
            refusals.append(refuse(settings[key].text, ours.given[key]))
    return list(filter(None, refusals))
