import fcntl
import json
import subprocess
import sys

import pytest

from proxy.catalogue import indexing
from proxy.errors import Conflict, NotFound, Unavailable


class TextFileBuilder:
    """An index that is a list of its works, as the real one is made and checked."""

    def __init__(self):
        self.previous = []

    def build(self, works, folder, previous, progress):
        folder.mkdir(exist_ok=True)
        self.previous.append(previous)
        self.found = sorted(file.name for file in folder.iterdir())
        (folder / "works.json").write_text(json.dumps([work.work_id for work in works]))
        (folder / "manifest.json").write_text("{}")
        if progress:
            progress(1, 1)

    def verify(self, folder):
        try:
            return json.loads((folder / "works.json").read_text())
        except (OSError, ValueError) as error:
            raise Unavailable("damaged", code="index_corrupt") from error


@pytest.fixture
def builder():
    return TextFileBuilder()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def build(catalogue, root, clock, builder):
    def build(**more):
        clock.time_us += 1
        return indexing.build(catalogue, root, clock=clock, builder=builder, **more)

    return build


def folders(root):
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_before_the_first_build_there_is_no_index(root):
    assert indexing.current(root) is None
    assert indexing.info(root) is None
    with pytest.raises(NotFound, match="no index"):
        indexing.verify(root)


def test_a_build_becomes_the_index_in_use(catalogue, new_work, root, build, builder):
    added = [row.work_id for row in catalogue.add_works([new_work("a"), new_work("b")])]
    told = []
    folder = build(progress=lambda done, total: told.append((done, total)))
    assert indexing.current(root) == folder
    info = indexing.info(root, builder=builder)
    assert (info.path, info.manifest, info.built_us) == (folder, added, int(folder.name))
    assert info.size_bytes == (folder / "works.json").stat().st_size + 2
    assert told == [(1, 1)]


def test_denied_and_withdrawn_works_are_indexed_too(catalogue, new_work, build):
    (row,) = catalogue.add_works([new_work("a", consent="denied")])
    catalogue.withdraw(row.work_id)
    assert json.loads((build() / "works.json").read_text()) == [row.work_id]


def test_a_build_starts_from_the_index_in_use(build, builder):
    first = build()
    build()
    assert builder.previous == [None, first]


def test_the_last_two_indexes_are_kept(root, build):
    made = [build() for _ in range(4)]
    assert folders(root) == [folder.name for folder in made[-2:]]


def test_other_folders_beside_the_indexes_are_left_alone(root, build):
    (root / "notes").mkdir(parents=True)
    for _ in range(3):
        build()
    assert "notes" in folders(root)


def test_an_interrupted_build_changes_nothing_and_the_next_goes_on_with_it(root, build, builder):
    first = build()

    def break_off(works, folder, previous, progress):
        folder.mkdir()
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    whole = builder.build
    builder.build = break_off
    with pytest.raises(KeyboardInterrupt):
        build()
    assert indexing.current(root) == first
    builder.build = whole
    second = build()
    assert builder.found == ["half"]
    assert folders(root) == [first.name, second.name]


def test_a_complete_index_that_was_never_taken_is_built_anew(root, build, builder):
    (root / "unfinished").mkdir(parents=True)
    (root / "unfinished" / "manifest.json").write_text("{}")
    build()
    assert builder.found == []


def test_an_index_that_does_not_verify_is_not_taken(root, build, builder):
    first = build()
    builder.verify = lambda folder: (_ for _ in ()).throw(Unavailable("damaged"))
    with pytest.raises(Unavailable, match="damaged"):
        build()
    assert indexing.current(root) == first
    assert folders(root) == [first.name]


@pytest.mark.parametrize("named", ["../../etc", "/etc", "", "00000000000000000001", "\u00e9"])
def test_a_current_that_names_no_index_is_told_with_its_remedy(root, named):
    root.mkdir()
    (root / "current").write_text(named)
    with pytest.raises(Unavailable) as refused:
        indexing.current(root)
    assert "index build" in refused.value.remedy


def test_a_broken_current_does_not_keep_a_new_index_away(root, build):
    root.mkdir()
    (root / "current").write_text("nonsense")
    folder = build()
    assert indexing.current(root) == folder


def test_two_builds_cannot_collide(root, build):
    root.mkdir()
    with (root / "building").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another build"):
            build()
    assert build()


def test_a_killed_build_holds_no_lock(root, build):
    root.mkdir()
    program = "import fcntl, os, signal, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program, str(root / "building")], check=False)
    assert build()


def test_the_library_builds_and_checks_what_the_catalogue_holds(catalogue, new_work, root, clock):
    list(
        catalogue.add_works(
            [new_work("a", text="The lamp rotation service turns every lamp by a quarter.\n" * 3)]
        )
    )
    folder = indexing.build(catalogue, root, clock=clock)
    assert indexing.info(root).manifest.works == 1
    clock.time_us += 1
    again = indexing.build(catalogue, root, clock=clock)
    assert indexing.current(root) == again
    victim = next(file for file in again.iterdir() if file.suffix == ".npy" and file.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"\xff\xff")
    with pytest.raises(Unavailable) as refused:
        indexing.verify(root)
    assert refused.value.code == "index_corrupt"
    assert folder.is_dir()
