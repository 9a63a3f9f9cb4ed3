"""Which machines of a job are meant for which stage."""

import pytest
from django.core.exceptions import ValidationError
from django.db.models.functions import Now

from jobs.models import JobMachine, Machine
from jobs.plan import MOST_NAMES, Kind, expanded, folded, plan, spread
from releases.models import ReleaseStage
from tests.pages import page


def fleet(**sites):
    """Unsaved machines, so many in each site: fleet(a=2) has a-1 and a-2."""
    names = [(site, f"{site}-{number}") for site, count in sites.items() for number in range(1, count + 1)]
    return [Machine(pk=pk, site=site, hostname=name) for pk, (site, name) in enumerate(names, 1)]


def planned(machines, pre="", gray=""):
    """{stage: host names} as they are planned."""
    by_id = plan(machines, {"pre-release": pre, "gray-release": gray})
    found = {stage: [machine.hostname for machine in machines if by_id.get(machine.pk) == stage] for stage in Kind}
    return {stage: names for stage, names in found.items() if names}


def test_without_a_wish_there_is_no_plan():
    assert planned(fleet(a=3), " ", "") == {}


def test_one_then_a_tenth_then_the_rest():
    machines = fleet(a=10, b=10)
    found = planned(machines, "1", "10 %")
    assert {stage: len(names) for stage, names in found.items()} == {"pre-release": 1, "gray-release": 2, "release": 17}


def test_shares_are_spread_over_the_sites():
    machines = fleet(a=5, b=5, c=1)
    assert planned(machines, "4")["pre-release"] == ["a-1", "a-2", "b-1", "c-1"]
    assert [machine.hostname for machine in spread(machines, 2)] == ["a-1", "b-1"]
    assert len(spread(machines, 100)) == 11


def test_machines_can_be_named_in_any_form():
    machines = fleet(web=12)
    found = planned(machines, "WEB-1, web-3", "web-[10-12]")
    assert found["pre-release"] == ["web-1", "web-3"]
    assert found["gray-release"] == ["web-10", "web-11", "web-12"]


def test_what_is_typed_in_full_width_is_as_good():
    machines = fleet(web=12)
    found = planned(machines, "ｗｅｂ－１，web-2、web-［3-4］", "５０％")
    assert found["pre-release"] == ["web-1", "web-2", "web-3", "web-4"]
    assert len(found["gray-release"]) == 6


def test_a_machine_is_planned_for_one_stage_only():
    machines = fleet(a=4)
    found = planned(machines, "a-1", "100%")
    assert found == {"pre-release": ["a-1"], "gray-release": ["a-2", "a-3", "a-4"]}
    with pytest.raises(ValidationError) as refused:
        planned(machines, "a-1", "a-1")
    assert "a-1" in str(refused.value.message_dict["plan_gray_release"])


@pytest.mark.parametrize("wish", ["0", "4", "101 %", "9999999", "b-1", "a-[1-9]", "a-[3-1]", "-1", "1.5", "../x"])
def test_what_cannot_be_planned_names_its_field(wish):
    with pytest.raises(ValidationError) as refused:
        planned(fleet(a=3), wish)
    assert list(refused.value.message_dict) == ["plan_pre_release"]


def test_a_number_that_was_meant_as_a_percentage_does_not_take_all():
    with pytest.raises(ValidationError) as refused:
        planned(fleet(a=6), "1", "90")
    assert refused.value.messages == ["That is more than the 6 machines that are chosen."]
    assert len(planned(fleet(a=6), "1", "6")["gray-release"]) == 5


def test_of_many_names_that_cannot_be_planned_the_first_are_told():
    with pytest.raises(ValidationError) as refused:
        planned(fleet(a=3), "x-[1-9000]")
    [said] = refused.value.message_dict["plan_pre_release"]
    assert "x-20" in said
    assert "x-21" not in said


def test_ranges_keep_the_width_of_their_numbers():
    assert expanded("web-[008-010].x  db-1；db-2") == [
        *["web-008.x", "web-009.x", "web-010.x", "db-1", "db-2"],
    ]


def test_several_ranges_in_a_word_give_every_combination():
    assert expanded("r[1-2]-web[09-10].x") == ["r1-web09.x", "r1-web10.x", "r2-web09.x", "r2-web10.x"]
    assert expanded("[1-2][1-1][7-8]") == ["117", "118", "217", "218"]
    assert expanded("n-[1234567-1234568]") == ["n-1234567", "n-1234568"]
    machines = [Machine(pk=pk, hostname=f"r{pk // 2}-web{pk % 2}") for pk in range(4)]
    assert planned(machines, "r[0-1]-web[0-1]") == {"pre-release": [one.hostname for one in machines]}


@pytest.mark.parametrize(
    "word",
    [
        "[1-9999][1-9999][1-9999]",
        "[1-200][1-101]",
        "a[1-2]b[3-1]",
        "a[3-1]b[3-1]",
        "[1-0][1-999999]",
        "[0-" + "9" * 5000 + "]",
        "[1-9999]" + "[1-1]" * 3000,
        "x" * 19_000 + "[1-9999]",
    ],
)
def test_a_word_that_stands_for_too_much_or_nothing_stays_as_it_is(word):
    assert expanded(word) == [word]


