"""Archives: made of files that may change meanwhile, and taken apart however hostile they are."""

import errno
import gzip
import io
import os
import stat
import tarfile
import warnings
import zipfile

import pytest

from codex_server.sandboxes.files import archives
from codex_server.sandboxes.files.archives import archive, extract
from codex_server.sandboxes.files.content import replace
from codex_server.sandboxes.files.problem import Problem, problem_of


def fill(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def packed(workspace, folder, paths, form="zip"):
    with (folder.parent / "packed").open("wb") as output:
        facts = archive(workspace, paths, output.fileno(), form=form)
    return facts, folder.parent / "packed"


def names_in(path, form):
    if form == "zip":
        return zipfile.ZipFile(path).namelist()
    with tarfile.open(path) as whole:
        return whole.getnames()


def zipped(*entries, compression=zipfile.ZIP_DEFLATED):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two entries of one name are what some tests want
        for name, content in entries:
            made.writestr(name, content)
    return whole.getvalue()


def tarred(*entries, mode="w", form=tarfile.PAX_FORMAT):
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode, format=form) as made:
        for name, content in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content or b"")
            made.addfile(info, io.BytesIO(content or b""))
    return whole.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def taken(workspace, folder, content, to="", **given):
    (folder / "in.arc").write_bytes(content)
    bounds = {"most_bytes": 10 * 2**20, "most_entries": 100} | given
    return extract(workspace, "in.arc", to, **bounds)


