"""Home, narrowed to one of the businesses that a person sees."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.models import Job, Membership, Notice
from jobs.rights import Role
from tests.cases import each
from tests.conftest import list_machines, make_business, make_member
from tests.forms import Page
from tests.freezes import freeze_now
from tests.pages import source, words

URL = reverse("home")
CARDS = ["Waiting for you", "You asked for", "Running now", "Ended lately", "Is it out yet?"]
BOTH = {"payment", "orders"}


@pytest.fixture
def lead(payment, orders, requester, approver, publisher):
    """Has every role in both businesses; the others have theirs in both, too."""
    lead = make_member("lead", payment, *Role)
    roles = [(lead, role) for role in Role] + [(user, user.username) for user in (requester, approver, publisher)]
    Membership.objects.bulk_create([Membership(user=user, business=orders, role=role) for user, role in roles])
    return lead


@pytest.fixture
def machines_of(payment, orders, machines):
    return {payment: machines, orders: list_machines(orders, "ord-11", "ord-12")}


@pytest.fixture
def begin_in_each(lead, make_job, start, machines_of):
    """Starts a job of the lead on the first machine of each business, or on another one; returns the runs."""

    def begin(version, number=0):
        runs = []
        for business, machines in machines_of.items():
            job = make_job(version, machines[number : number + 1], business=business, title="Faster")
            Job.objects.filter(pk=job.pk).update(requester=lead)
            runs.append(start(job, machines[number : number + 1]))
        return runs

    return begin


def named(text):
    """Which of the two businesses this text names."""
    return {name for name in BOTH if name in text.lower()}


def of_card(response, card):
    """What the page says in this card."""
    said = words(response).partition(card)[2]
    return re.split("|".join(map(re.escape, CARDS)), said)[0]


def test_each_card_tells_of_that_business_alone(as_user, lead, begin_in_each, finish):
    begin_in_each("1.0")
    finish("unknown")
    begin_in_each("2.0", 1)
    client = as_user(lead)
    for card in CARDS:
        told = [named(of_card(client.get(URL, {"business": name}), card)) for name in ("", "payment", "orders")]
        assert (card, *told) == (card, BOTH, {"payment"}, {"orders"})


def test_whatever_waits_is_of_that_business(as_user, lead, approver, begin_in_each, make_job, machines_of, finish):
    begin_in_each("1.0")
    finish("failed")
    for business, machines in machines_of.items():
        fields = {"on": machines, "business": business, "title": "Faster"}
        make_job("2.0", **fields)
        make_job("3.0", approved=False, **fields)
        job = make_job("4.0", approved=False, **fields)
        Job.objects.filter(pk=job.pk).update(requester=lead)
        job.send_back(approver, "not today")
    client = as_user(lead)
    everything, narrowed = (of_card(client.get(URL, {"business": name}), CARDS[0]) for name in ("", "orders"))
    for what in ("Stopped", "To publish", "To approve", "Sent back"):
        assert (what, everything.count(what), narrowed.count(what)) == (what, 2, 1)
    assert named(narrowed) == {"orders"}


def test_freezes_of_others_are_not_told_but_those_of_all_are(as_user, lead, ops, payment, orders):
    freeze_now(ops, payment, "the great sale"), freeze_now(ops, orders, "the audit"), freeze_now(ops, reason="the move")
    client = as_user(lead)
    for name, expected in (("", [True, True, True]), ("payment", [True, False, True]), ("orders", [False, True, True])):
        said = words(client.get(URL, {"business": name}))
        assert [reason in said for reason in ("the great sale", "the audit", "the move")] == expected


def test_who_has_seen_a_notice_stays_with_that_business(as_user, lead, ops, make_job, orders):
    jobs = [make_job("1.0"), make_job("2.0", [], business=orders)]
    for job in jobs:
        Notice.objects.create(job=job, to=lead, by=ops, reason="shop is down")
    client = as_user(lead)
    shown = client.get(URL, {"business": "orders"})
    assert [f"the glass for {job}" in words(shown) for job in jobs] == [False, True]
    [form] = [form for form in Page(URL, shown.text).forms if "/acknowledge/" in form.action]
    assert client.post(form.action).url == "/?business=orders"


@pytest.mark.one_database
def test_the_links_lead_to_that_business(as_user, lead, begin_in_each, machines_of):
    begin_in_each("1.0")
    home = source(as_user(lead).get(URL, {"business": "orders"}))
    assert '<a href="/">All my businesses</a>' in home
    assert '<a href="?business=orders" aria-current="true">Orders</a>' in home
    assert '<a href="?business=payment">Payment</a>' in home
    assert 'id="home" hx-get="/?business=orders"' in home
    assert 'id="all-jobs" href="/jobs/?business=orders"' in home
    assert 'id="all-of-yours" href="/jobs/?q=lead&business=orders"' in home
    assert '<a href="/" aria-current="true">All my businesses</a>' in source(as_user(lead).get(URL))


def test_an_open_page_is_told_of_the_runs_of_that_business_alone(as_user, lead, begin_in_each):
    own, other = begin_in_each("1.0")
    client = as_user(lead)
    asked = f"{reverse('running')}?workers=0&stop=&seen={own.pk}&business=payment"
    assert f'hx-get="{asked}"' in source(client.get(URL, {"business": "payment"}))
    still = client.get(asked, headers={"HX-Request": "true"})
    assert "HX-Trigger" not in still
    assert (str(own.stage.job) in words(still), str(other.stage.job) in words(still)) == (True, False)
    assert f'hx-get="{asked}"' in source(still)
    own.cancel(lead)
    ended = client.get(asked, headers={"HX-Request": "true"})
    assert "runs-changed" in ended["HX-Trigger"]
    assert "Running now" not in words(ended)


@pytest.mark.one_database
@each("name", ["orders", "nowhere", "", "\0", "'; --", "9" * 40])
def test_what_names_no_business_that_one_sees_narrows_nothing(as_user, publisher, orders, job, machines, start, name):
    start(job, machines[:1])
    client = as_user(publisher)
    for address in (URL, reverse("running")):
        narrowed = client.get(address, {"business": name})
        assert str(job) in words(narrowed)
        assert not re.search(r'(?:href|hx-get)="[^"]*business=', source(narrowed))


@pytest.mark.one_database
def test_who_sees_one_business_has_nothing_to_choose(as_user, publisher, orders):
    home = source(as_user(publisher).get(URL))
    assert "All my businesses" not in home
    assert 'name="business"' not in home


@pytest.mark.one_database
def test_of_many_businesses_one_is_chosen_in_a_form(as_user, ops):
    for number in range(1, 10):
        make_business(f"line-{number:02}", name=f"Line {number:02}")
    home = Page(URL, as_user(ops).get(URL, {"business": "line-05"}).text)
    [form] = [form for form in home.forms if "business" in form.names]
    assert (form.method, form.action, form.fields) == ("get", URL, [("business", "line-05")])
    assert not [link for link in home.links if link.startswith("/?")]


@pytest.mark.one_database
def test_one_business_needs_one_query_more(as_user, lead, begin_in_each):
    begin_in_each("1.0")
    client, counts = as_user(lead), []
    for address in (URL, reverse("running")):
        for name in ("", "payment"):
            with CaptureQueriesContext(connection) as asked:
                client.get(address, {"business": name})
            counts.append(len(asked))
    assert counts == [counts[0], counts[0] + 1, counts[2], counts[2] + 1]


@pytest.mark.one_database
@each("name", ["home", "jobs", "machines"])
def test_a_short_name_that_is_a_number_is_not_taken_for_an_id(as_user, ops, payment, orders, name):
    make_business(str(payment.pk), name="Numbered")
    response = as_user(ops).get(reverse(name), {"business": str(payment.pk)})
    assert re.findall('<a [^>]*aria-current="true">([^<]*)</a>', source(response)) == ["Numbered"]
