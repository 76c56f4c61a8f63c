"""A run from a bastion: ansible-runner's transmit, worker and process over SSH, judged by the status file that comes back."""

import base64
import contextlib
import functools
import io
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ansible_runner.streaming import Processor, Transmitter

from . import bastion, collection, inventories, jobs
from .errors import KubekeelError, UsageError
from .jobs import Ended, Job

OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""Of ssh, beside what its own configuration says. A connection that is silent for a minute is lost."""
MORE_OPTIONS = "KUBEKEEL_SSH_OPTIONS"
"""Environment variable with further options of ssh, written as for a shell."""
SENT = ("galaxy.yml", "meta", "playbooks", "plugins", "profiles", "roles")
"""What a bastion needs of the collection."""
NEEDED = {"ansible-playbook": ("ansible-core", (2, 19)), "ansible-runner": ("ansible-runner", (2, 4))}
"""By program: the Python package that it comes with, and the oldest version."""
REFUSED = (
    (
        ("--vault",),
        "what is encrypted is decrypted here; name the password in ANSIBLE_VAULT_PASSWORD_FILE or ansible.cfg",
    ),
    (("--extra-vars=@", "-e@", "@"), "that file is not there; put the variables into the inventory"),
    (("-i", "--inventory"), "the inventory is sent"),
    (("--private-key", "--key-file", "-M", "--module-path"), "that file is not there"),
)
"""Beginnings of options of ansible-playbook, and why they do not work on a bastion."""
PASSWORDS = ("--become-password-file", "--become-pass-file", "--connection-password-file", "--conn-pass-file")
"""Options with files that are sent along."""
IDENT = "kubekeel"
RESULT, STOP = "kubekeel_result_file", "kubekeel_stop_file"
"""Variables that name files on the controller: one that the playbook writes, one that it looks for."""
GREETED = 60.0
"""Seconds within which a bastion has to greet."""
GRACE = bastion.PATIENCE + bastion.LAST + 10
"""Seconds that a bastion gets to tell that a run has ended as ordered."""
TARGET = re.compile(
    r"(?:(?P<user>[^@\s:/-][^@\s:/]*)@)?(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.%a-z]+\])(?::(?P<port>[0-9]{1,5}))?"
)

RawEvent = jobs.RawEvent


@dataclass(frozen=True)
class Target:
    """Where a bastion is."""

    host: str
    user: str = ""
    port: int = 0
    """0 for what ssh's configuration says."""

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def command(self, *remote: str) -> list[str]:
        """Return the command that runs another one there."""
        try:
            more = shlex.split(os.environ.get(MORE_OPTIONS, ""))
        except ValueError as error:
            raise UsageError(f"{MORE_OPTIONS} cannot be read: {error}") from error
        port = ["-p", str(self.port)] if self.port else []
        user = ["-l", self.user] if self.user else []
        return ["ssh", *OPTIONS, *more, *port, *user, "--", self.host, shlex.join(remote)]


def target(text: str) -> Target:
    """Return what C([user@]host[:port]) means; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is none of that
    """
    found = TARGET.fullmatch(text)
    if not found or int(found["port"] or 1) not in range(1, 65536):
        raise UsageError(f"'{text}' is no bastion: give [user@]host[:port]")
    return Target(found["host"].strip("[]"), found["user"] or "", int(found["port"] or 0))


def look(where: str) -> list[str]:
    """Return what keeps a bastion from running playbooks, as sentences; none where nothing does.

    Raises:
        UsageError: that is no bastion's name
    """
    try:
        with _opened(target(where)) as connection:
            return _missing(connection)
    except UsageError:
        raise
    except KubekeelError as error:
        return [str(error)]


