"""The list of jobs."""

from itertools import product

import pytest
from django.urls import reverse

from jobs.models import Job, Machine, Membership
from jobs.rights import Role
from tests.cases import each
from tests.conftest import make_business, make_member
from tests.forms import Page
from tests.pages import is_sent_to_login, source, words

URL = reverse("jobs")


@pytest.fixture
def foreign_job(orders, outsider):
    job = Job(business=orders, title="Orders 7", version="7.0")
    job.ask(outsider, [])
    return job


def test_it_lists_the_jobs_of_my_businesses_only(as_user, approver, job, foreign_job):
    said = words(as_user(approver).get(URL))
    assert job.title in said
    assert foreign_job.title not in said


def test_a_job_has_the_name_there_that_it_has_everywhere(as_user, approver, job):
    assert f"#{job.pk} payment 2.0" in words(as_user(approver).get(URL))


def test_ops_see_all(as_user, ops, job, foreign_job):
    said = words(as_user(ops).get(URL))
    assert job.title in said
    assert foreign_job.title in said


def test_it_asks_who_you_are(client, db):
    assert is_sent_to_login(client.get(URL), URL)


@pytest.mark.one_database
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_only_read(as_user, approver, method):
    assert getattr(as_user(approver), method)(URL).status_code == 405


def test_it_can_be_narrowed_to_a_business(as_user, ops, job, foreign_job):
    said = words(as_user(ops).get(URL, {"business": "orders"}))
    assert foreign_job.title in said
    assert job.title not in said


@pytest.mark.parametrize("name", ["jobs", "home"])
@pytest.mark.parametrize(("role", "business"), [(Role.APPROVER, "Payment"), (Role.REQUESTER, "Orders")])
def test_a_new_job_is_for_that_business_if_one_may_ask_for_it(
    as_user, requester, payment, orders, name, role, business
):
    Membership.objects.create(user=requester, business=orders, role=role)
    client, address = as_user(requester), reverse(name)
    shown = client.get(address, {"business": "orders"}).text
    [link] = [link for link in Page(address, shown).links if "/new/" in link]
    assert f"selected>{business}<" in source(client.get(link))


@pytest.mark.one_database
@pytest.mark.parametrize(("name", "first"), [("jobs", "All my businesses"), ("machines", "Line 01")])
def test_of_many_businesses_one_is_chosen_in_the_search_form(as_user, ops, name, first):
    """In a row of three hundred links nobody would find it."""
    for number in range(1, 10):
        make_business(f"line-{number:02}", name=f"Line {number:02}")
    asked = Page(reverse(name), as_user(ops).get(reverse(name), {"business": "line-05"}).text)
    [form] = [form for form in asked.forms if "business" in form.names]
    assert ("business", "line-05") in form.fields
    assert not [link for link in asked.links if "business=line" in link and "new" not in link]
    assert f"{first} " in words(as_user(ops).get(reverse(name)))


def test_a_business_of_others_narrows_nothing(as_user, approver, job, foreign_job):
    said = words(as_user(approver).get(URL, {"business": "orders"}))
    assert job.title in said
    assert foreign_job.title not in said


def test_it_can_be_narrowed_to_a_status(as_user, approver, make_job):
    make_job("2.0"), make_job("3.0", approved=False)
    said = words(as_user(approver).get(URL, {"status": "waiting"}))
    assert "Payment 3.0" in said
    assert "Payment 2.0" not in said


@pytest.mark.parametrize("search", ["3.0", "ment 3", "#{pk}", "someone", "  PAYMENT 3 "])
def test_it_can_be_searched(as_user, approver, payment, make_job, search):
    make_job("2.0")
    wanted = Job(business=payment, title="Payment 3.0", version="3.0")
    wanted.ask(make_member("someone else", payment, Role.REQUESTER), [])
    said = words(as_user(approver).get(URL, {"q": search.format(pk=wanted.pk)}))
    assert "Payment 3.0" in said
    assert "Payment 2.0" not in said
    assert "1 job" in said


