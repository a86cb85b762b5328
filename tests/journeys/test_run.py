"""
`bedrock-guard run`: programs of their own, which know of no guard.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from bedrock_guard import Guard, guard, unguard
from bedrock_guard.cli import app
from bedrock_guard.cli.program import run_program
from bedrock_guard.cli.run import _check_command, _table
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks.attach import owners_of
from bedrock_guard.running import RUNS_VARIABLE, RunGuard, environment, open_run
from bedrock_guard.testing.bedrock_server import BedrockServer

ROOT = Path(__file__).resolve().parents[2]
# What one call costs of Nova Lite, on the loopback server: 1 token in, 100 out, at 0.06 and 0.24 USD a million.
ONE_CALL = Decimal("0.00002406")
CALL = """\
import os, subprocess, sys

def call(maker=None):
    import boto3
    client = (maker or boto3.client)("bedrock-runtime", region_name="us-east-1", endpoint_url=os.environ["URL"])
    client.converse(
        modelId="amazon.nova-lite-v1:0",
        messages=[{"role": "user", "content": [{"text": "hi"}]}],
        inferenceConfig={"maxTokens": 100},
    )

"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: BedrockServer) -> None:
    paths = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *([paths] if paths else [])]))
    monkeypatch.setenv("URL", server.url)
    # Where a user's state is kept.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(code: str) -> str:
        path = tmp_path / "agent.py"
        path.write_text(CALL + textwrap.dedent(code))
        return str(path)

    return write


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["run", *arguments])


def bill_of(budget: str, *command: str) -> tuple[int, dict[str, Any]]:
    done = run("--budget", budget, "--json", "bill.json", "--", *command)
    return done.exit_code, json.loads(Path("bill.json").read_text())


def test_every_python_that_a_program_starts_is_guarded(
    server: BedrockServer, write: Callable[[str], str]
) -> None:
    """
    Frameworks make their own clients, sessions and processes; a shell between them changes nothing.
    """
    agent = write(
        """
        import multiprocessing

        if __name__ == "__main__":
            if sys.argv[1:]:
                import botocore.session
                sys.exit(call(botocore.session.get_session().create_client))
            call()
            subprocess.run(["sh", "-c", f"{sys.executable} {__file__} child"], check=True)
            for method in ("spawn", "fork"):
                process = multiprocessing.get_context(method).Process(target=call)
                process.start()
                process.join()
                assert process.exitcode == 0
            sys.exit(5)
        """
    )

    code, bill = bill_of("1 USD", sys.executable, agent)

    assert (code, bill["program_exit_code"], bill["stopped"]) == (5, 5, False)
    assert bill["calls"] == len(server.requests) == 4
    assert bill["models"][0]["usage"] == {"input_tokens": 4, "output_tokens": 400}
    assert Decimal(bill["cost_usd"]) == Decimal(bill["budgets"][0]["spent"]) == 4 * ONE_CALL


def test_a_run_that_is_refused_ends_with_3(server: BedrockServer, write: Callable[[str], str]) -> None:
    """
    Whatever the program makes of it, whoever started it must be able to tell; and nothing is sent above
    the limit.
    """
    agent = write(
        """
        from bedrock_guard import BudgetExceeded
        try:
            while True:
                call()
        except BudgetExceeded:
            pass
        """
    )

    done = run("--budget", "0.0001 USD", "--json", "bill.json", "--", sys.executable, agent)
    bill = json.loads(Path("bill.json").read_text())

    assert (done.exit_code, bill["program_exit_code"], bill["stopped"]) == (3, 0, True)
    assert bill["refused_by_budget"] == {"run": 1}
    # A call is held at 0.00004068, so that three of them fit, and a fourth does not.
    assert bill["calls"] == len(server.requests) == 3
    assert "bedrock-guard: stopped; the program ended with 0" in done.stderr
    assert "amazon.nova-lite-v1:0      3      3     300        0 %  $0.00007218" in done.stderr


