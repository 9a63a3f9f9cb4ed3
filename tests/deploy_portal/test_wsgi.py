"""What the application that servers run says to requests that no browser sends."""

from http.client import HTTPConnection
from wsgiref.util import setup_testing_defaults

import pytest

from deploy_portal.wsgi import application
from tests.faults.web import WebProcess
from tests.waiting import PATIENCE


def ask(address, **environ):
    """The status of its answer; without its signals, which would close a test's database."""
    setup_testing_defaults(environ)
    environ |= {"HTTP_HOST": "testserver", "PATH_INFO": address}
    return application.get_response(application.request_class(environ)).status_code


# Each ends Django's reading in an error of another kind.
@pytest.mark.parametrize(
    "parameter", ["charset*=nobodys'en'x", "charset*=punycode'en'%ff", "a*=idna'en'x", "a*1*=x;a*"]
)
def test_a_content_type_that_cannot_be_read_counts_as_none(db, parameter):
    assert ask("/login/", CONTENT_TYPE=f"text/html; {parameter}") == 200
    assert ask("/nowhere/", CONTENT_TYPE=f"text/html; {parameter}") == 404
    form = f"application/x-www-form-urlencoded; {parameter}"
    assert ask("/login/", CONTENT_TYPE=form, REQUEST_METHOD="POST") == 403


@pytest.fixture
def web(tmp_path):
    server = WebProcess(tmp_path / "web.log", threads=2)
    yield HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    server.kill()


@pytest.mark.one_database
@pytest.mark.django_db(transaction=True)
def test_who_asks_does_not_say_how_much_of_a_path_is_the_portals(web):
    answers = {}
    for path in ("/login/", "/x/login/"):
        web.request("GET", path, headers={"SCRIPT_NAME": "/x"})
        with web.getresponse() as response:
            answers[path] = response.status
            response.read()
    assert answers == {"/login/": 200, "/x/login/": 404}
