"""
Who may ask a dashboard, what their browser may do with it, and the command that starts it.
"""

from __future__ import annotations

import builtins
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboards import Served, served
from journal import made_entry, made_ledger
from typer.testing import CliRunner

from bedrock_guard.cli import app
from bedrock_guard.dashboard import serving
from bedrock_guard.dashboard.gate import HEADERS

TOKEN = "correct horse battery staple"
PATHS = ["/", "/spend.json", "/static/theme.js", "/live.events", "/nothing", "/entries?since=x"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made_ledger(tmp_path_factory.mktemp("gate"), [made_entry("a")])


@pytest.fixture(scope="module")
def is_open(url: str) -> Iterator[Served]:
    with served(url) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def guarded(url: str) -> Iterator[Served]:
    with served(url, token=TOKEN, names=["Desk.Example"], host="0.0.0.0") as dashboard:
        yield dashboard


# --- what every answer says ------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/live.events"])
def test_every_answer_says_what_a_browser_may_do(is_open: Served, path: str) -> None:
    """
    Errors and files too.
    """
    answer = is_open.get(path)

    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["Cache-Control"] in ("no-store", "no-cache")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Server"] is None


# --- hosts and sites -------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"]
)
def test_another_name_is_another_server(is_open: Served, path: str, host: str) -> None:
    """
    A page whose name was made to point here (DNS rebinding) is the browser's own site.
    """
    answer = is_open.get(path, Host=host)

    assert (answer.status, "not known by that name" in answer.text) == (421, True)


def test_names_of_this_machine_are_known(is_open: Served, guarded: Served) -> None:
    """
    By any port: it may be forwarded.
    """
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8765"):
        assert is_open.get("/", Host=host).status == 200
    for host in ("desk.example:8765", "10.0.0.1:8765", "[fe80::1]:8765"):
        assert guarded.get("/", Host=host, Authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.get("/", Host="evil.example", Authorization=f"Bearer {TOKEN}").status == 421


def test_on_another_address_addresses_are_known_too() -> None:
    """
    Nobody can point one elsewhere.
    """
    door = serving.door_of("0.0.0.0", ["X.example"], TOKEN)

    assert (door.takes_addresses, serving.door_of("localhost", (), None).takes_addresses) == (True, False)
    assert {"x.example", "localhost", socket.gethostname().lower()} <= door.hosts


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_site_is_refused(is_open: Served, path: str, headers: dict[str, str]) -> None:
    """
    Also one of this machine on another port.
    """
    assert is_open.get(path, **headers).status == 403


def test_our_own_pages_and_typed_addresses_are_not(is_open: Served) -> None:
    """
    As browsers say it.
    """
    for headers in ({"Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}, {"Origin": is_open.url}):
        assert is_open.get("/stops.json", **headers).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_can_be_changed(is_open: Served, method: str) -> None:
    """
    It only reads.
    """
    answer = is_open.get("/entries", method, Content_Length="0")

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert (is_open.get("/", "HEAD").status, is_open.get("/", "HEAD").body) == (200, b"")


# --- files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/static/../gate.py",
        "/static/..%2fgate.py",
        "/static/%2e%2e/gate.py",
        "/static/vendor/../../gate.py",
        "/static//etc/passwd",
        "/static/....//gate.py",
        "/static/..\\gate.py",
        "/static/%00",
        "/static/",
        "/static",
        "/../../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_address_is_a_path(is_open: Served, path: str) -> None:
    """
    Files are known by name when the server starts.
    """
    answer = is_open.get(path)

    assert answer.status in (307, 404)
    assert b"root:" not in answer.body
    assert b"Gate" not in answer.body


def test_files_are_sent_once(is_open: Served) -> None:
    """
    As what they are, licences too.
    """
    first = is_open.get("/static/charts.js")
    again = is_open.get("/static/charts.js", If_None_Match=first.headers["ETag"])

    assert "javascript" in first.headers["Content-Type"]
    assert (again.status, again.body) == (304, b"")
    assert b"MIT" in is_open.get("/static/vendor/uplot.LICENSE").body
    assert "image/svg+xml" in is_open.get("/static/icon.svg").headers["Content-Type"]


# --- the token -------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_answered(guarded: Served, path: str) -> None:
    """
    Nor with another one.
    """
    bad = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "bedrock_guard=1"},
    ]
    answers = [guarded.get(path, **headers) for headers in bad]
    separator = "&" if "?" in path else "?"
    answers.append(guarded.get(f"{path}{separator}token=%C3%A9"))

    assert {answer.status for answer in answers} == {401}
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert "open the link" in answers[0].text


def test_the_token_is_taken_once_and_kept_in_a_cookie(guarded: Served) -> None:
    """
    Which scripts cannot read, other sites cannot send, and is not the token.
    """
    first = guarded.get(f"/entries?model=x&token={TOKEN.replace(' ', '%20')}&tag=a=b")
    cookie = first.headers["Set-Cookie"]
    name = cookie.partition(";")[0]

    assert (first.status, first.headers["Location"]) == (303, "/entries?model=x&tag=a%3Db")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} >= {
        "httponly",
        "samesite=strict",
        "path=/",
    }
    assert TOKEN not in cookie
    assert guarded.get("/entries", Cookie=name).status == 200
    assert guarded.get("/entries", Authorization=f"bearer {TOKEN}").status == 200
    assert (
        guarded.get(f"//evil.example?token={TOKEN.replace(' ', '+')}").headers["Location"] == "/evil.example"
    )