@pytest.mark.slow
def test_a_program_cannot_edit_its_limit(
    server: BedrockServer, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What was resolved travels, not the file; one that lies about is not read at all.
    """
    # This sink makes a session while the guard is opened, to learn its region; nobody hears it.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    Path("limit.toml").write_text(
        '[budgets.mine]\nlimit = "0.000001 USD"\nalerts = []\n[tags]\nteam = "search"\n'
        '[[sinks]]\nuse = "eventbridge"\nendpoint_url = "http://127.0.0.1:1"\n'
    )
    agent = write(
        """
        for name in ("limit.toml", "bedrock-guard.toml"):
            with open(name, "w") as file:
                file.write('budget = "100 USD"')
        sys.exit(subprocess.call([sys.executable, "-c", f"exec(open({__file__!r}).read().split('for')[0]); call()"]))
        """
    )

    done = run("--config", "limit.toml", "--json", "bill.json", "--", sys.executable, agent)
    bill = json.loads(Path("bill.json").read_text())

    assert (done.exit_code, bill["refused_by_budget"]) == (3, {"mine": 1})
    assert server.requests == ()


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "spared"), [(400, False), (60, True)])
def test_no_figure_of_the_bill_is_cut(columns: int, spared: bool) -> None:
    """
    A pipe has no width, and a cost that is cut is another cost; a narrow screen does without what it can.
    """
    out = Console(file=io.StringIO(), width=columns)
    rows = [
        ("model", "calls", "input", "output", "cache read input", "cache hit", "cost"),
        (
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "131",
            "402,118",
            "26,210",
            "3,108,240",
            "88.5 %",
            "$2.78",
        ),
    ]

    out.print(_table(rows, out))
    text = out.file.getvalue()  # type: ignore[attr-defined]

    assert "…" not in text
    assert {"131", "$2.78"} <= set(text.split())
    assert ("3,108,240" not in text) is spared
    assert max(map(len, text.splitlines())) <= columns


def test_a_rate_holds_up_and_stops_nobody(write: Callable[[str], str], tmp_path: Path) -> None:
    """
    A program that comes back later was not stopped. With a period, runs share a ledger that is no program's.
    """
    agent = write(
        """
        from bedrock_guard import BudgetExceeded
        try:
            while True:
                call()
        except BudgetExceeded:
            pass
        """
    )

    code, bill = bill_of("calls: 1 requests/second", sys.executable, agent)

    assert (code, bill["stopped"], bill["refused"]) == (0, False, 1)
    assert [path.name for path in (tmp_path / "state" / "bedrock-guard").glob("*.db")] == ["run.db"]


def test_a_python_without_a_client_pays_nothing_and_keeps_its_own_sitecustomize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A program may start pip and ruff, and a user may have set Python up.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sitecustomize.py").write_text("import builtins\nbuiltins.mine = True\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mine'}{os.pathsep}{os.environ['PYTHONPATH']}")
    code = (
        "import sys; json = 'json' in sys.modules; import boto3; "
        "sys.exit(40 + mine + 2 * ('bedrock_guard' in sys.modules) + 4 * json)"
    )
    base = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

    started = open_run(tmp_path, budgets=["1 USD"])
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment(started, base))

    assert done.returncode == 41
    assert started.is_seen


@pytest.mark.slow
def test_a_python_that_cannot_be_guarded_gets_no_client(tmp_path: Path) -> None:
    """
    Without its settings there is no limit, and so no call: not at the second attempt either.
    """
    code = """if True:
        for _ in range(2):
            try:
                import boto3
                boto3.client("bedrock-runtime", region_name="us-east-1")
            except SystemExit as error:
                print(error.code)
        """
    lost = {**environment(open_run(tmp_path, budgets=["1 USD"]), os.environ), RUNS_VARIABLE: ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=lost)

    assert done.stdout.split() == ["1", "1"]
    assert f"{RUNS_VARIABLE} has been taken out of the environment" in done.stderr


@pytest.mark.slow
def test_a_run_inside_a_run_is_under_both(
    server: BedrockServer, write: Callable[[str], str], tmp_path: Path
) -> None:
    """
    The inner one may not lift the limit of the outer.
    """
    folders = tmp_path / "outer", tmp_path / "inner"
    for folder in folders:
        folder.mkdir()
    outer = open_run(folders[0], budgets=["0.00005 USD"])
    inner = open_run(folders[1], budgets=["1 USD"], ledger="sqlite:///inner.db")
    agent = write("call()\ncall()")

    inside = environment(inner, environment(outer, os.environ))
    done = subprocess.run([sys.executable, agent], capture_output=True, text=True, check=False, env=inside)

    assert "BudgetExceeded: run (0.00005 USD)" in done.stderr
    assert inside["PYTHONPATH"].count("startup") == 1
    assert len(server.requests) == 1
    for each in (outer, inner):
        with Guard(settings=each.settings) as guard:
            assert [(row.spent, row.pending) for row in guard.status()] == [(ONE_CALL, 0)]


def test_async_clients_that_a_program_makes_are_guarded(
    server: BedrockServer, write: Callable[[str], str]
) -> None:
    """
    LlamaIndex, Haystack and CrewAI switch to aiobotocore by themselves when it is installed.
    """
    pytest.importorskip("aiobotocore")
    agent = write(
        """
        import asyncio
        from aiobotocore.session import get_session

        async def main():
            where = {"region_name": "us-east-1", "endpoint_url": os.environ["URL"]}
            async with get_session().create_client("bedrock-runtime", **where) as client:
                await client.converse(
                    modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}]
                )

        asyncio.run(main())
        """
    )

    code, bill = bill_of("0 USD", sys.executable, agent)

    assert (code, bill["refused"]) == (3, 1)
    assert server.requests == ()


@pytest.mark.slow
def test_signals_reach_the_program_and_its_code_comes_back(tmp_path: Path) -> None:
    """
    Who stops the command means the program, which may have something to put away.
    """
    agent = tmp_path / "waiting.py"
    agent.write_text(WAITING.format(name="SIGTERM"))
    command = [sys.executable, "-m", "bedrock_guard", "run", "--budget", "1 USD", "--", sys.executable]
    with subprocess.Popen([*command, str(agent)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    assert process.returncode == 9


# In short pauses: a signal that comes a moment before a long one would be heard when that is over.
WAITING = """\
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(9))
print('ready', flush=True)
for _ in range(1200):
    time.sleep(0.1)
