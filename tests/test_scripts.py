"""The environment that the scripts make, with stand-ins for Python and pip: nothing is installed here."""

import os
import platform
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import packaging.markers
import packaging.utils
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = [
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cp",
    "dirname",
    "env",
    "find",
    "flock",
    "grep",
    "ls",
    "mkdir",
    "readlink",
    "rm",
    "sleep",
]

# Answers the probe as a Python of $VERSION would, copies itself as a virtual environment's Python, and writes down
# every installation; what an installation then does is in the file `pip`.
PYTHON = """\
#!{bash}
here={folder}
case "$1 ${{2:-}}" in
  "-V "|"-VV ") echo "Python {version}" ;;
  "-m venv") echo >>"$here/environments"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip") echo "$@" >>"$here/commands"; . "$here/pip" ;;
  "-c ") ;;
  "-c "*) [[ {suitable} == yes ]] && echo "$0" || {{ echo "{version} does not do"; exit 1; }} ;;
  *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


class Checkout:
    """A copy of what scripts/environment reads, with a PATH on which only stand-ins for Python are found."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "checkout"
        self.path = folder / "path"
        self.root.mkdir()
        self.path.mkdir()
        shutil.copytree(REPOSITORY / "scripts", self.root / "scripts")
        shutil.copy(REPOSITORY / "pyproject.toml", self.root)
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.path / tool).symlink_to(found)
        self.pip_does("true")

    def pip_does(self, command):
        (self.folder / "pip").write_text(command + "\n")

    def add(self, name, text):
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def add_python(self, name, version="3.11.7", suitable="yes"):
        bash = shutil.which("bash")
        self.add(name, PYTHON.format(bash=bash, folder=self.folder, version=version, suitable=suitable))

    def start(self, **variables):
        return subprocess.Popen(
            [self.root / "scripts" / "environment"],
            env={"PATH": str(self.path)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, **variables):
        process = self.start(**variables)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output.strip(), errors

    def installations(self):
        return len(self._lines("environments"))

    def commands(self):
        """What pip was asked for."""
        return self._lines("commands")

    def _lines(self, name):
        log = self.folder / name
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_environment_is_made_once(checkout):
    checkout.add_python("python3")
    status, python, errors = checkout.run()
    assert status == 0, errors
    assert python == str(checkout.root / ".venv/bin/python")
    assert checkout.run() == (0, python, "")
    assert checkout.installations() == 1


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="hashes are for Linux x86_64"
)
def test_files_are_installed_by_their_hashes_where_these_are_known(checkout):
    checkout.add_python("python3", version="3.11.7")
    status, _, errors = checkout.run()
    assert status == 0, errors
    build, packages, itself, check = checkout.commands()
    assert "--require-hashes --no-deps" in build
    assert packages.endswith("--require-hashes --no-deps --no-build-isolation -r scripts/hashes.txt")
    assert itself.endswith("--no-deps --no-build-isolation -e .[demo,test]")
    assert check == "-m pip check"


def test_versions_are_pinned_where_hashes_are_not_known(checkout):
    checkout.add_python("python3", version="3.99.1")
    checkout.pip_does("[[ $PIP_CONSTRAINT$PIP_BUILD_CONSTRAINT == *constraints.txt*constraints.txt ]]")
    status, _, errors = checkout.run()
    assert status == 0, errors
    (itself,) = checkout.commands()
    assert "--no-deps" not in itself