def play(where: str, job: Job, on_event: Callable[[RawEvent], None], cancel: threading.Event | None = None) -> Ended:
    """Run a playbook from a bastion and return how it ended.

    Vault passwords stay here: what they encrypt in the inventory goes over the connection decrypted, and lies in a folder on the
    bastion for as long as the run lasts, where that can be had in memory.

    Args:
        where: the bastion, as C(target) takes it.
        job: what to run.
        on_event: gets every event, in the thread that calls this.
        cancel: breaks the run off once it is set, there, too. Where this cannot be told to the bastion, the status is lost.

    Raises:
        UsageError: something in the job cannot be done from a bastion
        KubekeelError: the bastion cannot be reached, or something is missing there; nothing was run
    """
    there, cancel = target(where), cancel or threading.Event()
    _refuse(job.options)
    files = {f"inventory/{_name(job.inventory)}/hosts.json": json.dumps(resolved(job.inventory)).encode()}
    with _opened(there) as connection:
        if missing := _missing(connection):
            raise KubekeelError(" ".join(missing))
        if cancel.is_set():
            return Ended("canceled", 254, "")
        options, passwords = _passwords(job.options, connection.folder)
        connection.send({**files, **passwords}, _stream(job, options, connection.folder))
        received = _Received(connection.output, job.folder, on_event)
        with _ordering(connection, cancel, job.variables.get(STOP)):
            received.run()
        code, said = connection.ended(), connection.said
    return _judged(received, job, there, said, code, cancel.is_set())


def resolved(path: pathlib.Path) -> dict[str, Any]:
    """Return an inventory as one document that Ansible reads alone, with nothing encrypted in it.

    What Ansible must not template stays marked so.

    Raises:
        UsageError: it cannot be read or decrypted
    """
    listed = inventories.listing(path)
    hostvars = listed.pop("_meta", {}).get("hostvars", {})
    decrypted = functools.cache(_decrypted)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return (
                decrypted(value["__ansible_vault"])
                if set(value) == {"__ansible_vault"}
                else {key: plain(one) for key, one in value.items()}
            )
        return [plain(one) for one in value] if isinstance(value, list) else value

    groups = {
        name: {"hosts": dict.fromkeys(group.get("hosts", [])), "children": dict.fromkeys(group.get("children", []))}
        for name, group in listed.items()
        if name not in ("all", "ungrouped")
    }
    for group in listed.values():
        for child in group.get("children", []):
            # A group without hosts is listed as a child alone.
            groups.setdefault(child, {"hosts": {}, "children": {}})
    groups.pop("ungrouped", None)
    # In their order: it is that in which servers restart.
    hosts = dict.fromkeys([*inventories.members(listed, "all"), *hostvars])
    return {"all": {"hosts": {host: plain(hostvars.get(host, {})) for host in hosts}, "children": groups}}


