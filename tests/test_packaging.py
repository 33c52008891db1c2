"""The files around the code: Makefile, pins, image, compose and CI, checked without a container engine."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

ROOT = Path(__file__).parents[1]
TARGETS = ("check", "test", "test-all")
"""The targets that CI runs for each change."""


def read(name: str) -> str:
    return (ROOT / name).read_text()


def load(name: str) -> Any:
    return yaml.safe_load(read(name))


def violations(schema: str, document: Any) -> list[str]:
    text = files("check_jsonschema").joinpath(f"builtin_schemas/vendor/{schema}.json").read_text()
    definition = json.loads(text)
    errors = validator_for(definition)(definition).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, each as its name and its arguments on one line."""
    lines = [line for line in read("Dockerfile").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, " ".join(rest.split())) for name, rest in re.findall(r"^([A-Z]+) (.+)$", joined, re.MULTILINE)]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in arguments("ENV") for pair in shlex.split(rest))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = load("docker-compose.yml")
    return document


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project with the real Makefile and scripts, and only the dependencies that build its command."""
    (tmp_path / "Makefile").write_text(read("Makefile"))
    (tmp_path / "scripts").mkdir()
    for script in (ROOT / "scripts").glob("*.sh"):
        (tmp_path / "scripts" / script.name).write_text(script.read_text())
    project = re.sub(r"dependencies = \[.*?\n\]\n", "", read("pyproject.toml"), flags=re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(project)
    pins = re.split(r"\n(?=\S)", read("requirements.txt"))
    (tmp_path / "requirements.txt").write_text(next(pin for pin in pins if pin.startswith("setuptools==")))
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "__init__.py").write_text("")
    (tmp_path / "backend" / "cli.py").write_text("def main() -> None:\n    print('it runs')\n")
    return tmp_path


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Variables given to the make that runs this suite, such as another environment, must not reach these makes.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "VENV")}
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.spec("PACK-1")
def test_make_lists_its_targets() -> None:
    shown = run("make", cwd=ROOT).stdout

    for target in ("run", "fmt", "migrate", "test-long", *TARGETS):
        assert f"make {target} " in shown


@pytest.mark.spec("PACK-1")
@pytest.mark.parametrize("target", ["run", "migrate", "fmt", "test-long", *TARGETS])
def test_a_target_prepares_the_environment_first(target: str) -> None:
    commands = run("make", "--dry-run", target, cwd=ROOT).stdout.splitlines()

    assert commands[0] == 'sh scripts/setup.sh ".venv"'


@pytest.mark.slow
@pytest.mark.spec("PACK-2")
def test_the_environment_is_made_once_and_again_when_the_pins_change(checkout: Path) -> None:
    assert "Preparing" in run("make", "environment", cwd=checkout).stdout
    assert run(checkout / ".venv/bin/docutalk", cwd=checkout).stdout == "it runs\n"

    assert run("make", "environment", cwd=checkout).stdout == ""

    with (checkout / "requirements.txt").open("a") as pins:
        pins.write("\n# Changed.\n")
    assert "Preparing" in run("make", "environment", cwd=checkout).stdout


@pytest.mark.slow
@pytest.mark.spec("PACK-3")
def test_a_package_with_another_hash_is_refused(checkout: Path) -> None:
    pins = checkout / "requirements.txt"
    pins.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", pins.read_text()))

    made = run("make", "environment", cwd=checkout)

    assert made.returncode != 0
    assert "hash" in made.stderr.lower()
    assert run("make", "environment", cwd=checkout).returncode != 0


@pytest.mark.spec("PACK-4")
def test_without_a_new_enough_python_one_sentence_says_so(checkout: Path, tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    (path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (path / "python3").chmod(0o755)
    for command in ("cksum", "grep"):
        found = run("sh", "-c", f"command -v {command}", cwd=tmp_path).stdout.strip()
        (path / command).symlink_to(found)

    made = run("/bin/sh", "scripts/setup.sh", ".venv", cwd=checkout, PATH=str(path))

    assert made.returncode == 1
    assert made.stderr == "DocuTalk needs Python 3.11 or newer: install it, then run make again.\n"


@pytest.mark.spec("PACK-4")
def test_a_directory_that_is_no_environment_is_never_emptied(checkout: Path) -> None:
    (checkout / "precious").mkdir()
    (checkout / "precious" / "letter").write_text("Dear all,")

    made = run("make", "environment", "VENV=precious", cwd=checkout)

    assert made.returncode != 0
    assert "is no virtual environment" in made.stderr
    assert (checkout / "precious" / "letter").read_text() == "Dear all,"


@pytest.mark.spec("PACK-5")
def test_every_requirement_is_pinned_with_hashes() -> None:
    lines = read("requirements.txt").replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line and not line.lstrip().startswith("#")]

    for requirement in requirements:
        assert re.match(r"[\w.\[\],-]+==[\w.]+ ", requirement), requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement


@pytest.mark.spec("PACK-5")
def test_every_direct_dependency_is_in_the_requirements_at_its_version() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    direct = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    pinned = set(re.findall(r"^[\w.-]+==[\w.]+", read("requirements.txt"), re.MULTILINE))

    # A package whose newer versions dropped the oldest Python is listed once per version, with a marker after a
    # semicolon; extras add others.
    assert {re.sub(r"\[.*?\]|;.*", "", dependency).strip() for dependency in direct} <= pinned
    assert set(project["build-system"]["requires"]) <= pinned


@pytest.mark.spec("PACK-6")
@pytest.mark.parametrize(
    ("found", "missing", "marks"),
    [
        ((), "Chromium and Node with npm.", "not browser and not node"),
        (("node",), "Chromium and Node with npm.", "not browser and not node"),
        (("node", "npm"), "Chromium.", "not browser"),
    ],
)
def test_test_all_says_what_it_could_not_find_and_fails_for_it_in_ci(
    checkout: Path, tmp_path: Path, found: tuple[str, ...], missing: str, marks: str
) -> None:
    python = tmp_path / "python"
    # Exits as pytest does when no test has the marks.
    python.write_text('#!/bin/sh\necho "$TEST_POSTGRES $TEST_LOGIN $*" >>calls\ncase $* in *slow*) exit 5 ;; esac\n')
    python.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "dirname", "grep", "mktemp", "rm", "xargs"):
        (tools / tool).symlink_to(Path("/bin", tool))
    for tool in found:
        (tools / tool).symlink_to(python)
    (checkout / "tests" / "of_tasks").mkdir(parents=True)
    (checkout / "tests" / "of_tasks" / "test_marked.py").write_text("@pytest.mark.database\n")
    (checkout / "tests" / "test_unmarked.py").write_text("database\n")
    command = ("/bin/sh", "scripts/test_all.sh", str(python), "2", "fast")
    environment = {"PATH": str(tools), "CHROMIUM": "", "TEST_POSTGRES": "", "TEST_LOGIN": ""}

    here = run(*command, cwd=checkout, CI="", **environment)
    in_ci = run(*command, cwd=checkout, CI="true", **environment)

    assert here.returncode == 0
    assert here.stdout.splitlines()[-1].startswith(f"Not found: {missing}")
    assert in_ci.returncode == 1
    assert in_ci.stderr.startswith(f"Not found: {missing}")
    calls = re.sub(r"cache_dir=\S+", "cache_dir=CACHE", (checkout / "calls").read_text())
    first, *on_databases = calls.splitlines()
    assert first == (
        "  -m pytest -n 3 --no-loadscope-reorder -o cache_dir=CACHE "
        f"-m (slow or browser or node) and not long and {marks}"
    )
    # They run side by side.
    assert sorted(on_databases) == [
        "16 owner -m pytest -m database and fast tests/of_tasks/test_marked.py",
        "16 plain -m pytest -m database and fast tests/of_tasks/test_marked.py",
        "18 plain -m pytest -m database and fast tests/of_tasks/test_marked.py",
    ]


UNSTEADY = """
import os
from pathlib import Path