def test_every_pinned_version_has_a_hash():
    pins = {}
    for line in (REPOSITORY / "scripts/constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin, _, marker = line.partition(" ; ")
            name, _, version = pin.partition("==")
            for python in ("3.11", "3.12"):
                if not marker or packaging.markers.Marker(marker).evaluate({"python_version": python}):
                    pins[packaging.utils.canonicalize_name(name), python] = version
    hashes = {}
    for line in (REPOSITORY / "scripts/hashes.txt").read_text().splitlines():
        if found := re.fullmatch(r'(\S+)==(\S+) ; python_version == "(\S+)" --hash=sha256:[0-9a-f]{64}', line):
            hashes[packaging.utils.canonicalize_name(found[1]), found[3]] = found[2]
    assert hashes == pins


def test_a_link_to_a_script_is_the_script(checkout):
    checkout.add_python("python3")
    (checkout.folder / "link").symlink_to(checkout.root / "scripts" / "environment")
    run = subprocess.run(
        [checkout.folder / "link"], env={"PATH": str(checkout.path)}, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, str(checkout.root / ".venv/bin/python")), run.stderr


def test_no_suitable_python_is_reported_with_the_remedy(checkout):
    checkout.add_python("python3", version="3.9", suitable="no")
    status, output, errors = checkout.run()
    assert (status, output) == (1, "")
    for text in ("3.11 or newer", "python3: 3.9 does not do", "python3.12: not there", "apt-get install", "PYTHON="):
        assert text in errors
    assert not (checkout.root / ".venv").exists()


def test_shim_that_does_not_run_is_skipped(checkout):
    checkout.add("python3", f"#!{shutil.which('bash')}\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    checkout.add_python("python3.12", version="3.12.1")
    status, _, errors = checkout.run()
    assert status == 0, errors
    assert "with Python 3.12.1" in errors


def test_named_python_is_not_replaced_by_another(checkout):
    checkout.add_python("python3")
    checkout.add_python("python2", version="2.7", suitable="no")
    status, _, errors = checkout.run(PYTHON="python2")
    assert status == 1
    assert "python2: 2.7 does not do" in errors


@pytest.mark.parametrize("changed", ["pyproject.toml", "scripts/constraints.txt", "scripts/hashes.txt"])
def test_changed_requirements_are_installed(checkout, changed):
    checkout.add_python("python3")
    checkout.run()
    with (checkout.root / changed).open("a") as file:
        file.write("# changed\n")
    (checkout.root / ".venv/left-over").touch()
    assert checkout.run()[0] == 0
    assert checkout.installations() == 2
    assert not (checkout.root / ".venv/left-over").exists()


def test_another_python_is_noticed(checkout):
    checkout.add_python("python3")
    checkout.add_python("python3.12", version="3.12.1")
    checkout.run()
    checkout.run(PYTHON="python3.12")
    assert checkout.installations() == 2


def test_moved_checkout_is_noticed(checkout):
    checkout.add_python("python3")
    checkout.run()
    checkout.root = checkout.root.rename(checkout.folder / "moved")
    assert checkout.run()[1] == str(checkout.root / ".venv/bin/python")
    assert checkout.installations() == 2


def test_environment_whose_python_is_gone_is_made_anew(checkout):
    checkout.add_python("python3")
    checkout.run()
    (checkout.root / ".venv/bin/python").unlink()
    assert checkout.run()[0] == 0
    assert checkout.installations() == 2


def test_failed_installation_is_reported_and_repeated(checkout):
    checkout.add_python("python3")
    checkout.pip_does("echo 'pip: no network' >&2; exit 1")
    status, output, errors = checkout.run()
    assert (status, output) == (1, "")
    assert "pip: no network" in errors
    assert "pip could not install" in errors
    checkout.pip_does("true")
    assert checkout.run()[0] == 0
    assert checkout.installations() == 2


def test_interrupted_installation_is_done_again(checkout):
    checkout.add_python("python3")
    checkout.pip_does('echo >"$here/started"; sleep 60')
    process = checkout.start()
    while not (checkout.folder / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (checkout.root / ".venv/half").touch()
    checkout.pip_does("true")
    assert checkout.run()[0] == 0
    assert checkout.installations() == 2
    assert not (checkout.root / ".venv/half").exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_scripts_started_together_install_once(checkout):
    checkout.add_python("python3")
    checkout.pip_does("sleep 0.2")
    processes = [checkout.start() for _ in range(3)]
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert answers == {str(checkout.root / ".venv/bin/python")}
    assert checkout.installations() == 1


def test_folder_of_another_user_is_not_changed(checkout):
    checkout.add_python("python3")
    theirs = checkout.folder / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").touch()
    status, _, errors = checkout.run(VENV=str(theirs))
    assert status == 1
    assert "was not made by this script" in errors
    assert [file.name for file in theirs.iterdir()] == ["thesis.tex"]
