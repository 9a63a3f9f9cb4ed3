"""What is compressed on its way, and what is not."""

import gzip

from django.http import HttpResponse

from deploy_portal.quick_gzip import quick_gzip

TEXT = b"web-001.example.com " * 500


def answer(rf, accepted, content=TEXT):
    return quick_gzip(lambda request: HttpResponse(content))(rf.get("/", headers={"accept-encoding": accepted}))


def test_what_a_browser_takes_is_compressed(rf):
    response = answer(rf, "gzip, deflate, br")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.content) == TEXT
    assert len(response.content) < len(TEXT) / 10


def test_what_it_does_not_take_is_sent_as_it_is(rf):
    for response in (answer(rf, "br"), answer(rf, ""), answer(rf, "gzip", b"")):
        assert not response.has_header("Content-Encoding")
        assert response.content in (TEXT, b"")
        assert response.headers["Vary"] == "Accept-Encoding"


def test_its_length_does_not_tell_what_is_in_it(rf):
    assert len({len(answer(rf, "gzip").content) for _ in range(50)}) > 10
