"""What the application that servers run says to requests that no browser sends."""

from wsgiref.util import setup_testing_defaults

import pytest

from deploy_portal.wsgi import application


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