# --- the command -----------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["dashboard", *arguments])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """
    Nothing is served; what would be opened.
    """
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "serve", lambda server, listening: listening.close())
    monkeypatch.setattr(webbrowser, "open", opened.append)
    return opened


def test_the_command_says_where_it_is(url: str, started: list[str]) -> None:
    """
    Without a token where only this machine can ask.
    """
    done = run("--ledger", url, "--port", "0", "--open")

    assert done.exit_code == 0, done.stderr
    (link,) = re.findall(r"http://127\.0\.0\.1:\d+/\n", done.stdout)
    assert started == [link.strip()]
    assert "token" not in done.output


def test_on_another_address_there_is_a_token(url: str, started: list[str]) -> None:
    """
    A new one each time, or one's own.
    """
    links = [run("--ledger", url, "--port", "0", "--host", "0.0.0.0").stdout for _ in range(2)]
    own = run("--ledger", url, "--port", "0", "--token", "x" * 16)
    named = CliRunner().invoke(
        app, ["dashboard", "--ledger", url, "--port", "0"], env={"BEDROCK_GUARD_DASHBOARD_TOKEN": "y" * 16}
    )
    six = run("--ledger", url, "--port", "0", "--host", "::1")
    behind = run("--ledger", url, "--port", "0", "--allow-host", "guard.example")  # a proxy lets others in

    tokens = [re.findall(r"http://127\.0\.0\.1:\d+/\?token=(\S{32})\n", link)[0] for link in links]
    assert tokens[0] != tokens[1]
    assert own.stdout.endswith(f"/?token={'x' * 16}\n")
    assert named.stdout.endswith(f"/?token={'y' * 16}\n")
    assert "/?token=" in behind.stdout
    assert "show it to nobody else" in own.stderr
    assert six.exit_code == 2 or "http://[::1]:" in six.stdout  # where this machine has no IPv6
    assert started == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--token", "short"], 2, "--token is too weak: 16 ASCII characters at least"),
        (["--token", "ü" * 20], 2, "--token is too weak"),
        (["--allow-host", "guard.example:443"], 2, "is no name of a host alone; write guard.example."),
        (["--allow-host", "https://guard.example"], 2, "is no name of a host alone"),
        (["--host", "no such host"], 2, "Nothing can listen on no such host, port 8765"),
        (["--ledger", "sqlite:///nowhere.db"], 1, "is not there: no program has used it yet."),
        (["--ledger", "memory://"], 2, "is in the memory of the program that uses it"),
    ],
)
def test_a_mistake_is_told(url: str, started: list[str], arguments: list[str], code: int, says: str) -> None:
    """
    With what to write.
    """
    done = run("--ledger", url, *arguments)

    assert (done.exit_code, done.stdout, started) == (code, "", [])
    assert says in done.stderr


def test_a_port_that_is_taken_is_told(url: str, started: list[str]) -> None:
    """
    With a way out.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--ledger", url, "--port", str(taken.getsockname()[1]))

    assert done.exit_code == 2
    assert "--port 0 takes a port that is free" in done.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2", "something_else"])
def test_without_the_extra_it_says_how_to_install_it(
    url: str, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """
    And what else is missing is a bug, not an extra.
    """
    real = builtins.__import__

    def import_(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "bedrock_guard.dashboard":
            raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.part")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", import_)
    done = run("--ledger", url)

    if package == "something_else":
        assert isinstance(done.exception, ModuleNotFoundError)
    else:
        assert (done.exit_code, done.stderr) == (
            2,
            "The dashboard is an extra: pip install 'bedrock-guard[dashboard]'\n",
        )


def test_it_serves_until_ctrl_c(url: str, tmp_path: Path) -> None:
    """
    A stream that is open does not keep it, and nothing is said on the way out.
    """
    command = [sys.executable, "-m", "bedrock_guard", "dashboard", "--ledger", url, "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        assert process.stdout is not None
        link = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{link}live.events", timeout=30) as stream:
            assert stream.readline() == b"retry: 2000\n"
            process.send_signal(signal.SIGINT)
            rest = stream.read()
        told = process.communicate(timeout=30)

    assert (process.returncode, told[0], told[1]) == (0, "", "Ctrl-C ends it.\n")
    assert rest == b"\n"


def _environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