import pytest


def runs(name):
    with Path(name).open("a") as record:
        record.write("x")
    return len(Path(name).read_text())


@pytest.mark.{mark}
@pytest.mark.parametrize("case", ["one", "two"])
def test_unsteady(case):
    database = "-".join(os.environ[name] for name in ("TEST_POSTGRES", "TEST_LOGIN") if name in os.environ)
    assert runs(f"{mark}-{{case}}" + database) >= ({failures} if case == "two" else 0)
"""


@pytest.mark.slow
@pytest.mark.spec("PACK-15")
@pytest.mark.parametrize(
    ("mark", "failures", "status", "runs"),
    [
        pytest.param("slow", 2, 0, {"slow-one": 1, "slow-two": 2}, id="flaky"),
        pytest.param("slow", 3, 1, {"slow-one": 1, "slow-two": 2}, id="broken"),
        pytest.param(
            "database",
            2,
            1,
            {
                f"database-{case}{database}": 1
                for case in ("one", "two")
                for database in ("16-owner", "16-plain", "18-plain")
            },
            id="fast",
        ),
    ],
)
def test_a_slow_test_that_failed_runs_once_more_and_is_listed_and_a_fast_one_does_not(
    checkout: Path, mark: str, failures: int, status: int, runs: dict[str, int]
) -> None:
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_unsteady.py").write_text(UNSTEADY.format(mark=mark, failures=failures))
    # Each database needs a test, or pytest fails because it finds none.
    (checkout / "tests" / "test_steady.py").write_text(
        "import pytest\n\n\n@pytest.mark.database\ndef test_steady():\n    pass\n"
    )
    command = ("/bin/sh", "scripts/test_all.sh", sys.executable, "0", "not slow")

    ended = run(*command, cwd=checkout, CI="", CHROMIUM="/bin/true")

    assert (ended.returncode != 0) == (status != 0), ended.stdout + ended.stderr
    assert {path.name: len(path.read_text()) for path in checkout.glob(f"{mark}-*")} == runs
    flaky = "Flaky, since they failed and then passed alone:\n  tests/test_unsteady.py::test_unsteady[two]\n"
    assert ended.stdout.endswith(flaky) == (status == 0)


@pytest.mark.spec("PACK-6")
def test_the_mark_of_each_database_test_stands_in_its_file(request: pytest.FixtureRequest) -> None:
    marked = {item.path for item in request.session.items if item.get_closest_marker("database")}

    # `make test-all` finds the files by this mark.
    assert [path.name for path in marked if "mark.database" not in path.read_text()] == []


@pytest.mark.spec("PACK-7")
def test_ci_calls_the_targets_that_people_call() -> None:
    workflow = load(".github/workflows/ci.yml")
    tests = workflow["jobs"]["tests"]

    assert violations("github-workflows", workflow) == []
    assert workflow["permissions"] == {"contents": "read"}
    assert tests["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert [step["run"] for step in tests["steps"] if "run" in step] == [f"make {name}" for name in TARGETS]
    assert re.findall(r"^timeout \d+ make (\S+)$", read(".ci/run"), re.MULTILINE) == list(TARGETS)
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.spec("PACK-16")
def test_the_endurance_tests_run_every_night() -> None:
    workflow = load(".github/workflows/nightly.yml")
    (job,) = workflow["jobs"].values()

    assert violations("github-workflows", workflow) == []
    assert workflow["permissions"] == {"contents": "read"}
    assert [trigger["cron"] for trigger in workflow["on"]["schedule"]] == ["17 2 * * *"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test-long"]


@pytest.mark.spec("PACK-16")
def test_every_test_has_a_target_that_runs_it() -> None:
    long = run("make", "--dry-run", "test-long", cwd=ROOT).stdout
    fast = re.search(r'-m "(not .*)"', run("make", "--dry-run", "test", cwd=ROOT).stdout)

    assert fast is not None
    assert set(fast[1].removeprefix("not ").split(" and not ")) == {"slow", "browser", "node", "long"}
    assert "-m pytest -m long" in long
    assert f'"{fast[1]}"' in long


def bin_with(directory: Path, **programs: str) -> str:
    """Make a directory the whole PATH: what the shell needs, and these programs with their scripts."""
    directory.mkdir()
    for tool in ("cat", "chmod", "cksum", "mkdir", "sh"):
        (directory / tool).symlink_to(Path("/bin", tool) if Path("/bin", tool).exists() else Path("/usr/bin", tool))
    for name, script in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return str(directory)


NPM = """
[ "$1" = ci ] || exit 0
echo "$*" >>installed
mkdir -p node_modules/.bin
for tool in tsc biome; do
    printf '#!/bin/sh\\necho %s >>checked; [ %s != "$BROKEN" ]\\n' $tool $tool >node_modules/.bin/$tool
    chmod +x node_modules/.bin/$tool
