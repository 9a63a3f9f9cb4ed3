"""What the application that servers run says to requests that no browser sends."""

import io
from wsgiref.util import setup_testing_defaults

import pytest

from deploy_portal.wsgi import application

CSRF = "c" * 32
# Each ends Django's reading in an error of another kind.
UNREADABLE = ["charset*=nobodys'en'x", "charset*=punycode'en'%ff", "boundary*=idna'en'x", "name*1*=%;name*"]


def ask(address, **environ):
    """The answer of what servers run; without its signals, which would close a test's database."""
    setup_testing_defaults(environ)
    environ |= {"HTTP_HOST": "testserver", "PATH_INFO": address}
    return application.get_response(application.request_class(environ))


def post_parts(*parts):
    body = "".join(f"--part\r\n{part}\r\n" for part in parts) + "--part--\r\n"
    return ask(
        "/login/",
        REQUEST_METHOD="POST",
        CONTENT_TYPE="multipart/form-data; boundary=part",
        CONTENT_LENGTH=str(len(body)),
        HTTP_COOKIE=f"csrf={CSRF}",
        **{"wsgi.input": io.BytesIO(body.encode())},
    )


def field(name, value):
    return f"Content-Disposition: form-data; name={name}\r\n\r\n{value}"


@pytest.mark.parametrize("parameter", UNREADABLE)
def test_a_content_type_that_cannot_be_read_counts_as_none(db, parameter):
    assert ask("/login/", CONTENT_TYPE=f"text/html; {parameter}").status_code == 200
    assert ask("/nowhere/", CONTENT_TYPE=f"text/html; {parameter}").status_code == 404
    form = f"application/x-www-form-urlencoded; {parameter}"
    assert ask("/login/", CONTENT_TYPE=form, REQUEST_METHOD="POST").status_code == 403


@pytest.mark.parametrize("parameter", UNREADABLE)
def test_a_part_of_a_form_whose_header_cannot_be_read_is_no_error_of_the_server(db, parameter):
    assert post_parts(f"Content-Disposition: form-data; {parameter}\r\n\r\nx").status_code in (400, 403)


def test_a_form_in_parts_is_read(db):
    response = post_parts(field("csrfmiddlewaretoken", CSRF), field("username", "li"), field("password", ""))
    assert 'value="li"' in response.text


def test_no_file_is_kept_on_the_disk(db, settings, tmp_path):
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "nowhere"
    size = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    large = f'Content-Disposition: form-data; name=a; filename="b"\r\n\r\n{"x" * size}'
    assert post_parts(large, field("csrfmiddlewaretoken", CSRF), field("username", "x")).status_code == 200
