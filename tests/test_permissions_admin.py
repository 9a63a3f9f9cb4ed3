"""Every page of the admin x everybody: only ops see one, new pages included, as they are found and not listed."""

import pytest
from django.contrib import admin
from django.urls import reverse

from jobs.rights import Role
from tests.conftest import make_member, make_user

pytestmark = pytest.mark.one_database

OPEN = {"login", "logout"}


def addresses():
    """Where each page of the admin is; the rows that they name need not be there."""
    for pattern in _flat(admin.site.get_urls()):
        if pattern.name and pattern.name not in OPEN:
            names = {name: _value(name) for name in pattern.pattern.converters}
            named = pattern.pattern.regex.groupindex if not names else {}
            yield reverse(f"admin:{pattern.name}", kwargs=names | {name: _value(name) for name in named})


def _flat(patterns):
    for pattern in patterns:
        yield from _flat(pattern.url_patterns) if hasattr(pattern, "url_patterns") else [pattern]


def _value(name):
    return {"app_label": "jobs"}.get(name, "1")


ADDRESSES = sorted(set(addresses()))


def test_there_are_pages_to_ask_for():
    assert {"/admin/", "/admin/jobs/business/", "/admin/jobs/business/1/change/"} <= set(ADDRESSES)


@pytest.fixture
def member(payment):
    """Has every role, in the only business there is."""
    return make_member("member", payment, *Role)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("person", ["member", "outsider"])
def test_nobody_else_sees_one(request, as_user, person, method):
    client = as_user(request.getfixturevalue(person))
    answers = {address: getattr(client, method)(address, follow=True).status_code for address in ADDRESSES}
    assert answers == dict.fromkeys(ADDRESSES, 403)


@pytest.mark.parametrize("method", ["get", "post"])
def test_whoever_is_not_logged_in_is_sent_to_the_login_page(client, db, method):
    for address in ADDRESSES:
        assert getattr(client, method)(address, follow=True).redirect_chain[-1][0].startswith("/login/"), address


def test_staff_who_were_permitted_nothing_see_no_row_and_no_form(as_user, db):
    client = as_user(make_user("staff", is_staff=True))
    seen = {address for address in ADDRESSES if client.get(address).status_code == 200}
    assert seen <= {"/admin/", "/admin/jsi18n/", "/admin/password_change/", "/admin/password_change/done/"}


def test_ops_are_refused_none_of_the_lists(as_user, ops):
    client = as_user(ops)
    lists = [address for address in ADDRESSES if address.count("/") == 4 and address.startswith("/admin/jobs/")]
    assert {client.get(address).status_code for address in lists} == {200}
