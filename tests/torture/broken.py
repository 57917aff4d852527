"""The mutants: promises that are broken on purpose, by exact texts and what takes their place, and what notices each.

A text stands in its module once, so that a mutant whose text was changed fails loudly: give it the new one.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A text of one module of `setup`, and what takes its place."""

    module: str
    old: str
    new: str

    @property
    def path(self) -> str:
        return f"setup/{self.module}.py"


class Mutant(NamedTuple):
    """A broken promise; `noticed_by` are the words after `python -m`."""

    name: str
    noticed_by: tuple[str, ...]
    edits: tuple[Edit, ...]

    def __str__(self) -> str:
        return self.name

    @property
    def row(self) -> str:
        """Its line in docs/internals/reliability.md."""
        words = self.noticed_by[-3:]  # a test's file, -k and name; a sweep's module and case
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        return f"| {self.name} | `{shown}` |"


def broken(name: str, noticed_by: tuple[str, ...], *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, noticed_by, tuple(Edit(*edit) for edit in edits))


def by_test(module: str, name: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{module}.py", "-k", name)


def by_sweep(layer: str, name: str) -> tuple[str, ...]:
    return (f"tests.torture.{layer}", name)


MUTANTS = (
    broken(
        "write in place",
        by_sweep("kills", "a run with changed settings, KILL at write"),
        (
            "volume/volume",
            "        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)\n",
            (
                "        new = open(staged, 'rb', opener=lambda path, flags: os.open(path, flags, dir_fd=folder))\n"
                "        mode = os.fstat(new.fileno()).st_mode & 0o777\n"
                "        old = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode, dir_fd=folder)\n"
                "        with new, open(old, 'wb') as out:\n"
                "            out.write(new.read())\n"
                "        os.unlink(staged, dir_fd=folder)\n"
            ),
        ),
    ),
    broken(
        "chmod after write",
        by_test("unit/volume/test_files", "mode_from_its_first_moment"),
        (
            "volume/atomic",
            "os.open(temporary, flags, file.mode, dir_fd=folder)",
            "os.open(temporary, flags, 0o666, dir_fd=folder)",
        ),
        (
            "volume/atomic",
            (
                "        directories.require_mode(descriptor, file.mode, file.path)  # a umask took some bits away\n"
                '        with os.fdopen(descriptor, "wb", closefd=False) as out:\n'
                "            out.write(file.data)\n"
            ),
            (
                '        with os.fdopen(descriptor, "wb", closefd=False) as out:\n'
                "            out.write(file.data)\n"
                "        directories.require_mode(descriptor, file.mode, file.path)\n"
            ),
        ),
    ),
    broken(
        "modes left to the umask",
        by_test("unit/volume/test_files", "modes_do_not_depend_on_the_umask"),
        (
            "volume/directories",
            "    if _mode(descriptor) == mode:\n        return\n    try:\n",
            "    return\n    try:\n",
        ),
    ),
    broken(
        "completed before the files are published",
        by_sweep("kills", "a first run, KILL at linkat"),
        (
            "deploy/transaction",
            "        session.save_state()\n        for path in stale:",
            "        session.state.complete(step)\n        session.save_state()\n        for path in stale:",
        ),
    ),
    broken(
        "announced after the files are published",
        by_sweep("kills", "a run with changed settings, KILL at renameat"),
        (
            "deploy/transaction",
            "        session.volume.publish(staged)\n        session.volume.publish(texts)",
            "        session.volume.publish(staged)\n        session.save_state()\n        session.volume.publish(texts)",
        ),
        (
            "deploy/transaction",
            "        session.save_state()\n        for path in stale:",
            "        for path in stale:",
        ),
    ),
    broken(
        "no fsync of files",
        by_test("unit/volume/test_files", "durable_and_announced"),
        ("volume/atomic", "    for descriptor in descriptors:\n        os.fsync(descriptor)\n", ""),
    ),
    broken(
        "no fsync of directories",
        by_test("unit/volume/test_files", "durable_and_announced"),
        ("volume/directories", "        os.fsync(descriptor)\n", "        os.fstat(descriptor)\n"),
    ),
    broken(
        "no fsync at all, and a power cut",
        by_sweep("power", "xfs, a first run, cut after exit 0"),
        ("volume/atomic", "    for descriptor in descriptors:\n        os.fsync(descriptor)\n", ""),
        ("volume/directories", "        os.fsync(descriptor)\n", "        os.fstat(descriptor)\n"),
    ),
    broken(
        "ignore a disk error",
        by_sweep("errors", "a first run, ENOSPC at renameat"),
        (
            "volume/volume",
            (
                "                self._settled.add(place)\n"
                "        except OSError as error:\n"
                '            raise self._error(path, "written", error) from None\n'
            ),
            "                self._settled.add(place)\n        except OSError:\n            pass\n",
        ),
    ),
    broken(
        "no lock",
        by_sweep("races", "a run with changed settings and another change, the first held at renameat"),
        (
            "volume/lock",
            "                return fcntl.flock(descriptor, how | fcntl.LOCK_NB)\n",
            "                return None\n",
        ),
    ),
    broken(
        "refuse what another run has just written",
        by_sweep("races", "a first run with every secret given and another first run, the first held at access"),
        (
            "deploy/transaction",
            "        if session.volume.read(STATE) == seen:\n            raise\n",
            "        raise\n",
        ),
    ),
    broken(
        "lose a state that appears between two reads",
        by_sweep("races", "a status and a first run with every secret given, the first held at openat"),
        ("state_manager", "            data = volume.read(STATE)  # another", "            pass  # another"),
    ),
    broken(
        "follow a link to a folder",
        by_test("unit/volume/test_files", "writes_through_a_folder_that_is_a_link"),
        (
            "volume/directories",
            "    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC\n    mode",
            "    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC\n    mode",
        ),
    ),
    broken(
        "follow a link to a file",
        by_test("unit/volume/test_files", "no_run_follows_a_link_at_any_path"),
        (
            "volume/volume",
            "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC",
            "os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC",
        ),
        (
            "volume/atomic",
            "dir_fd=folder, follow_symlinks=False)\n    except FileNotFoundError",
            "dir_fd=folder)\n    except FileNotFoundError",
        ),
    ),
    broken(
        "remove no staged files",
        by_sweep("kills", "a first run, TERM at fsync"),
        (
            "volume/volume",
            "        for place in places:\n            name = ",
            "        for place in ():\n            name = ",
        ),
    ),
    broken(
        "do not unwind on SIGTERM",
        by_sweep("kills", "a first run, TERM at fsync"),
        (
            "__main__",
            (
                "    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
                "        signal.signal(number, _leave)\n"
                "    _"
            ),
            "    for number in (signal.SIGINT, signal.SIGHUP):\n        signal.signal(number, _leave)\n    _",
        ),
    ),
    broken(
        "close a descriptor twice",
        by_sweep("kills", "a first run, TERM at close"),
        (
            "volume/directories",
            "    with contextlib.suppress(OSError):\n        os.close(descriptor)\n",
            "    os.close(descriptor)\n",
        ),
    ),
    broken(
        "publish the compose file in any order",
        by_test("unit/volume/test_files", "compose_file_is_the_last"),
        (
            "deploy/transaction",
            "(not file.once, file.path in MAIN_FILES)",
            "(not file.once, file.path not in MAIN_FILES)",
        ),
    ),
    broken(
        "rename a new secret over an old one",
        by_test("unit/volume/test_files", "a_new_secret_cannot_replace_one"),
        ("volume/volume", "file.once and existing is not None and existing.st_size", "False"),
        ("volume/volume", "        if file.once and existing is None:\n", "        if False:\n"),
    ),
    broken(
        "generate existing secrets again",
        by_sweep("kills", "a first run, KILL at renameat"),
        ("secrets/plan", "        if not current:\n", "        if not current or secret.generate:\n"),
        ("secrets/plan", "present=current is not None)", "present=current is not None, replaces=bool(current))"),
    ),
    broken(
        "generate a lost secret again",
        by_test("cli/test_rerun", "a_lost_secret_is_named_and_never_generated_again"),
        ("secrets/guards", "is_gone = secret.name in made and", "is_gone = secret.name in () and"),
    ),
    broken(
        "give a bound secret another value",
        by_test("cli/test_rerun", "another_value_for_a_bound_secret_is_refused"),
        ("secrets/plan", "    return bool(secret.bound) and not is_ext", "    return False and not is_ext"),
    ),
    broken(
        "a reset deletes secrets",
        by_sweep("kills", "a reset, KILL at renameat"),
        (
            "configure",
            "        if session.options.reset and session.state.exists:\n",
            "        if session.options.reset and session.state.exists:\n"
            '            session.volume.remove(".secrets/db_password")\n',
        ),
    ),
    broken(
        "a reset keeps no copy of the state",
        by_sweep("kills", "a reset, KILL at renameat"),
        (
            "configure",
            "            transaction.save_backup(session, Reason(Kind.RESET))\n",
            '            session.backup = ""\n',
        ),
    ),
    broken(
        "keep no last good state",
        by_test("unit/test_state_manager", "complete_state_stands_there_twice"),
        ("state_manager", "volume.stage([file._replace(path=LAST_GOOD), file])", "volume.stage([file])"),
    ),
    broken(
        "accept a truncated state",
        by_test("unit/test_state_manager", "cut_short_anywhere"),
        ("state_file", 'endswith(b"\\n" + _END)', 'endswith(b"")'),
    ),
    broken(
        "overwrite what was edited by hand",
        by_test("cli/test_edits", "fail_writes_nothing_and_names_every_file"),
        ("deploy/reconcile", "FAIL: Action.REFUSED", "FAIL: Action.REPLACED"),
    ),
    broken(
        "quote nothing in .env",
        by_test("unit/deploy/test_templates", "env_quot"),
        (
            "formats/quoting",
            "    if not text or re.fullmatch(_ENV_BARE, text):\n        return text\n",
            "    return text\n",
        ),
    ),
    broken(
        "quote nothing in YAML",
        by_test("unit/deploy/test_templates", "yaml"),
        ("formats/quoting", '"".join(_yaml_char(char) for char in text)', "text"),
    ),
    broken(
        "echo a secret",
        by_test("terminal/test_wizard", "a_masked_secret_shows_nowhere"),
        ("wizard/plain", "terminal.echo_after_stops(not field.masked, ask)", "terminal.echo_after_stops(True, ask)"),
    ),
    broken(
        "show a secret in an error",
        by_test("cli/test_bad_inputs", "test_a_bad_secret"),
        (
            "secrets/plan",
            "{where}: {_reason(secret, error)}",
            "{where}: {secret_given.text!r}: {error}",
        ),
    ),
    broken(
        "quote a value in a template's error",
        by_test("cli/test_leaks", "a_fault_in_a_template_shows_no_value"),
        ("deploy/templates", "cannot be used: {_describe(error, path)}", "cannot be used: {error}"),
    ),
    broken(
        "print the text of an internal error",
        by_test("cli/test_leaks", "a_fault_in_a_template_shows_no_value"),
        ("cli", "({type(error).__name__} at {place})", "({error} at {place})"),
    ),
    broken(
        "show a value in the place of a key",
        by_test("cli/test_leaks", "a_slip_in_a_configuration_file"),
        (
            "formats/yaml_file",
            '    return f"{place} (not shown',
            '    return repr(key)\n    return f"{place} (not shown',
        ),
    ),
    broken(
        "a secrets folder that others can enter",
        by_test("faults/test_leaks_below", "private_from_its_first_moment"),
        ("volume/layout", "return 0o700 if ", "return 0o755 if "),
    ),
    broken(
        "leave a core dump",
        by_test("faults/test_leaks_below", "a_crash_leaves_no_core_dump"),
        ("__main__", "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n", ""),
    ),
    broken(
        "leave the memory in a core dump",
        by_test("faults/test_leaks_below", "a_core_dump_that_is_taken_all_the_same"),
        ("__main__", 'file.write(b"0")', 'file.write(b"33")'),
    ),
    broken(
        "restore without announcing it",
        by_sweep("kills", "a restore, KILL at renameat"),
        ("commands/restore", '    volume.replace(file_at(RESTORE_MARK, f"{backup.id}\\n".encode()))\n', ""),
    ),
    broken(
        "configure despite bad input",
        by_test("cli/test_bad_inputs", "test_a_bad_setting and LOG_LEVEL"),
        ("deploy/session", "        if problems:\n            raise InputError(*problems)\n", ""),
    ),
    broken(
        "trust any certificate",
        by_test("cli/test_invite", "a_foreign_certificate_gets_no_token"),
        (
            "client",
            "    return context\n",
            "    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n    return context\n",
        ),
    ),
    broken(
        "wait for a silent server",
        by_test("cli/test_check_online", "a_server_that_is_silent"),
        ("client", "timeout = _STEP if body is None else _WHOLE", "timeout = _WHOLE"),
    ),
    broken(
        "call a part well that answers with an error",
        by_test("cli/test_check_online", "a_part_that_does_not_work"),
        ("checks/network", "if reply.status == 200 or (", "if reply.status or ("),
    ),
)