def test_as_many_names_as_a_list_may_have():
    assert len(expanded("[1-200]-[1-100]")) == MOST_NAMES


def test_ranges_without_end_are_refused():
    assert expanded("web-[0-999999]") == ["web-[0-999999]"]
    with pytest.raises(ValidationError):
        expanded(f"a-[1-{MOST_NAMES}] b-[1-{MOST_NAMES}]")


def kinds(job):
    return dict(JobMachine.objects.filter(job=job).values_list("machine__hostname", "planned"))


def test_a_job_keeps_its_plan_and_where_its_machines_were(make_job, machines):
    job = make_job(plan_pre_release="1", plan_gray_release="pay-5")
    assert kinds(job) == {
        "pay-1": "pre-release",
        "pay-5": "gray-release",
        **dict.fromkeys(["pay-2", "pay-3", "pay-4", "pay-6"], "release"),
    }
    one = JobMachine.objects.get(job=job, machine=machines[1])
    assert (one.address, one.port, one.site, one.was_at) == ("10.0.0.2", 22, "sh-1", "10.0.0.2:22 sh-1")
    assert not JobMachine.objects.filter(job=job).moved().exists()


def test_what_moved_is_found_until_it_is_accepted(make_job, machines):
    job = make_job()
    Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9", user="root")
    Machine.objects.filter(hostname="pay-3").update(site="bj-1")
    Machine.objects.filter(hostname="pay-4").update(address="2001:db8::1", port=2222, user="root")
    moved = {one.machine.hostname: one for one in JobMachine.objects.filter(job=job).moved()}
    assert {name: (one.was_at, one.is_at) for name, one in moved.items()} == {
        "pay-2": ("10.0.0.2:22 sh-1", "root@10.9.9.9:22 sh-1"),
        "pay-3": ("10.0.0.3:22 sh-1", "10.0.0.3:22 bj-1"),
        "pay-4": ("10.0.0.4:22 sh-1", "root@[2001:db8::1]:2222 sh-1"),
    }
    JobMachine.objects.accept_moves([moved["pay-2"]])
    assert {one.machine.hostname for one in JobMachine.objects.filter(job=job).moved()} == {"pay-3", "pay-4"}


class TestForm:
    @pytest.fixture
    def ask(self, as_user, requester, payment, machines):
        def ask(**plan):
            data = {"title": "x", "business": payment.pk, "version": "2.0", "machines": [one.pk for one in machines]}
            return as_user(requester).post("/jobs/new/", data | plan)

        return ask

    def test_a_plan_is_asked_for(self, ask):
        assert ask(plan_pre_release="1", plan_gray_release="pay-[2-3]").status_code == 302
        assert sorted(JobMachine.objects.values_list("planned", flat=True)) == [
            *["gray-release"] * 2,
            "pre-release",
            *["release"] * 3,
        ]

    @pytest.mark.parametrize("wish", ["pay-9", "0", "a\0b", "x" * 20_001])
    def test_an_impossible_plan_is_told_and_kept(self, ask, wish, contexts):
        response = ask(plan_gray_release=wish)
        assert response.status_code == 200
        assert response.context["form"].errors.keys() == {"plan_gray_release"}
        assert not JobMachine.objects.exists()

    def test_editing_shows_the_plan_and_makes_a_new_one(self, as_user, requester, make_job, machines, payment):
        job = make_job(plan_pre_release="pay-2")
        client = as_user(requester)
        assert ">\npay-2</textarea>" in client.get(page("edit_job", job)).text
        data = {"title": "x", "version": "2.0", "machines": [machines[0].pk], "revision": job.revision}
        assert client.post(page("edit_job", job), data | {"plan_pre_release": "1"}).status_code == 302
        assert kinds(job) == {"pay-1": "pre-release"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("", ""),
        ("web", "web"),
        ("web-1", "web-1"),
        ("web-1 web-2 web-3 web-5", "web-[1-3] web-5"),
        ("web-08 web-09 web-10 db-1 db-2", "web-[08-10] db-[1-2]"),
        ("web-9 web-10", "web-9 web-10"),
        ("web-1a web-2a web-3b", "web-[1-2]a web-3b"),
        ("r1-web-1 r1-web-2 r2-web-3", "r1-web-[1-2] r2-web-3"),
        ("web-2 web-1", "web-2 web-1"),
        ("n-1234567 n-1234568", "n-1[234567-234568]"),
    ],
)
def test_names_are_folded_into_what_unfolds_to_them_again(names, words):
    assert folded(names.split()) == words.split()
    assert expanded(words) == names.split()


def test_what_is_planned_for_the_stages_is_read_once(make_job, machines, publisher, django_assert_num_queries):
    job = make_job(plan_pre_release="pay-1", plan_gray_release="pay-2 pay-3")
    JobMachine.objects.filter(job=job, machine=machines[2]).update(excused_at=Now(), excused_by=publisher, excuse="x")
    stages = ReleaseStage.objects.of(job)
    with django_assert_num_queries(1):
        planned = [stage.planned_machines for stage in reversed(stages)]
    assert planned[1:] == [{machines[1].pk}, {machines[0].pk}]
