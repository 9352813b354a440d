"""A results directory that machines share: what one computed another takes, if it is whole."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config.options import parse_options
from harness.config.recipe import Layer
from harness.core import digest
from harness.errors import OptionError, StoreError
from harness.results import lease as leases
from harness.results.adapter_files import ADAPTER, FILES, is_complete
from harness.results.baseline import write_baseline
from harness.results.brought import brought
from harness.results.lease import Lease
from harness.results.objects import Objects
from harness.results.reading import snapshot
from harness.results.remote import Remote, RemoteWarning
from tests.builders import ROOT
from tests.builders.cells import CELL, MEASUREMENT
from tests.builders.remote import CREDENTIALS, Bucket, fake_adapter, machine
from tests.builders.runs import make_run

NAME = f"cells/{CELL.id}-{CELL.key[:16]}.json"
OLD = f"cells/old-name-{CELL.key[:16]}.json"


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place that machines share."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("s3")
        yield bucket.url
    elif request.param == "file":
        yield f"file://{tmp_path}/shared/team"
    else:
        yield f"memory://{uuid.uuid4().hex}/team"


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A folder as a URL, where any place would do."""
    return f"file://{tmp_path}/shared"


# --------------------------------------------------------------------- which place is meant


def test_a_url_is_a_place_elsewhere_with_a_folder_here(clean_cache: Path) -> None:
    options = parse_options({"results_dir": "s3://bucket/some/team/"})
    assert options.results_url == "s3://bucket/some/team"
    assert options.results_dir.parent == clean_cache / "results"
    assert options.results_dir.name.startswith("team-")
    assert options.given("results_dir")
    other = parse_options({"results_dir": "s3://bucket/other/team"})
    assert other.results_dir != options.results_dir
    assert parse_options({"results_dir": "some/team"}).results_url is None
    layer = Layer("pyproject.toml: ", Path("/anchor"), {"results_dir": "gs://bucket/team"})
    assert parse_options({}, layer).results_url == "gs://bucket/team"


@pytest.mark.parametrize("text", ["http://bucket/team", "s3://", "s3:///", "://x"])
def test_a_url_of_another_kind(text: str) -> None:
    with pytest.raises(OptionError, match=r"--results-dir=.*: expected a folder, or the URL .*s3"):
        parse_options({"results_dir": text})