done
"""


@pytest.mark.spec("PACK-17")
@pytest.mark.parametrize(
    "programs",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"node": "exit 0"}, id="no npm"),
        pytest.param({"node": "exit 1", "npm": NPM}, id="too old"),
    ],
)
def test_without_node_the_page_is_not_checked_which_is_said_and_fails_in_ci(
    checkout: Path, tmp_path: Path, programs: dict[str, str]
) -> None:
    path = bin_with(tmp_path / "bin", **programs)

    here = run("/bin/sh", "scripts/check_page.sh", cwd=checkout, PATH=path, CI="")
    in_ci = run("/bin/sh", "scripts/check_page.sh", cwd=checkout, PATH=path, CI="true")

    sentence = "The page's scripts were not checked: install Node.js 18 or newer with npm, then run make check again.\n"
    assert (here.returncode, here.stderr) == (0, sentence)
    assert (in_ci.returncode, in_ci.stderr) == (1, sentence)


@pytest.mark.spec("PACK-17")
@pytest.mark.parametrize(("broken", "status"), [("", 0), ("tsc", 1), ("biome", 1)])
def test_the_page_is_checked_for_types_and_by_a_linter(
    checkout: Path, tmp_path: Path, broken: str, status: int
) -> None:
    path = bin_with(tmp_path / "bin", node="exit 0", npm=NPM)
    for name in ("package.json", "package-lock.json"):
        (checkout / name).write_text("{}")

    checked = run("/bin/sh", "scripts/check_page.sh", cwd=checkout, PATH=path, BROKEN=broken)

    assert checked.returncode == status
    assert (checkout / "checked").read_text().split() == ["tsc", "biome"]
    assert "sh scripts/check_page.sh" in run("make", "--dry-run", "check", cwd=ROOT).stdout.splitlines()


@pytest.mark.spec("PACK-18")
def test_the_pages_tools_are_installed_once_and_again_when_their_pins_change(checkout: Path, tmp_path: Path) -> None:
    path = bin_with(tmp_path / "bin", node="exit 0", npm=NPM)
    for name in ("package.json", "package-lock.json"):
        (checkout / name).write_text("{}")

    installed = []
    for pins in ("{}", "{}", '{"changed": true}'):
        (checkout / "package-lock.json").write_text(pins)
        assert run("/bin/sh", "scripts/check_page.sh", cwd=checkout, PATH=path).returncode == 0
        installed.append(len((checkout / "installed").read_text().splitlines()))

    assert installed == [1, 1, 2]


@pytest.mark.spec("PACK-18")
def test_the_pages_tools_are_pinned_and_come_from_the_public_registry() -> None:
    project, lock = json.loads(read("package.json")), json.loads(read("package-lock.json"))
    root, *packages = lock["packages"].values()

    assert project.keys() == {"private", "description", "engines", "devDependencies"}
    assert project["private"] is True
    assert root["devDependencies"] == project["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in project["devDependencies"].values())
    for package in packages:
        assert package["dev"] is True
        assert package["resolved"].startswith("https://registry.npmjs.org/")
        assert package["integrity"].startswith("sha512-")


@pytest.mark.spec("PACK-19")
def test_the_hooks_run_what_make_check_runs() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    commands = {hook["entry"] for hook in repository["hooks"] if hook["id"] != "whitespace"}

    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert commands == set(run("make", "--dry-run", "check", cwd=ROOT).stdout.splitlines()[1:])


@pytest.mark.spec("PACK-19")
@pytest.mark.parametrize(
    ("file", "text", "status"),
    [
        ("notes.md", "Clean.\n", 0),
        ("notes.md", "Blanks at the end.  \n", 2),
        ("notes.md", "<<<<<<< ours\n", 2),
        ("backend/web/vendor/marked/marked.esm.js", "As it came.  \n", 0),
    ],
)
def test_a_hook_refuses_trailing_whitespace_and_merge_markers(
    tmp_path: Path, file: str, text: str, status: int
) -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    (entry,) = [hook["entry"] for hook in repository["hooks"] if hook["id"] == "whitespace"]
    run("git", "init", "--quiet", cwd=tmp_path)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    run("git", "add", ".", cwd=tmp_path)

    assert run(*shlex.split(entry), cwd=tmp_path).returncode == status


@pytest.mark.spec("PACK-8")
def test_the_image_runs_the_service_as_a_user_without_rights() -> None:
    user = arguments("USER")[-1]

    assert arguments("FROM")[-1] == f"python:{read('.python-version').strip()}-slim"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert json.loads(arguments("CMD")[-1]) == ["docutalk", "serve"]
    assert json.loads(arguments("ENTRYPOINT")[-1]) == ["tini", "--"]
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    assert image_environment().items() >= {"HOST": "0.0.0.0", "PORT": "8000", "DATA_DIR": "/data"}.items()  # noqa: S104


@pytest.mark.spec("PACK-8")
def test_the_image_installs_only_what_runs_with_its_hashes_checked() -> None:
    installs = [line for line in arguments("RUN") if "pip install" in line]

    assert any(
        "--require-hashes --constraints requirements.txt --requirements pyproject.toml" in line for line in installs
    )
    assert all("--group" not in line for line in installs)
    assert all(re.search(r":\d+\.\d+\.\d+ ", line) for line in arguments("COPY") if "ghcr.io" in line)


@pytest.mark.spec("PACK-9")
def test_the_image_is_built_from_the_code_alone() -> None:
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for line in arguments("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }

    assert "*" in read(".dockerignore").splitlines()
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert not [name for name in image_environment() if re.search(r"SECRET|PASSWORD|TOKEN|_KEY|_URL$", name)]
    assert arguments("ARG") == []


@pytest.mark.spec("PACK-10")
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_images_health_check_asks_the_service_on_its_port(status: int, healthy: bool) -> None:
    asked = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        _, program, *options = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
        checked = run(sys.executable, program, *options, cwd=ROOT, PORT=str(server.server_port), no_proxy="*")
        thread.join()

    assert asked == ["/health"]
    assert (checked.returncode == 0) is healthy


@pytest.mark.spec("PACK-11")
def test_the_compose_file_is_valid(compose: dict[str, Any]) -> None:
    assert violations("compose-spec", compose) == []


@pytest.mark.spec("PACK-11")
def test_every_variable_of_the_compose_file_is_a_documented_setting(compose: dict[str, Any]) -> None:
    documented = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]*)=", read(".env.example"), re.MULTILINE))
    interpolated = set(re.findall(r"\$\{?(\w+)", read("docker-compose.yml")))
    given = {name for part in ("environment", "secrets") for name in compose["services"]["backend"][part]}

    assert interpolated <= documented
    assert given <= documented


@pytest.mark.spec("PACK-12")
def test_compose_starts_the_database_then_the_migrations_then_the_service(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert {name for name, service in services.items() if "profiles" not in service} == {
        "db",
        "migrate",
        "backend",
    }
    assert services["migrate"]["command"] == ["docutalk", "migrate"]
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    for name in ("backend", "worker"):
        assert services[name]["depends_on"] == {
            "db": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert services["worker"]["profiles"] == ["worker"]
    assert services["redis"]["profiles"] == ["redis"]


@pytest.mark.spec("PACK-12")
def test_composes_database_is_postgres_16_with_pgvector_on_loopback(compose: dict[str, Any]) -> None:
    database = compose["services"]["db"]

    assert database["image"] == "pgvector/pgvector:pg16"
    assert database["container_name"] == "docutalk-db"
    assert compose["services"]["backend"]["container_name"] == "docutalk-backend"
    assert database["environment"].items() >= {"POSTGRES_USER": "docutalk", "POSTGRES_DB": "docutalk"}.items()
    assert database["ports"] == ["127.0.0.1:5432:5432"]
    assert database["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-U", "docutalk"]
    assert database["healthcheck"]["interval"] == "5s"
    assert database["volumes"] == ["postgres_data:/var/lib/postgresql/data"]
    assert "postgres_data" in compose["volumes"]


@pytest.mark.spec("PACK-13")
def test_a_container_of_compose_can_do_no_more_than_it_must(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["stop_grace_period"] == "15s", name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert "privileged" not in service, name
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest"), name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${HOST:-127.0.0.1}:")), name


@pytest.mark.spec("PACK-14")
def test_compose_holds_no_secret_but_names_their_files(compose: dict[str, Any], checkout: Path) -> None:
    for name, service in compose["services"].items():
        secret = re.compile(r"(PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL)$")
        given = service.get("environment", {})
        assert not [variable for variable, value in given.items() if secret.search(variable) and value != ""], name

    run("make", "secrets", cwd=checkout)

    for name, source in compose["secrets"].items():
        assert source == {"file": f"./secrets/{name}"}
        assert (checkout / source["file"]).is_file()


@pytest.mark.spec("PACK-14")
def test_make_secrets_makes_a_password_once_and_puts_it_into_the_url(checkout: Path) -> None:
    made = run("make", "secrets", cwd=checkout)
    password = (checkout / "secrets/POSTGRES_PASSWORD").read_text()
    again = run("make", "secrets", cwd=checkout)

    assert (made.returncode, again.returncode) == (0, 0)
    assert re.fullmatch(r"[0-9a-f]{64}", password)
    assert (checkout / "secrets/POSTGRES_PASSWORD").read_text() == password
    assert (checkout / "secrets/DATABASE_URL").read_text() == f"postgresql://docutalk:{password}@db:5432/docutalk"
    assert (checkout / "secrets/SECRET_KEY").read_text() != password
    assert (checkout / "secrets").stat().st_mode & 0o777 == 0o700
    assert (checkout / "secrets/SECRET_KEY").stat().st_mode & 0o777 == 0o644
