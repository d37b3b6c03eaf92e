"""Locking and installing: hashes, the server's platform, a cache, nothing of this machine. No network is used."""

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tailcut import DependencyError, ProjectError, _dependencies
from tailcut._bundle import Manifest, collect, pack

PYTHON, PLATFORM = "3.13", "x86_64-manylinux_2_28"


def wheel(folder: Path, name: str, version: str, *, requires: str = "", tag: str = "py3-none-any") -> None:
    """A wheel as a builder would make it, with a console script."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)


@pytest.fixture
def project(clean_environment: Path) -> Path:
    """A folder whose requirements can be found in a folder of wheels and nowhere else."""
    wheel(clean_environment / "wheels", "upper", "1.0", requires="lower>=1")
    wheel(clean_environment / "wheels", "upper", "2.0", requires="lower>=1")
    wheel(clean_environment / "wheels", "lower", "1.5")
    wheel(clean_environment / "wheels", "elsewhere", "1.0", tag="cp313-cp313-win_amd64")
    folder = clean_environment / "project"
    folder.mkdir()
    (folder / "main.py").write_text("def handler(): ...\n")
    require(folder, "upper<2")
    return folder


def require(folder: Path, *lines: str) -> None:
    options = f"--no-index\n--find-links {folder.parent / 'wheels'}\n"
    (folder / "requirements.txt").write_text(options + "".join(f"{line}\n" for line in lines))


def lock(folder: Path, *, python: str = PYTHON, platform: str = PLATFORM) -> _dependencies.Lock:
    wanted = _dependencies.find(folder)
    assert wanted is not None
    return _dependencies.lock(wanted, python=python, platform=platform)


def install(folder: Path) -> Path:
    wanted = _dependencies.find(folder)
    assert wanted is not None
    return _dependencies.install(lock(folder), wanted, python=PYTHON, platform=PLATFORM)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_lock_has_every_package_with_hashes_and_stays_in_the_project(project):
    locked = lock(project)
    assert set(locked.pins) == {"upper==1.0", "lower==1.5"}
    assert not locked.reused
    text = (project / "tailcut.lock").read_text()
    assert text.count("--hash=sha256:") == 2
    assert "wheels" not in text.replace("find-links", "")


def test_the_lock_is_kept_while_the_requirements_stay(project):
    first = lock(project)
    wheel(project.parent / "wheels", "lower", "1.6")
    second = lock(project)
    assert second.reused
    assert second.pins == first.pins


def test_without_the_lock_newer_releases_are_taken(project):
    lock(project)
    wheel(project.parent / "wheels", "lower", "1.6")
    (project / "tailcut.lock").unlink()
    assert "lower==1.6" in lock(project).pins


def test_a_changed_requirement_moves_only_what_it_must(project):
    lock(project)
    wheel(project.parent / "wheels", "lower", "1.6")
    require(project, "upper>=2")
    locked = lock(project)
    assert not locked.reused
    assert set(locked.pins) == {"upper==2.0", "lower==1.5"}


@pytest.mark.parametrize(("python", "platform"), [("3.12", PLATFORM), (PYTHON, "aarch64-unknown-linux-gnu")])
def test_another_python_or_platform_is_another_lock(project, python, platform):
    lock(project)
    assert not lock(project, python=python, platform=platform).reused


def test_a_change_in_an_included_file_is_noticed(project):
    (project / "more.txt").write_text("lower==1.5\n")
    require(project, "upper<2", "-c more.txt")
    assert not lock(project).reused
    assert lock(project).reused
    (project / "more.txt").write_text("lower<2\n")
    assert not lock(project).reused


def test_installed_is_what_the_wheels_hold_and_nothing_of_this_machine(project):
    folder = install(project)
    names = files(folder)
    assert "upper/__init__.py" in names
    assert "lower-1.5.dist-info/METADATA" in names
    assert [name for name in names if name.startswith("bin/") or name.endswith((".pyc", ".lock"))] == []
    for name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"):
        assert f"upper-1.0.dist-info/{name}" not in names
    everything = b"".join((folder / name).read_bytes() for name in names)
    assert str(project.parent).encode() not in everything
    assert sys.prefix.encode() not in everything
    record = (folder / "upper-1.0.dist-info" / "RECORD").read_text().splitlines()
    assert record == sorted(record)
    assert {line.rsplit(",", 2)[0] for line in record} <= set(names)


def test_installed_twice_gives_the_same_bundle(project, monkeypatch):
    def bundle(cache: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(project.parent / cache))
        sources = collect(code=project, packages=install(project), exclude=())
        output = project.parent / f"{cache}.zip"
        return pack(sources=sources, manifest=Manifest("main:handler", PYTHON), output=output).sha256

    assert bundle("one") == bundle("two")


def test_the_second_time_comes_from_the_cache(project, monkeypatch):
    first = install(project)
    monkeypatch.setattr(_dependencies, "_uv_path", lambda: "/nonexistent/uv")
    assert install(project) == first


def test_the_resolvers_own_words_on_failure(project):
    require(project, "upper>=3")
    with pytest.raises(DependencyError) as caught:
        lock(project)
    assert "upper>=3" in caught.value.output
    assert "unsatisfiable" in caught.value.output
    assert not (project / "tailcut.lock").exists()


def test_no_wheel_for_the_servers_platform_is_said_at_deploy(project):
    require(project, "elsewhere")
    with pytest.raises(DependencyError) as caught:
        lock(project)
    assert "elsewhere" in caught.value.output


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(project):
    lock(project)
    tampered = project / "tailcut.lock"
    text = tampered.read_text()
    digest = text.split("sha256:")[2][:64]
    tampered.write_text(text.replace(digest, "0" * 64))
    with pytest.raises(DependencyError) as caught:
        install(project)
    assert "hash" in caught.value.output.lower()


def test_dependencies_of_pyproject(project):
    (project / "requirements.txt").unlink()
    links = project.parent / "wheels"
    (project / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\ndependencies = ["upper<2"]\n'
        f'[tool.uv]\nno-index = true\nfind-links = ["{links}"]\n'
    )
    assert set(lock(project).pins) == {"upper==1.0", "lower==1.5"}
    assert "upper/__init__.py" in files(install(project))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "# nothing yet\n\n"),
        ("pyproject.toml", "[tool.black]\n"),
        ("pyproject.toml", '[project]\nname = "x"\ndependencies = []\n'),
        ("other.txt", "upper\n"),
    ],
)
def test_no_requirements(clean_environment, name, text):
    (clean_environment / name).write_text(text)
    assert _dependencies.find(clean_environment) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[project]\nname = "x"\ndynamic = ["dependencies"]\n', "dynamic"),
        ('[project]\nname = "x"\ndependencies = "upper"\n', "no list"),
        ('[project]\nname = "x"\ndependencies = [1]\n', "no list"),
        ("[project\n", "no valid TOML"),
    ],
)
def test_requirements_that_cannot_be_read(clean_environment, text, said):
    (clean_environment / "pyproject.toml").write_text(text)
    with pytest.raises(ProjectError, match=said):
        _dependencies.find(clean_environment)


@pytest.mark.parametrize("value", ["--index" + "-url=http://x", "a b", "", "x" * 65])
def test_a_server_cannot_slip_options_to_uv(project, value):
    with pytest.raises(DependencyError, match="no name"):
        lock(project, platform=value)


def test_a_lock_that_cannot_be_kept_is_a_note_and_no_failure(project):
    (project / "tailcut.lock").mkdir()
    locked = lock(project)
    assert "upper==1.0" in locked.pins
    assert "could not be written" in (locked.note or "")


def test_an_installed_package_can_be_imported(project):
    program = f"import sys; sys.path.insert(0, {str(install(project))!r}); import upper, lower; print(upper.VERSION)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "1.0\n"