"""
RUN_PROGRAM = "import os, sys; from bedrock_guard.cli.program import run_program; "


@pytest.mark.parametrize("to_group", [False, True], ids=["the command", "the group"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_reaches_the_program_whoever_it_was_sent_to(name: str, to_group: bool) -> None:
    """
    A scheduler tells the command alone, a shell's `kill` or a time-out the group; no terminal is there.
    """
    code = f"{RUN_PROGRAM}sys.exit(run_program([sys.executable, '-c', {WAITING.format(name=name)!r}], os.environ))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        send = os.killpg if to_group else os.kill
        send(process.pid, getattr(signal, name))
        process.wait(60)

    # Of the group it comes twice, and the second may come while the interpreter ends.
    twice = {128 + getattr(signal, name)} if to_group else set()
    assert process.returncode in {9} | twice


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(7)", 7),
        ("sys.exit('gone')", 1),
        ("1 / 0", 1),
        ("os._exit(255)", 255),
        ("os.kill(os.getpid(), 9)", 137),
        ("os.abort()", 134),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_a_program_ends_as_it_would_without_the_command(program: str, code: int) -> None:
    """
    Whoever starts it by its name looks at nothing else.
    """
    assert run_program([sys.executable, "-S", "-c", f"import os, sys; {program}"], os.environ) == code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "calls", "says"),
    [
        ((), 1, ""),
        (("PYTHONPATH",), 0, "makes a client and cannot be guarded"),
        (("PYTHONPATH", "BEDROCK_GUARD_RUNS", "BEDROCK_GUARD_RUN"), 0, "BudgetExceeded"),
    ],
)
def test_a_child_with_an_environment_of_its_own_is_in_the_run_as_far_as_that_goes(
    server: BedrockServer, write: Callable[[str], str], kept: tuple[str, ...], calls: int, says: str
) -> None:
    """
    What the page says of `subprocess.run(..., env={...})`: outside, refused a client, or inside.
    """
    agent = write(
        f"""
        if sys.argv[1:]:
            call()
        else:
            keep = {kept!r} + ("URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PATH")
            env = {{name: os.environ[name] for name in keep}}
            paths = [path for path in sys.path if path and "startup" not in path]
            code = f"import sys; sys.path += {{paths!r}}; sys.argv = ['x', 'child']; exec(open({{__file__!r}}).read())"
            child = subprocess.run([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)
            print(child.stderr)
            assert {says!r} in child.stderr
        """
    )

    code, bill = bill_of("0 USD", sys.executable, agent)

    assert len(server.requests) == calls
    assert (code, bill["refused"]) == ((3, 1) if says == "BudgetExceeded" else (0, 0))


def test_a_signal_before_the_program_starts_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever is impatient must not fill the disk.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def end_now(*_: object, **__: object) -> None:
        assert list(tmp_path.glob("bedrock-guard-run-*"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("bedrock_guard.running.open_run", end_now)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        done = run("--budget", "1 USD", "true")
    finally:
        signal.signal(signal.SIGTERM, before)

    assert done.exit_code == 143
    assert not list(tmp_path.glob("bedrock-guard-run-*"))


def test_a_program_that_a_signal_ends_has_the_code_that_shells_give_it() -> None:
    """
    137 is what everybody knows kill -9 by.
    """
    assert run_program(["sh", "-c", "kill -9 $$"], os.environ) == 137


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--budget", "1 USD", "no-such-program"], 127, "'no-such-program' is not found."),
        (["--budget", "1 USD", "agent.py"], 127, "Write: python agent.py"),
        (["--budget", "1 USD", "."], 126, "'.' cannot be run"),
        (["true"], 2, 'bedrock-guard run --budget "5 USD"'),
        (["--budget", "lots", "true"], 2, "'lots' is not a limit."),
        (["--budget", "1 USD", "--budget", "5 requests", "true"], 2, "Two budgets are named 'run'"),
        (["--budget", "1 USD", "--tag", "team", "true"], 2, "--tag 'team': write TAG=VALUE."),
        (["--budget", "1 USD", "--tag", "model=x", "true"], 2, "'model' is a built-in tag"),
        (["--budget", "1 USD", "--ledger", "memory://", "true"], 2, "is one process's"),
        (["--budget", "1 USD/day", "--ledger", "dynamodb://t", "true"], 2, "needs a name of its own"),
        (["--config", "none.toml", "true"], 2, "'none.toml' cannot be read"),
        (["--budget", "1 USD", "--json", "no/such/folder", "true"], 2, "No such file"),
        (["--budget", "1 USD", "--", "python3", "-Wd", "-X", "I", "-sE", "x.py"], 2, "python -E looks at no"),
        (["--budget", "1 USD", "--", "python3", "-uW", "error", "-I", "x.py"], 2, "python -I looks at no"),
        (["--budget", "1 USD", "--ledger", "sqlite:////dev/null/x.db", "true"], 1, "/dev/null/x.db"),
    ],
)
def test_what_cannot_be_run_is_said_before_it_is(arguments: list[str], code: int, text: str) -> None:
    """
    Each names what is wrong, and where it helps what to write.
    """
    done = run(*arguments)

    assert done.exit_code == code, done.output
    assert text in " ".join(done.output.split())


@pytest.mark.parametrize("flags", [["-uWerror::SyntaxWarning"], ["-W", "error", "-c", "-I"], ["-", "-E"]])
def test_flags_that_only_look_like_those_of_python_pass(flags: list[str]) -> None:
    """
    The values of options, and what is the program's.
    """
    _check_command(["python3", *flags])


def test_a_program_whose_spending_cannot_be_told_keeps_its_code(tmp_path: Path) -> None:
    """
    It may tidy up more than is its own. Success it is not: nobody knows what was spent.
    """
    agent = tmp_path / "tidy.py"
    agent.write_text(
        "import os, shutil, sys\nshutil.rmtree(os.environ['BEDROCK_GUARD_RUN'])\nsys.exit(int(sys.argv[1]))\n"
    )

    done = [run("--budget", "1 USD", "--", sys.executable, str(agent), code) for code in ("7", "0")]

    assert [each.exit_code for each in done] == [7, 1]
    assert "The program ended with 0; what it spent cannot be told. Ledger" in done[1].stderr


def test_a_zip_s_other_modules_are_left_alone(tmp_path: Path) -> None:
    """
    Their loader is botocore's, too.
    """
    with ZipFile(tmp_path / "app.pyz", "w") as file:
        file.writestr("botocore.py", "made = []\nregister_initializer = made.append\n")
        file.writestr("other.py", "")
        file.writestr(
            "__main__.py",
            "import importlib.util\nimportlib.util.find_spec('botocore')\n"
            "import botocore, other\nprint(len(botocore.made))\n",
        )

    inside = environment(open_run(tmp_path, budgets=["1 USD"]), os.environ)
    command = [sys.executable, str(tmp_path / "app.pyz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=inside)

    assert done.stdout == "1\n"


@pytest.mark.slow
def test_a_fork_while_the_guard_is_opened_can_open_it(tmp_path: Path) -> None:
    """
    The thread that was at it is not in the child, and its lock would never be free.
    """
    code = """if True:
        import os, signal, sys, threading
        import botocore.session
        from bedrock_guard import running

        reached, go_on, open_guards = threading.Event(), threading.Event(), running.open_guards

        def wait():
            reached.set()
            go_on.wait()
            return ()

        running.open_guards = wait
        threading.Thread(target=botocore.session.Session).start()
        reached.wait()
        child = os.fork()
        if not child:
            signal.alarm(30)
            running.open_guards = open_guards
            botocore.session.Session()
            os._exit(0)
        go_on.set()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    inside = environment(open_run(tmp_path, budgets=["1 USD"]), os.environ)

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False, env=inside)

    assert done.returncode == 0