def refused(workspace, folder, content, **given):
    with pytest.raises((OSError, Problem)) as error:
        taken(workspace, folder, content, **given)
    found = error.value
    assert not list(folder.rglob(".new-*"))
    assert sorted(os.listdir(folder.parent / "outside")) == ["secret.txt"]
    return found if isinstance(found, Problem) else problem_of(found, "in.arc")


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "in.arc")


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_what_was_packed_can_be_taken_out(workspace, folder, form):
    fill(folder, a=b"one", d__b=b"two" * 9999, d__run=b"#!")
    (folder / "d" / "run").chmod(0o755)
    (folder / "way").symlink_to("../outside")
    os.mkfifo(folder / "pipe")
    facts, path = packed(workspace, folder, [], form)
    assert facts == {"files": 3, "format": form}
    found = taken(workspace, folder, path.read_bytes(), "out")
    assert found == {"files": ["out/a", "out/d/b", "out/d/run"], "left_out": []}
    assert (folder / "out/d/b").read_bytes() == b"two" * 9999
    assert stat.S_IMODE((folder / "out/d/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "out/a").stat().st_mode) == 0o644


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_file_is_packed_once_though_it_is_named_twice(workspace, folder, form):
    fill(folder, d__a=b"1", d__b=b"2")
    facts, path = packed(workspace, folder, ["d/b", "d", "d/b"], form)
    assert (facts["files"], names_in(path, form)) == (2, ["d/b", "d/a"])


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_an_archive_does_not_pack_itself(workspace, folder, form):
    fill(folder, a=b"1")
    with workspace.at("out") as place:
        replace(workspace, place, lambda file, _: archive(workspace, [], file, form=form) and None)
    assert names_in(folder / "out", form) == ["a"]


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
@pytest.mark.parametrize("change", ["unlink", "link", "pipe"])
def test_a_file_that_goes_or_is_swapped_while_others_are_packed_is_left_out(
    workspace, folder, monkeypatch, form, change
):
    fill(folder, a=b"1", b=b"2", c=b"3")
    real = archives.walk

    def changing(*args, **given):
        for entry, status in real(*args, **given):
            if entry == "b":
                (folder / "b").unlink()
                if change == "link":
                    (folder / "b").symlink_to("../outside/secret.txt")
                if change == "pipe":
                    os.mkfifo(folder / "b")
            yield entry, status

    monkeypatch.setattr(archives, "walk", changing)
    facts, path = packed(workspace, folder, [], form)
    assert (facts["files"], names_in(path, form)) == (2, ["a", "c"])


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_file_that_grows_while_it_is_packed_ends_where_it_began_to(workspace, folder, monkeypatch, form):
    fill(folder, a=b"x" * 300_000)
    real = archives._identity

    def measured(file):
        return real(file)

    class Growing:
        def __init__(self, status):
            self.st_size, self.st_mode, self.st_mtime = status.st_size - 100_000, status.st_mode, status.st_mtime
            self.st_dev, self.st_ino = status.st_dev, status.st_ino

    stat_of = os.fstat
    monkeypatch.setattr(archives.os, "fstat", lambda file: Growing(stat_of(file)))
    monkeypatch.setattr(archives, "_identity", measured)
    packed(workspace, folder, ["a"], form)
    monkeypatch.undo()
    taken(workspace, folder, (folder.parent / "packed").read_bytes(), "out")
    assert (folder / "out" / "a").stat().st_size == 200_000


def test_what_a_guest_makes_while_an_archive_is_taken_out_is_kept(workspace, folder, monkeypatch):
    real = archives.check_free

    def checked(*args, **given):
        real(*args, **given)
        (folder / "a").unlink(missing_ok=True)
        (folder / "a").write_bytes(b"the guest's")

    monkeypatch.setattr(archives, "check_free", checked)
    assert refused(workspace, folder, zipped(("a", b"theirs"))).code == "exists"
    assert (folder / "a").read_bytes() == b"the guest's"


def test_entries_of_one_name_need_no_leave_to_replace_one_another(workspace, folder):
    found = taken(workspace, folder, tarred(("a", b"first"), ("a", b"last")))
    assert (found["files"], (folder / "a").read_bytes()) == (["a"], b"last")


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_what_is_too_deep_to_be_packed_is_refused_and_not_left_out(workspace, folder, form):
    deep = folder.joinpath(*["d"] * 63)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"1")
    assert packed(workspace, folder, [], form)[0]["files"] == 1
    (deep / "d").mkdir()
    with pytest.raises(Problem, match="64 folders deep") as problem:
        packed(workspace, folder, [], form)
    assert problem.value.code == "too-deep"
    assert packed(workspace, folder, ["d/d"], form)[0]["files"] == 1


def test_a_folder_that_may_not_be_read_is_not_left_out_of_an_archive(workspace, folder, monkeypatch):
    (folder / "closed").mkdir()
    real = os.open

    def closed(name, *args, **given):  # root may read every folder
        if name == "closed":
            raise PermissionError(errno.EACCES, "closed")
        return real(name, *args, **given)

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(Problem, match="closed") as problem:
        packed(workspace, folder, [])
    assert problem.value.code == "denied"


def test_a_path_that_cannot_be_packed_is_named(workspace, folder):
    (folder / "way").symlink_to("../outside")
    os.mkfifo(folder / "pipe")
    for path, code in (("no", "not-found"), ("way", "link"), ("pipe", "not-file"), ("../outside", "invalid")):
        with pytest.raises(Problem, match=path) as problem:
            packed(workspace, folder, [path])
        assert problem.value.code == code


HOSTILE = ["../evil", "a/../../evil", "/etc/evil", "..", "a\\..\\..\\evil", "\\evil"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_that_leads_out_is_refused_before_anything_is_written(workspace, folder, name, make):
    problem = refused(workspace, folder, make(("good", b"1"), (name, b"2")))
    assert (problem.code, left(folder)) == ("bad-archive", [])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_are_left_out(workspace, folder, kind):
    made = tarred((special("way", kind, "../outside"), None), ("way/a", b"inside"), ("good", b"1"))
    found = taken(workspace, folder, made)
    assert found["left_out"] == [{"path": "way", "reason": "it is a link or a device"}]
    assert left(folder) == ["good", "way", "way/a"]
    assert os.listdir(folder.parent / "outside") == ["secret.txt"]


def test_links_of_a_zip_are_left_out(workspace, folder):
    link = zipfile.ZipInfo("way")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    found = taken(workspace, folder, zipped((link, "../outside"), ("good", b"1")))
    assert found == {"files": ["good"], "left_out": [{"path": "way", "reason": "it is a link"}]}


def test_a_link_of_the_workspace_leads_no_entry_out(workspace, folder):
    (folder / "way").symlink_to("../outside")
    assert refused(workspace, folder, zipped(("way/evil", b"1"))).code in ("link", "not-folder")
    assert refused(workspace, folder, zipped(("secret.txt", b"1")), to="way").code in ("link", "not-folder")


@pytest.mark.parametrize(
    ("content", "given"),
    [
        (zipped(("bomb", bytes(50 * 2**20))), {"most_bytes": 2**40}),
        (tarred(("bomb", bytes(50 * 2**20)), mode="w:gz"), {"most_bytes": 2**40}),
        (zipped(("large", os.urandom(3000))), {"most_bytes": 2000}),
        (zipped(*((f"f{number}", b"") for number in range(101))), {}),
        (tarred(*((f"f{number}", b"") for number in range(101)), mode="w:gz"), {}),
        (tarred(*(("n" * 60_000 + str(number), b"") for number in range(30)), mode="w:gz"), {}),
    ],
    ids=["zip-ratio", "tar-ratio", "size", "zip-count", "tar-count", "names"],
)
def test_a_bomb_is_refused_before_anything_is_written(workspace, folder, content, given):
    assert refused(workspace, folder, content, **given).code == "too-large"
    assert left(folder) == []


def test_a_size_that_a_zip_lies_about_does_not_count(workspace, folder):
    made = zipped(("a", bytes(3 * 2**20)))
    for field in (22, made.rindex(b"PK\x01\x02") + 24):  # the size without compression, in both headers
        made = made[:field] + (5).to_bytes(4, "little") + made[field + 4 :]
    problem = refused(workspace, folder, made, most_bytes=2**20)
    assert problem.code in ("bad-archive", "too-large")
    assert left(folder) == []


def test_entries_of_one_name_are_one_file_the_last(workspace, folder):
    for make in (zipped, tarred):
        found = taken(workspace, folder, make(("a", b"first"), ("b", b""), ("a", b"last")), overwrite=True)
        assert (found["files"], (folder / "a").read_bytes()) == (["a", "b"], b"last")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_files_that_are_there_are_kept_unless_they_are_to_be_replaced(workspace, folder, make):
    fill(folder, a=b"mine")
    made = make(("good", b"1"), ("a", b"theirs"))
    problem = refused(workspace, folder, made)
    assert (problem.code, left(folder), (folder / "a").read_bytes()) == ("exists", ["a"], b"mine")
    taken(workspace, folder, made, overwrite=True)
    assert (folder / "a").read_bytes() == b"theirs"


def test_a_file_where_a_folder_is_wanted_and_the_other_way_round_are_refused_by_name(workspace, folder):
    fill(folder, a=b"file", d__x=b"")
    problem = refused(workspace, folder, zipped(("a/b", b"1")), overwrite=True)
    assert (problem.code, "'a/b'" in problem.detail) == ("not-folder", True)
    assert refused(workspace, folder, zipped(("d", b"1")), overwrite=True).code == "exists"
    assert (folder / "a").read_bytes() == b"file"


def test_an_encrypted_zip_is_refused_before_anything_is_written(workspace, folder):
    made = bytearray(zipped(("good", b"1"), ("a", b"secret")))
    made[made.rindex(b"PK\x01\x02") + 8] |= 1
    problem = refused(workspace, folder, bytes(made))
    assert ("encrypted" in problem.detail, left(folder)) == (True, [])


_GZ = tarred(("a", os.urandom(9000)), ("b", os.urandom(9000)), mode="w:gz")
_XZ = tarred(("a", os.urandom(9000)), mode="w:xz")
_BZ = tarred(("a", os.urandom(9000)), mode="w:bz2")
_ZIP = zipped(("a", b"text" * 5000), ("b", os.urandom(9000)))


@pytest.mark.parametrize("whole", [_GZ, _XZ, _BZ, _ZIP], ids=["gz", "xz", "bz2", "zip"])
def test_a_damaged_archive_is_refused_and_leaves_no_part_of_a_file(workspace, folder, whole):
    taken(workspace, folder, whole, "good")
    for length in (0, 1, 10, len(whole) // 3, len(whole) * 2 // 3):
        assert refused(workspace, folder, whole[:length], overwrite=True).code == "bad-archive"
    for place in range(60, len(whole), len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            taken(workspace, folder, bytes(damaged), overwrite=True)
        except Problem as problem:
            assert problem.code in ("bad-archive", "too-large", "invalid")
        assert not list(folder.rglob(".new-*"))


_DAMAGED = "is damaged, or a part of it is missing"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"text that is no archive" * 99, "neither a zip archive nor a tar archive"),
        (gzip.compress(b"no tar", mtime=0), _DAMAGED),
        (b"PK\x03\x04", _DAMAGED),
        (b"PK\x05\x06", _DAMAGED),
        (_ZIP[: len(_ZIP) // 2], _DAMAGED),
        (_XZ[: len(_XZ) // 2], _DAMAGED),
        (tarred(("a", b"1" * 600))[:700], _DAMAGED),
        (zipped(("a", b"1")).replace(b"\x08\x00", b"\x63\x00"), "a compression that cannot be read here"),
    ],
)
def test_what_is_no_archive_is_refused_in_plain_words(workspace, folder, content, why):
    problem = refused(workspace, folder, content)
    assert (problem.code, why in problem.detail) == ("bad-archive", True), problem.detail


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_unusual_names_of_a_tar_are_kept(workspace, folder, form):
    names = ["d" * 90 + "/" + "n" * 150, "new\nline", "ünï", "a b"]
    found = taken(workspace, folder, tarred(*((name, b"1") for name in names), form=form))
    assert found["files"] == names
    assert set(names) <= set(left(folder))


def test_names_that_are_no_text_and_too_long_ones(workspace, folder):
    found = taken(workspace, folder, tarred(("b\udcff", b"1"), form=tarfile.GNU_FORMAT))
    assert found["files"] == ["b\ufffd"]
    assert os.fsencode("b\udcff") in os.listdir(os.fsencode(folder))
    assert refused(workspace, folder, zipped(("n" * 300, b"1"))).code == "invalid"


def test_the_folder_that_was_packed_may_be_an_entry_itself(workspace, folder):
    made = tarred((special("./", tarfile.DIRTYPE), None), (special("./d", tarfile.DIRTYPE), None), ("./d/a", b"1"))
    assert taken(workspace, folder, made)["files"] == ["d/a"]
    assert left(folder) == ["d", "d/a"]


def test_an_archive_in_an_archive_stays_one(workspace, folder):
    inner = zipped(("../evil", b"1"), compression=zipfile.ZIP_STORED)
    found = taken(workspace, folder, tarred(("a", b"1"), ("inner.zip", inner)))
    assert found["files"] == ["a", "inner.zip"]
    assert (folder / "inner.zip").read_bytes() == inner


def test_an_archive_that_is_a_link_is_not_read(workspace, folder):
    (folder / "way.zip").symlink_to("../outside/secret.txt")
    with pytest.raises(OSError):
        extract(workspace, "way.zip", "", most_bytes=9, most_entries=9)