def test_without_a_url_nothing_remote_is_imported(tmp_path: Path) -> None:
    code = """if 1:
        import sys
        from pathlib import Path
        import harness.cli, harness.plugin
        from harness.config.options import parse_options
        from harness.results.store import Store
        from harness.run.bench import Bench
        from harness.run.plan import make_plan
        options = parse_options({"results_dir": sys.argv[1], "strategy": "zeroshot"})
        bench = Bench(make_plan(options))
        bench.store.prepare()
        bench.store.read("exams/x.json", str)
        bench.store.remote.publish()
        far = ("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiohttp", "asyncio")
        print(sorted(name for name in sys.modules if name.split(".")[0] in far))
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "results")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------- cells


def test_what_one_machine_measured_another_has(url: str, tmp_path: Path) -> None:
    one, other = (machine(url, tmp_path / name) for name in ("one", "other"))
    one.prepare()
    assert other.get(CELL) is None
    one.put(MEASUREMENT)
    assert one.remote.objects.names() == ["adaptbench-results.json", NAME]
    assert other.get(CELL) == MEASUREMENT
    copy = tmp_path / "other" / NAME
    assert copy.read_bytes() == (tmp_path / "one" / NAME).read_bytes()
    one.remote.objects.remove(NAME)  # from now on it is here
    assert other.get(CELL) == MEASUREMENT


def test_a_cell_is_found_under_another_name(url: str, tmp_path: Path) -> None:
    one, other = (machine(url, tmp_path / name) for name in ("one", "other"))
    one.put(dataclasses.replace(MEASUREMENT, cell=dataclasses.replace(CELL, id="old-name")))
    assert one.remote.objects.names() == [OLD]
    assert other.get(CELL) == MEASUREMENT
    assert other.path(CELL) == tmp_path / "other" / OLD


def _resealed(text: str) -> str:
    body = json.loads(text)
    body["cell"]["seed"], body["key"] = 1, "another"
    del body["checksum"]
    return json.dumps({**body, "checksum": digest(body)})


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "tampered": lambda data: data.replace(b'"nll": 1.1', b'"nll": 1.2'),
    "another cell's": lambda data: _resealed(data.decode()).encode(),
    "not text": lambda data: b"\xff\xfe",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused_named_and_replaced(place: str, tmp_path: Path, damage: Any) -> None:
    one, other, third = (machine(place, tmp_path / name) for name in ("one", "other", "third"))
    one.put(dataclasses.replace(MEASUREMENT, cell=dataclasses.replace(CELL, id="old-name")))
    there = one.remote.objects
    there.write(OLD, damage(there.read(OLD)))
    with pytest.warns(RemoteWarning, match=rf"{place}/{OLD} is damaged \(.*computed again"):
        assert other.get(CELL) is None
    assert not list((tmp_path / "other").rglob("*.json"))
    other.put(MEASUREMENT)
    assert there.names() == [NAME]  # the damaged one, of the same key, is gone
    assert third.get(CELL) == MEASUREMENT


def test_truncated_on_s3(s3: Bucket, tmp_path: Path) -> None:
    one, other = (machine(s3.url, tmp_path / name) for name in ("one", "other"))
    one.put(MEASUREMENT)
    path = f"{s3.name}/team/{NAME}"
    s3.fs.pipe_file(path, s3.fs.cat_file(path)[:100])
    with pytest.warns(RemoteWarning, match=f"{s3.url}/{NAME} is damaged"):
        assert other.get(CELL) is None
    other.put(MEASUREMENT)
    assert s3.fs.cat_file(path) == (tmp_path / "one" / NAME).read_bytes()


def test_what_is_damaged_here_is_taken_from_there(place: str, tmp_path: Path) -> None:
    store = machine(place, tmp_path / "one")
    store.put(MEASUREMENT).write_text("{", encoding="utf-8")
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.get(CELL) == MEASUREMENT


def test_examinations_are_shared(place: str, tmp_path: Path) -> None:
    one, other = (machine(place, tmp_path / name) for name in ("one", "other"))
    one.write("exams/0123.json", "[1, 2]")
    assert other.read("exams/0123.json", json.loads) == [1, 2]
    assert (tmp_path / "other" / "exams" / "0123.json").read_text("utf-8") == "[1, 2]"
    one.remote.objects.write("exams/4567.json", b"[1,")
    with pytest.warns(RemoteWarning, match=r"exams/4567.json is damaged"):
        assert other.read("exams/4567.json", json.loads) is None


def test_names_that_lead_out_of_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    store = machine(f"memory://{uuid.uuid4().hex}", tmp_path / "one")
    for name in (f"cells/../../evil-{CELL.key[:16]}.json", f"cells\\evil-{CELL.key[:16]}.json"):
        store.remote.objects.write(name, b"x")
    assert store.remote.objects.names() == []
    assert store.get(CELL) is None


# --------------------------------------------------------------------- adapters


class Trainer:
    """Trains adapters that know who trained them, and counts."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder, self.seconds, self.count, self.waited = folder, seconds, 0, 0

    def __call__(self, remote: Remote, weights: bytes = b"weights") -> Path:
        target = self.folder / remote.folder.name / "adapters" / "abc"

        def train() -> None:
            self.count += 1
            time.sleep(self.seconds)
            fake_adapter(target, weights)

        remote.once(target, train, self._wait)
        return target

    def _wait(self, holder: str) -> None:
        self.waited += 1


def remotes(url: str, tmp_path: Path, number: int) -> list[Remote]:
    return [Remote(url, tmp_path / f"machine{i}") for i in range(number)]


