import json
import os

import pytest

from jobs.config_service import answers
from jobs.config_service.base import SourceError
from jobs.config_service.file import FileSource

WEB1 = {"hostname": "web1", "address": "10.0.0.1"}


@pytest.fixture
def folder(settings, tmp_path):
    """CONFIG_FILES_DIR, with a file beside it that must stay out of reach."""
    settings.CONFIG_FILES_DIR = tmp_path / "files"
    settings.CONFIG_FILES_DIR.mkdir()
    (tmp_path / "secret.json").write_text("[]")
    return settings.CONFIG_FILES_DIR


def rows(path):
    return FileSource("shop", {"path": path}).rows()


def refusal(path):
    with pytest.raises(SourceError) as caught:
        rows(path)
    return caught.value


def csv_rows(folder, text):
    (folder / "shop.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return rows("shop.csv")


def csv_refusal(folder, text):
    with pytest.raises(SourceError) as caught:
        csv_rows(folder, text)
    return str(caught.value)


@pytest.mark.parametrize("content", [[WEB1], {"machines": [WEB1], "made": "today"}])
def test_json(folder, content):
    (folder / "shop.json").write_text(json.dumps(content))
    assert rows("{business}.json") == [WEB1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_csv(folder, mark, line_break):
    lines = ["hostname, address,port,user,site,labels.rack", "web1, 10.0.0.1,2222,deploy,上海,r1", "", "web2,,,,, ", ""]
    assert csv_rows(folder, mark + line_break.join(lines).encode()) == [
        {
            "hostname": "web1",
            "address": "10.0.0.1",
            "port": "2222",
            "user": "deploy",
            "labels": {"site": "上海", "rack": "r1"},
        },
        {"hostname": "web2", "labels": {}},
    ]


def test_csv_quoted_cell(folder):
    assert csv_rows(folder, 'hostname,note\nweb1,"a, ""b"""\n') == [{"hostname": "web1", "labels": {"note": 'a, "b"'}}]


def test_csv_without_machines(folder):
    assert csv_rows(folder, "hostname,address\n") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not end with a line break"),
        ("hostname,address\nweb1,10.0.0.1", "does not end with a line break"),
        ("\n", "must name the columns"),
        ("web1,10.0.0.1\n", "must name the columns"),
        ("hostname;address\nweb1;10.0.0.1\n", "must name the columns"),
        ("hostname,site,labels.site\n", "each once"),
        ("hostname,address\nweb1\n", "Line 2 has 1 cells where the first line names 2"),
        ("hostname,address\nweb1,10.0.0.1\nweb2,10.0.0.2,x\n", "Line 3 has 3 cells"),
        ('hostname,address\nweb1,"10.0.0.1\n', "Line 2 is not CSV"),
        ("hostname,note\nweb1," + "x" * 200_000 + "\n", "Line 2 is not CSV"),
        ("hostname\n中\n".encode("gbk"), "not UTF-8"),
        ("hostname\nweb1\n".encode("utf-16"), "does not end with a line break"),
    ],
)
def test_csv_that_is_refused(folder, text, words):
    assert words in csv_refusal(folder, text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not complete JSON"),
        (b'[{"hostname": "web1"', "not complete JSON"),
        (b"[" * 100_000, "not complete JSON"),
        (b'["\xff"]', "not UTF-8"),
        (b"{}", "no list at machines"),
        (b'{"machines": {}}', "no list at machines"),
        (b"7", "no list at machines"),
    ],
)
def test_json_that_is_refused(folder, content, words):
    (folder / "shop.json").write_bytes(content)
    assert words in str(refusal("shop.json"))


def test_the_folder_may_be_a_link_itself(folder, settings, tmp_path):
    (folder / "shop.json").write_text(json.dumps([WEB1]))
    (tmp_path / "link").symlink_to(folder)
    settings.CONFIG_FILES_DIR = tmp_path / "link"
    assert rows("shop.json") == [WEB1]


@pytest.mark.parametrize("path", ["../secret.json", "x/../../secret.json", "{folder}/../secret.json", "link.json"])
def test_no_way_out_of_the_folder(folder, path):
    (folder / "link.json").symlink_to(folder.parent / "secret.json")
    error = refusal(path.replace("{folder}", str(folder)))
    assert "outside CONFIG_FILES_DIR" in str(error)
    assert error.permanent


def test_what_can_only_be_outside_is_told_before_anything_is_read(folder):
    assert FileSource.check({"path": "{business}/../{business}.json"}) == []
    assert "outside CONFIG_FILES_DIR" in str(FileSource.check({"path": "{business}/../../x.json"})[0])


def test_business_cannot_lead_out_of_the_folder(folder):
    with pytest.raises(SourceError, match="outside CONFIG_FILES_DIR"):
        FileSource("../secret", {"path": "{business}.json"}).rows()


def test_links_inside_the_folder_are_fine(folder):
    (folder / "real.json").write_text("[]")
    (folder / "shop.json").symlink_to("real.json")
    assert rows("shop.json") == []


def test_loop_of_links(folder):
    (folder / "a.json").symlink_to("b.json")
    (folder / "b.json").symlink_to("a.json")
    assert "a.json" in str(refusal("a.json")) or "cannot be followed" in str(refusal("a.json"))


def test_no_file_a_folder_and_a_pipe(folder):
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    for name in ("absent.json", "folder.json", "pipe.json"):
        assert str(refusal(name)) == f"There is no file {name} in CONFIG_FILES_DIR."


def test_unreadable_file(folder, monkeypatch):
    (folder / "shop.json").write_text("[]")

    def forbidden(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", forbidden)
    assert "shop.json cannot be read (Permission denied)" in str(refusal("shop.json"))


def test_name_too_long(folder):
    assert "cannot be" in str(refusal("x" * 5000 + ".json"))


@pytest.mark.parametrize("name", ["shop.json", "shop.csv"])
def test_too_large(folder, monkeypatch, name):
    monkeypatch.setattr(answers, "MAX_BYTES", 10)
    (folder / name).write_text("hostname,address\n")
    assert "larger than 64 MB" in str(refusal(name))


def test_no_more_than_the_bound_is_read(folder):
    with (folder / "shop.json").open("wb") as file:
        file.truncate(10 * 2**30)  # sparse
    assert "larger than 64 MB" in str(refusal("shop.json"))


def test_too_many_rows(folder, monkeypatch):
    monkeypatch.setattr(answers, "MAX_OBJECTS", 10)
    assert "half a million objects" in csv_refusal(folder, "hostname\n" + "web\n" * 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "must be a JSON object"),
        ({}, "“path” must name"),
        ({"path": 7}, "“path” must be text"),
        ({"path": "shop.txt"}, "“path” must name"),
        ({"path": "a\nb.json"}, "“path” must name"),
        ({"path": "a\0b.json"}, "cannot be stored"),
        ({"path": "shop.csv", "url": "x"}, "no option “url”"),
    ],
)
def test_check_says_what_is_wrong(folder, options, words):
    [problem] = FileSource.check(options)
    assert words in str(problem)
    with pytest.raises(SourceError) as caught:
        FileSource("shop", options).rows()
    assert caught.value.permanent


def test_check_of_what_works():
    assert FileSource.check({"path": "{business}.csv"}) == []
    assert FileSource.check({"path": "sites/Shop.JSON"}) == []