def test_a_run_that_no_python_was_in_says_so() -> None:
    """
    A limit that held nothing must not look as if it had.
    """
    done = run("--budget", "1 USD", "true", "--budget")

    assert done.exit_code == 0
    assert "No Python started under the guard: nothing was limited." in done.stderr


def test_budgets_for_all_time_are_the_run_s_wherever_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a ledger that lasts, tomorrow's run must not find today's money spent; where the period says so, it must.
    """
    monkeypatch.setenv("BEDROCK_GUARD_LEDGER", "sqlite:///team.db?sync=full")

    started = open_run(tmp_path, budgets=["5 USD", "day: 9 USD/day"])

    assert started.settings["budgets"] == {
        f"run-{started.id}": {"limit": "5 USD"},
        "day": {"limit": "9 USD/day"},
    }
    assert started.ledger == f"sqlite:///{tmp_path.as_posix()}/team.db?sync=full"
    assert started.settings["tags"] == {"run": started.id}


def test_settings_that_no_variable_carries_are_refused(tmp_path: Path) -> None:
    """
    Linux would say "argument list too long" of the program.
    """
    Path("large.toml").write_text(
        '[budgets.x]\nper = "user"\n[budgets.x.limits]\n"*" = "1 USD"\n'
        + "".join(f'user-{number:06d}-of-many = "{number} USD"\n' for number in range(4_000))
    )
    started = open_run(tmp_path, config="large.toml")

    with pytest.raises(ConfigurationError, match="an environment variable carries 120,000"):
        environment(started, {})


def test_a_program_s_own_guard_stays_its_own(make_client: Callable[..., Any], tmp_path: Path) -> None:
    """
    A program that has a guard finds it as ever, and cannot take the run's off.
    """
    with RunGuard(open_run(tmp_path, budgets=["1 USD"])) as around:
        client = around.attach(make_client())
        assert Guard.of(client) is around
        guard(client, budget="2 USD", ledger="memory://")
        own = Guard.of(client)

        assert own is not None
        assert own is not around
        assert unguard(client) is client
        assert owners_of(client) == (around,)
        own.close()