def test_an_adapter_is_trained_once(url: str, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    one, other = remotes(url, tmp_path, 2)
    first, second = trainer(one), trainer(other)
    assert trainer.count == 1
    assert is_complete(second)
    names = sorted(path.name for path in first.iterdir())
    assert sorted(path.name for path in second.iterdir()) == names
    there = one.objects.names()
    assert there == sorted(f"adapters/abc/{name}" for name in [*names, FILES])
    assert not list(second.parent.glob(".*"))


def _sealed(body: dict[str, Any]) -> bytes:
    return json.dumps({**body, "checksum": digest(body)}).encode()


OUTSIDE = {"adapter": "abc", "files": {"../../evil": "0" * 64}}
BROKEN: dict[str, tuple[str, bytes | None]] = {
    "weights truncated": (ADAPTER, b"wei"),
    "weights tampered": (ADAPTER, b"Weights"),
    "weights gone": (ADAPTER, None),
    "configuration tampered": ("adapter_config.json", b'{"r": 1}'),
    "list truncated": (FILES, b"{"),
    "list not sealed": (FILES, b'{"adapter": "abc", "files": {}, "checksum": "0"}'),
    "list of another adapter": (FILES, _sealed({"adapter": "abd", "files": {}})),
    "list of nothing": (FILES, _sealed({"adapter": "abc", "files": {}})),
    "list of a file outside": (FILES, _sealed(OUTSIDE)),
}


@pytest.mark.parametrize(("name", "data"), BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_adapter_is_trained_again(
    place: str, tmp_path: Path, name: str, data: bytes | None
) -> None:
    trainer = Trainer(tmp_path)
    one, other, third = remotes(place, tmp_path, 3)
    trainer(one)
    if data is None:
        one.objects.remove(f"adapters/abc/{name}")
    else:
        one.objects.write(f"adapters/abc/{name}", data)
    with pytest.warns(RemoteWarning, match=rf"{place}/adapters/abc is damaged"):
        assert is_complete(trainer(other))
    assert trainer.count == 2
    assert is_complete(trainer(third))
    assert trainer.count == 2
    assert not (tmp_path / "evil").exists()


def test_without_its_list_an_adapter_is_not_there(place: str, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    one, other = remotes(place, tmp_path, 2)
    trainer(one)
    one.objects.remove(f"adapters/abc/{FILES}")  # the machine was lost while it sent them
    trainer(other)
    assert trainer.count == 2


# --------------------------------------------------------------------- leases


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_sixteen_race_and_one_trains(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("s3").url if kind == "s3" else f"file://{tmp_path}/shared"
    monkeypatch.setattr(Lease, "__init__", _quick(Lease.__init__))
    trainer = Trainer(tmp_path, seconds=0.5)
    together = threading.Barrier(16)

    def go(remote: Remote) -> Path:
        together.wait()
        return trainer(remote)

    machines = remotes(url, tmp_path, 16)
    for one in machines:
        one.objects = machines[0].objects  # making a client takes longer than the race
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(go, machines))
    assert trainer.count == 1
    assert trainer.waited
    assert all(map(is_complete, found))
    assert Objects(url).names(leases.FOLDER) == []


def _quick(real: Callable[..., None]) -> Callable[..., None]:
    def init(self: Lease, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **{"pause": (0.1, 0.3), "beat": 0.1, "patience": 30.0, **kwargs})

    return init


def never() -> bool:
    return False


def test_the_lease_of_a_machine_that_is_gone_is_taken_over(url: str) -> None:
    objects, heard = Objects(url), list[str]()
    objects.create("leases/abc/000001", b'{"holder": "lost-host 17", "mark": "m", "beat": 3}')
    lease = Lease(objects, "abc", beat=0.1, patience=0.4, pause=(0.05, 0.1))
    began = time.monotonic()
    with lease.held(heard.append, never):
        assert time.monotonic() - began > 0.4
        assert objects.names("leases") == ["leases/abc/000001", "leases/abc/000002"]
    assert set(heard) == {"lost-host"}
    assert objects.names("leases") == []


HOLDER = """
import sys, time
from harness.results.lease import Lease
from harness.results.objects import Objects
with Lease(Objects(sys.argv[1]), "abc", beat=0.05).held(print, lambda: False):
    print("held", flush=True)
    time.sleep(300)
"""


def test_a_killed_holder_is_followed_by_one_of_those_who_wait(place: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, place], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    objects, order = Objects(place), list[str]()

    def wait(name: str) -> None:
        lease = Lease(objects, "abc", beat=0.05, patience=1.5, pause=(0.05, 0.1))
        with lease.held(lambda holder: None, lambda: "trained" in order):
            if "trained" not in order:
                order.append(name)
                time.sleep(0.3)
                order.append("trained")

    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(wait, name) for name in ("a", "b", "c")]
        time.sleep(0.5)
        order.append("killed")
        process.kill()
        for one in found:
            one.result()
    process.communicate()
    assert order[0] == "killed"
    assert order.count("trained") == 1
    assert len(order) == 3
    assert objects.names("leases") == []


def test_a_lease_with_signs_of_life_is_not_taken(place: str) -> None:
    objects, order = Objects(place), list[str]()
    one = Lease(objects, "abc", beat=0.05, patience=0.5, pause=(0.02, 0.05))
    other = Lease(objects, "abc", beat=0.05, patience=0.5, pause=(0.02, 0.05))

    def wait() -> None:
        with other.held(lambda holder: None, never):
            order.append("other")

    with one.held(lambda holder: None, never):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(1.2)  # longer than anybody waits for the dead
        order.append("one")
    thread.join()
    assert order == ["one", "other"]
    assert not one.lost


def test_who_waits_leaves_when_it_is_done(place: str) -> None:
    objects = Objects(place)
    objects.create("leases/abc/000001", b"not JSON")
    heard: list[str] = []
    with Lease(objects, "abc", pause=(0.01, 0.01)).held(heard.append, lambda: len(heard) == 2):
        assert heard == ["another machine"] * 2
    assert objects.names("leases") == ["leases/abc/000001"]  # which is not ours


def test_who_stood_still_learns_that_the_lease_is_lost(place: str) -> None:
    objects = Objects(place)
    lease = Lease(objects, "abc", beat=0.05)
    with lease.held(lambda holder: None, never):
        objects.create("leases/abc/000002", b"{}")
        for _ in range(100):
            if lease.lost:
                break
            time.sleep(0.05)
    assert lease.lost
    assert objects.names("leases") == ["leases/abc/000002"]


def test_a_failed_training_run_lets_go(place: str, tmp_path: Path) -> None:
    (remote,) = remotes(place, tmp_path, 1)

    def train() -> None:
        raise ValueError("the loss was not finite")

    with pytest.raises(ValueError, match="not finite"):
        remote.once(tmp_path / "machine0" / "adapters" / "abc", train, lambda holder: None)
    assert remote.objects.names() == []


# --------------------------------------------------------------------- the end of a run


def test_the_end_hands_on_what_is_missing_and_reports_last(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "one")
    fake_adapter(folder / "adapters" / "abc")
    for name in ("report.html", "summary.json", "recipe.toml", "figures/a.svg", ".hidden.tmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    remote = Remote(place, folder)
    remote.objects.write("figures/old.svg", b"of an earlier report")
    sent: list[str] = []
    upload = Objects.upload

    def spy(self: Objects, path: Path, name: str) -> None:
        sent.append(name)
        upload(self, path, name)

    monkeypatch.setattr(Objects, "upload", spy)
    remote.publish()
    assert sent[-3:] == ["run.json", "summary.json", "report.html"]
    assert set(remote.objects.names()) == {*sent, f"adapters/abc/{FILES}"}
    assert ".hidden.tmp" not in sent
    assert "figures/old.svg" not in remote.objects.names()
    sent.clear()
    remote.publish()
    assert not [name for name in sent if name.startswith(("cells/", "adapters/"))]


def test_what_cannot_be_handed_on_is_kept_and_handed_on_at_the_end(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine(place, tmp_path / "one")
    with monkeypatch.context() as patched:
        patched.setattr(Objects, "_path", lambda self, name: "/proc/nowhere/x")
        with pytest.warns(RemoteWarning, match=f"{place}: cannot be written .*kept in .*one"):
            store.put(MEASUREMENT)
    assert store.get(CELL) == MEASUREMENT
    assert store.remote.objects.names() == []
    store.remote.publish()
    assert store.remote.objects.names() == [NAME]


# --------------------------------------------------------------------- commands


@pytest.fixture
def shared(place: str, tmp_path: Path, clean_cache: Path) -> str:
    """A run that lies elsewhere, of which this machine has nothing."""
    folder = make_run(tmp_path / "one")
    fake_adapter(folder / "adapters" / "abc")
    Remote(place, folder).publish()
    return place


def test_commands_read_a_run_by_its_url(
    shared: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    write_baseline(baseline, snapshot(tmp_path / "one"))
    assert main(["report", shared]) == 0
    assert f"all of it is at {shared}" in capsys.readouterr().out
    assert {"report.html", "report.md", "summary.json"} <= set(Objects(shared).names())
    assert main(["gate", shared, f"--baseline={baseline}"]) == 0
    assert main(["compare", str(baseline), shared]) == 0
    assert main(["check", shared]) == 0
    said = capsys.readouterr().out
    assert f"{shared}: 4 cells, 1 adapter" in said
    assert f"{shared}/run.json: 4 cases" in said
    assert main(["simulate", shared, "--runs=2", "--rows=8"]) == 0
    assert main(["report", shared, str(tmp_path / "one"), f"--into={tmp_path / 'both'}"]) == 0
    assert "/both/report.html" in capsys.readouterr().out


def test_check_reads_what_lies_there_and_not_what_is_here(
    shared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = brought(shared)
    there = Objects(shared)
    cell = next(name for name in there.names("cells"))
    there.write(cell, there.read(cell)[:-20])
    there.write(f"adapters/abc/{ADAPTER}", b"others")
    assert main(["check", shared]) == 1
    said = capsys.readouterr().out
    assert f"{shared}/{cell}: " in said
    assert f"{shared}/adapters/abc: {ADAPTER} is not what was written" in said
    assert not list(folder.parent.glob(".*"))


def test_reading_brings_what_is_missing_only(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = Objects.read

    def spy(self: Objects, name: str) -> bytes | None:
        asked.append(name)
        return read(self, name)

    monkeypatch.setattr(Objects, "read", spy)
    folder = brought(shared)
    assert len(asked) == 1 + 4
    assert brought(shared) == folder
    assert asked[5:] == ["run.json"]


def test_a_url_without_a_run(place: str, clean_cache: Path) -> None:
    with pytest.raises(StoreError, match=f"{place}/run.json: not found, so this is no results"):
        brought(place)
    Objects(place).write("run.json", b'{"checksum": "0"}')
    with pytest.raises(StoreError, match=f"{place}/run.json: damaged .*checksum"):
        brought(place)
    assert not list(clean_cache.rglob("run.json"))
    with pytest.raises(OptionError, match="http://x/y: expected a folder, or the URL"):
        brought("http://x/y")


# --------------------------------------------------------------------- errors


def one_line_of(url: str, folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        machine(url, folder).prepare()
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(url)
    return line


def test_no_bucket(s3: Bucket, tmp_path: Path) -> None:
    line = one_line_of("s3://no-such-bucket/team", tmp_path)
    assert "there is no s3://no-such-bucket; make it, or name another" in line


def test_no_credentials(s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "; set AWS_PROFILE, or AWS_ACCESS_KEY_ID" in one_line_of(s3.url, tmp_path / "one")


def test_no_network(s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    line = one_line_of(s3.url, tmp_path / "one")
    assert "see to the network and the URL, and AWS_ENDPOINT_URL" in line


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_a_package_that_is_not_installed(
    scheme: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = one_line_of(f"{scheme}://bucket/team", tmp_path)
    assert line.endswith(
        f"needs {package}, which is not installed; pip install 'adaptbench[{scheme}]'"
    )


def test_a_reader_of_a_file_place_never_sees_a_part(place: str) -> None:
    objects, size = Objects(place), 3_000_000
    objects.write("a", b"a" * size)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for letter in (b"a", b"b"):
                objects.write("a", letter * size)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [objects.read("a") for _ in range(30)]
    finally:
        stop.set()
        thread.join()
    assert {(len(one), len(set(one))) for one in seen if one is not None} == {(size, 1)}
    assert objects.names() == ["a"]