def _decrypted(text: str) -> str:
    command = ["ansible-vault", "decrypt", "--output", "-"]
    done = subprocess.run(command, env=jobs.environment(), input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise UsageError(f"The inventory cannot be decrypted here, as a run from a bastion needs it: {done.stderr.strip()}")
    return done.stdout


def _refuse(options: Sequence[str]) -> None:
    for option in options:
        for beginnings, why in REFUSED:
            if option.startswith(beginnings):
                raise UsageError(f"{option.partition('=')[0]} does not go together with --via: {why}")


def _passwords(options: Sequence[str], folder: str) -> tuple[list[str], dict[str, bytes]]:
    """Return options with the names that files have on the bastion, and what is in these files."""
    words = [word for option in options for word in (option.split("=", 1) if option.startswith(PASSWORDS) else [option])]
    files = {}
    for number, (option, value) in enumerate(itertools.pairwise(words)):
        if option in PASSWORDS:
            try:
                files[f"password-{number}"] = pathlib.Path(value).expanduser().read_bytes()
            except OSError as error:
                raise UsageError(f"{option} {value} cannot be read: {error.strerror}") from error
            words[number + 1] = f"{folder}/password-{number}"
    return words, files


def _name(inventory: pathlib.Path) -> str:
    """Return the name of an inventory's folder: a cluster without a name of its own is called so."""
    folder = inventory if inventory.is_dir() else inventory.absolute().parent
    return folder.resolve().name or "inventory"


class _Buffer(io.BytesIO):
    """What ansible-runner takes for a stream."""

    name = "<memory>"


def _stream(job: Job, options: Sequence[str], folder: str) -> bytes:
    """Return what C(ansible-runner transmit) sends.

    Its class rather than its function: that would write the variables to the disk, and take over the signals.
    """
    variables = dict(job.variables)
    if RESULT in variables:
        variables[RESULT] = f"{folder}/artifacts/{IDENT}/{RESULT}"
    if STOP in variables:
        variables[STOP] = f"{folder}/{bastion.STOP_FILE}"
    with tempfile.TemporaryDirectory(dir=job.folder) as sent:
        place = pathlib.Path(sent, "project", "collections", "ansible_collections", "kubekeel", "ha")
        place.mkdir(parents=True)
        for name in SENT:
            path = collection.FOLDER / name
            if path.is_dir():
                shutil.copytree(path, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, place / name)
        buffer = _Buffer()
        Transmitter(
            buffer,
            private_data_dir=sent,
            ident=IDENT,
            playbook=job.playbook,
            extravars=variables,
            cmdline=shlex.join(options) or None,
            settings={"pexpect_timeout": 1},
            fact_cache_type="memory",
        ).run()
    return buffer.getvalue()


class _Connection:
    """A bastion that has greeted."""

    def __init__(self, process: "subprocess.Popen[bytes]", there: Target, greeting: Mapping[str, Any], errors: IO[bytes]) -> None:
        assert process.stdin  # noqa: S101
        assert process.stdout  # noqa: S101
        self.process, self.there, self.greeting, self.errors = process, there, greeting, errors
        self.input, self.output = process.stdin, process.stdout
        self.folder = str(greeting["folder"])

    @property
    def said(self) -> str:
        """What ssh and the bastion wrote to their error output."""
        return _read(self.errors)

    def send(self, files: Mapping[str, bytes], stream: bytes) -> None:
        """Send a run. The bastion begins it when all of it has come."""
        head = json.dumps([*((name, len(content)) for name, content in files.items()), ("", len(stream))]).encode()
        try:
            self.input.write(b"".join([head, b"\n", *files.values(), stream, b"\n"]))
            self.input.flush()
        except OSError as error:
            raise KubekeelError(
                f"The connection to {self.there} broke before the run began; nothing was done. {self.said}".rstrip()
            ) from error

    def order(self, order: bytes) -> None:
        """Give an order; a connection that is broken shows elsewhere."""
        with contextlib.suppress(OSError):
            self.input.write(order)
            self.input.flush()

    def ended(self) -> int:
        """Return the exit code of ssh, once the bastion has cleaned up."""
        try:
            return self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            return self.process.wait()


@contextlib.contextmanager
def _opened(there: Target) -> Iterator[_Connection]:
    """Connect to a bastion; a run that goes on there when this is left is broken off."""
    source = pathlib.Path(bastion.__file__).read_text()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                there.command("python3", "-c", source),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # The terminal's interrupt is for kubekeel, which orders what is to be done.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise KubekeelError("There is no command ssh here; --via needs it") from error
        late = threading.Timer(GREETED, process.kill)
        late.start()
        try:
            greeting = _greeting(process)
            late.cancel()
            if greeting is None:
                raise KubekeelError(_silent(there, process.wait(), _read(errors)))
            connection = _Connection(process, there, greeting, errors)
            try:
                yield connection
            except BaseException:
                connection.order(bastion.CANCEL)
                raise
        finally:
            late.cancel()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]


def _greeting(process: "subprocess.Popen[bytes]") -> dict[str, Any] | None:
    """Return what a bastion greets with; None where its output ends before."""
    for line in process.stdout or ():
        text = line.decode(errors="replace")
        if text.startswith(bastion.GREETING):
            found: dict[str, Any] = json.loads(text.removeprefix(bastion.GREETING))
            return found
    return None


def _silent(there: Target, code: int, said: str) -> str:
    """Return why a bastion did not greet."""
    if code == 127:
        return f"{there} has no python3 on the PATH of a login that is not interactive; ansible-core and ansible-runner need it"
    if code == 255:
        return f"{there} cannot be reached by ssh without a question: {said or 'it says no more'}"
    if code < 0:
        return f"{there} did not answer within {GREETED:.0f} s. {said}".rstrip()
    return f"{there} could not run Python, exit code {code}: {said or 'it says no more'}"


def _read(errors: IO[bytes]) -> str:
    """Return the last lines of what was written to a file, as one."""
    errors.seek(0)
    return "; ".join(line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip())[-600:]