@pytest.mark.parametrize("search", ["pay-2", " PAY-2 ", "10.0.0.2", "2001:DB8::2"])
def test_it_finds_the_jobs_of_a_machine(as_user, approver, make_job, machines, search):
    if ":" in search:
        Machine.objects.filter(pk=machines[1].pk).update(address="2001:db8::2")
    make_job("2.0", on=machines[:1]), make_job("3.0", on=machines[1:3])
    said = words(as_user(approver).get(URL, {"q": search}))
    assert "Payment 3.0" in said
    assert "Payment 2.0" not in said
    assert "1 job" in said


def test_it_is_searched_from_every_other_page(as_user, approver, make_job, machines):
    job, other = make_job("2.0"), make_job("3.0")
    client = as_user(approver)
    for address in (reverse("home"), reverse("job", args=[job.pk]), reverse("machine", args=[machines[0].pk])):
        [head] = [form for form in Page(address, client.get(address).text).forms if form.names == ["q"]]
        said = words(client.get(head.action, dict(head.filled({"q": "3.0"}))))
        assert (head.method, str(other) in said, str(job) in said) == ("get", True, False)
    assert client.get(URL).text.count('role="search"') == 1


def test_it_finds_no_job_of_others_by_a_machine(as_user, approver, outsider, orders, machines):
    Job(business=orders, title="Orders 7", version="7.0").ask(outsider, machines[:1])
    assert "No job matches." in words(as_user(approver).get(URL, {"q": machines[0].hostname}))


@pytest.mark.parametrize("asked", [{"q": "nowhere"}, {"status": "withdrawn"}, {"q": "#" + "9" * 18}])
def test_what_is_not_found_is_said(as_user, approver, job, asked):
    assert "No job matches." in words(as_user(approver).get(URL, asked))


def test_a_search_finds_nothing_of_others(as_user, approver, foreign_job):
    assert foreign_job.title not in words(as_user(approver).get(URL, {"q": "Orders"}))


@each("name, value", list(product(["business", "status", "q"], ["\0", "'; --", "中", "x" * 5000, "1", "9" * 40, "٣"])))
def test_a_filter_of_nonsense_is_no_error(as_user, approver, job, name, value):
    assert as_user(approver).get(URL, {name: value}).status_code == 200


@each("number", ["-1", "0", "2", "x", "9" * 5000, "\0", "1.5"])
def test_a_page_that_is_not_there_is_not_found(as_user, approver, job, number):
    assert as_user(approver).get(URL, {"page": number}).status_code == 404


def test_the_fifty_first_job_is_on_the_second_page(as_user, requester, approver, payment):
    Job.objects.bulk_create(
        [Job(business=payment, title=f"Number {n}.", version="1", requester=requester) for n in range(1, 52)]
    )
    client = as_user(approver)
    assert "Number 51." in words(client.get(URL))
    assert "Number 1." not in words(client.get(URL))
    assert "Number 1." in words(client.get(URL, {"page": 2}))


@pytest.mark.one_database
def test_a_title_is_text_and_no_markup(as_user, approver, make_job):
    make_job(title="<script>alert(1)</script>")
    response = as_user(approver).get(URL)
    assert "<script>alert" not in response.content.decode()
    assert "<script>alert(1)</script>" in source(response)


@pytest.mark.one_database
@pytest.mark.parametrize(("person", "may"), [("requester", True), ("publisher", True), ("approver", False)])
def test_a_new_job_is_offered_to_who_may_ask_for_one(as_user, request, job, person, may):
    client = as_user(request.getfixturevalue(person))
    for name in ("home", "jobs"):
        assert (reverse("new_job") in client.get(reverse(name)).content.decode()) == may


def test_without_a_job_it_says_so(as_user, approver):
    assert "No job here yet." in words(as_user(approver).get(URL))


def test_another_business_keeps_the_search(as_user, requester, job):
    response = as_user(requester).get("/jobs/", {"q": "2.0", "status": "approved", "page": "1"})
    assert 'href="?q=2.0&status=approved&business=payment"' in source(response)


@pytest.mark.one_database
def test_a_job_of_another_year_says_which(as_user, approver, job):
    """And when on that day, as ever: on the first of January that is yesterday."""
    Job.objects.update(created_at="2024-03-05T14:02:00Z")
    assert "2024-03-05 14:02" in words(as_user(approver).get(URL))