def _missing(connection: _Connection) -> list[str]:
    """Return what a bastion lacks."""
    there, found = connection.there, connection.greeting["programs"]
    missing = []
    for program, (package, oldest) in NEEDED.items():
        version = found.get(program, "")
        least = ".".join(map(str, oldest))
        if not version:
            path = connection.greeting["path"]
            missing.append(
                f"{there} has no working {program} on the PATH of a login that is not interactive ({path}): install {package}>={least}."
            )
        elif tuple(map(int, version.split(".")[:2])) < oldest:
            missing.append(f"{there} has {package} {version}; {least} is the oldest that works.")
    return missing


@contextlib.contextmanager
def _ordering(connection: _Connection, cancel: threading.Event, stop_file: Any) -> Iterator[None]:
    """Tell a bastion what is wanted here, and give up on one that does not do it."""
    over = threading.Event()

    def look_after() -> None:
        told = False
        while not over.wait(0.2):
            if cancel.is_set():
                connection.order(bastion.CANCEL)
                if not over.wait(GRACE):
                    connection.process.kill()
                return
            if stop_file and not told and os.path.exists(stop_file):
                told = True
                connection.order(bastion.STOP)

    thread = threading.Thread(target=look_after, name="kubekeel-via", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Received(Processor):  # type: ignore[misc]
    """C(ansible-runner process), which keeps in memory what comes, and of the artifacts only what a run needs.

    The rest holds the bastion's environment; and files that come from elsewhere are written nowhere.
    """

    def __init__(self, stream: IO[bytes], folder: pathlib.Path, on_event: Callable[[RawEvent], None]) -> None:
        def note(event: RawEvent) -> bool:
            self.lines += [event["stdout"]] if event.get("stdout") else []
            on_event(event)
            return False

        self.lines: list[str] = []
        self.files: dict[str, bytes] = {}
        self.explanation = ""
        super().__init__(stream, event_handler=note, private_data_dir=str(folder), ident=IDENT, quiet=True, settings={})

    def status_callback(self, status_data: Mapping[str, Any]) -> None:
        """Keep why something went wrong."""
        self.explanation = status_data.get("job_explanation", self.explanation)
        super().status_callback(status_data)

    def artifacts_callback(self, artifacts_data: Mapping[str, Any]) -> None:
        """Keep the files that tell how the run ended."""
        encoded = self._input.read((artifacts_data["zipfile"] + 2) // 3 * 4)
        with contextlib.suppress(ValueError, zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(base64.b64decode(encoded))) as archive:
            for name in {"status", "rc", "stdout", RESULT} & set(archive.namelist()):
                self.files[name] = archive.read(name)

    def text(self, name: str) -> str:
        """Return what a file says; empty where it did not come."""
        return self.files.get(name, b"").decode(errors="replace").strip()


def _judged(received: _Received, job: Job, there: Target, said: str, code: int, canceled: bool) -> Ended:
    """Return how a run ended. Only the status file counts: C(process) ends well whatever came."""
    status, output = received.text("status"), received.text("stdout") or "\n".join(received.lines)
    if RESULT in job.variables and RESULT in received.files:
        descriptor = os.open(job.variables[RESULT], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(received.files[RESULT])
    if not status:
        cut = code == 255 or code < 0
        return Ended("lost", 255, f"{output}\nERROR: {lost(there, said or received.explanation, cut)}\n".lstrip("\n"))
    rc = int(received.text("rc")) if received.text("rc").lstrip("-").isdigit() else code or 1
    if status == "successful":
        return Ended("successful", 0, output)
    return Ended("canceled" if canceled else "failed", rc or 1, output)


def lost(there: Target | str, said: str = "", cut: bool = True) -> str:
    """Return what to know of a run whose end nobody saw.

    Args:
        there: the bastion.
        said: what was said last.
        cut: whether the connection was cut, and ansible-runner is not known to have died.
    """
    what = f"The connection to {there} was lost before the run ended" if cut else f"ansible-runner on {there} ended without a result"
    return (
        f"{what}{': ' + said.rstrip('.') if said else ''}. The run may go on there: as long as it does, it holds the cluster, and"
        " 'ansible-playbook kubekeel.ha.lock' says so. What it leaves half done the next run completes"
    )
