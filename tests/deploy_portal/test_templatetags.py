import json
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.template.loader import get_template, render_to_string
from django.urls import path
from django.utils import timezone, translation

from deploy_portal.templatetags import portal
from jobs.machine_list import Note, Row
from releases.models.queue import Status


@pytest.mark.parametrize("status", Status.values)
def test_every_status_of_a_machine_run_has_a_word(status):
    assert status in portal.STATUS_WORDS


def test_status_is_an_icon_class_and_a_word():
    assert render_to_string("_status.html", {"status": "timed_out"}).strip() == (
        '<span class="status timed_out">Timed out</span>'
    )
    assert ">Failed, exit 1<" in render_to_string("_status.html", {"status": "failed", "word": "Failed, exit 1"})


def test_status_without_a_word_is_shown_as_it_is_and_escaped():
    assert "<b>" not in render_to_string("_status.html", {"status": "<b>"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 中文 text\n\tgoes through", "plain 中文 text\n\tgoes through"),
        ("\x1b[31mred", "␛[31mred"),
        ("a\x00b\rc", "a␀b␍c"),
        ("invoice\u202efdp.sh", "invoice⟨U+202E⟩fdp.sh"),
        ("zero\u200bwidth\u2066isolate", "zero⟨U+200B⟩width⟨U+2066⟩isolate"),
        ("\x7f\x9b", "⟨U+007F⟩⟨U+009B⟩"),
    ],
)
def test_inert_shows_what_would_be_obeyed(text, shown):
    assert portal.inert(text) == shown


def widths(parts, total=None):
    return [float(segment["width"].rstrip("%")) for segment in portal.bar_segments(parts, total)]


def test_bar_is_in_shares_of_the_total():
    assert widths([("ok", 50), ("bad", 25)], 200) == [25, 12.5]
    assert widths([("ok", 1), ("bad", 1)]) == [50, 50]


def test_one_failed_of_many_is_seen_and_the_bar_stays_full():
    assert widths([("ok", 4998), ("bad", 1), ("unk", 1)]) == [98.4, 0.8, 0.8]


def test_bar_leaves_out_what_is_none():
    assert [segment["kind"] for segment in portal.bar_segments([("ok", 0), ("bad", 2)], 2)] == ["bad"]
    assert portal.bar_segments([]) == []


def test_bar_numbers_are_never_localised():
    with translation.override("de"):
        bar = render_to_string("_bar.html", {"parts": [("ok", 1)], "total": 3})
    assert 'x="0.00%" width="33.33%"' in bar
    assert "style=" not in bar


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "UTC"),
        ("Asia/Shanghai", "Asia/Shanghai (UTC+8)"),
        ("Asia/Kolkata", "Asia/Kolkata (UTC+5:30)"),
        ("America/Phoenix", "America/Phoenix (UTC-7)"),
    ],
)
def test_time_zone_says_its_offset(zone, shown):
    with timezone.override(zone):
        assert portal.time_zone() == shown


def test_minutes_are_rounded_up():
    assert portal.minutes(timedelta(minutes=15)) == 15
    assert portal.minutes(timedelta(seconds=61)) == 2


@pytest.mark.parametrize(
    ("gone", "shown"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=12, milliseconds=200), "12 s"),
        (timedelta(minutes=3, seconds=5), "3\xa0minutes"),
        (timedelta(days=2, hours=5), "2\xa0days, 5\xa0hours"),
    ],
)
def test_an_age_is_exact_while_it_is_young(gone, shown, monkeypatch):
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    assert portal.age(now - gone) == shown


@pytest.mark.parametrize(
    ("gone", "shown"),
    [
        (timedelta(hours=2, minutes=5, seconds=9), "2\xa0小时，5\xa0分钟"),
        (timedelta(days=9), "1\xa0周，2\xa0天"),
        (timedelta(days=40), "1\xa0个月，1\xa0周"),
    ],
)
def test_an_age_in_chinese_is_a_time_that_has_gone_by_and_no_date(gone, shown):
    with translation.override("zh-hans"):
        assert portal.age(timezone.now() - gone) == shown


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (datetime(2026, 3, 2, 10, 4, 5, tzinfo=UTC), "18:04:05"),
        (datetime(2026, 3, 1, 16, 0, 1, tzinfo=UTC), "00:00:01"),
        (datetime(2026, 3, 1, 15, 59, tzinfo=UTC), "2026-03-01 23:59"),
    ],
)
def test_a_time_of_another_day_says_which(at, shown, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 3, 2, 12, tzinfo=UTC))
    with timezone.override("Asia/Shanghai"):
        assert portal.clock(at) == shown


FOLDER = settings.BASE_DIR / "templates"
TEMPLATES = sorted(str(file.relative_to(FOLDER)) for file in FOLDER.rglob("*.html"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_loads_the_tags_that_it_uses(name):
    assert get_template(name)


@pytest.mark.parametrize(("language", "between"), [("en", " "), ("zh-hans", ""), (None, " ")])
def test_sentences_stand_apart_as_their_language_has_it(language, between):
    with translation.override(language):
        assert portal.between_sentences() == between


@pytest.mark.parametrize("name", ["400.html", "403_csrf.html", "405.html", "409.html", "500.html", "503.html"])
def test_pages_for_bad_times_need_no_context(name):
    page = render_to_string(name)
    assert "portal.css" in page
    assert "style=" not in page


urlpatterns = [path("", lambda request: None, name="home"), path("jobs/", lambda request: None, name="jobs")]


@pytest.mark.parametrize(
    ("where", "shown"), [("/", {"home"}), ("/jobs/", {"jobs"}), ("/jobs/7/", {"jobs"}), ("/x/", set())]
)
def test_navigation_marks_the_page_and_what_is_beneath_it(rf, settings, where, shown):
    settings.ROOT_URLCONF = __name__
    context = {"request": rf.get(where)}
    assert {name for name in ("home", "jobs") if portal.current(context, name)} == shown


def test_no_text_ends_a_script_element_of_json_before_its_time():
    value = {"</script><!--": "<&> \u2028"}
    element = portal.json_element(json.dumps(value, ensure_ascii=False), "data")
    inside = element.removeprefix('<script id="data" type="application/json">').removesuffix("</script>")
    assert not set("<&>") & set(inside)
    assert json.loads(inside) == value


class TestPickerRows:
    def row(self, note=None, **changed):
        facts = {"hostname": "web-1", "address": "10.0.0.1", "site": "sh-1", "version": "2.0", "chosen": False}
        return portal.picker_rows(
            [Row(**{"pk": 1234, "note": note or Note(), "other_chosen": False} | facts | changed)]
        )

    def test_a_machine_is_a_box_and_what_is_known_of_it(self):
        assert self.row() == (
            '<tr data-hostname="web-1">'
            '<td><input type="checkbox" name="machines" value="1234" id="m1234" autocomplete="off"></td>'
            '<td><label for="m1234"><code>web-1</code></label></td><td class="more"><code>10.0.0.1</code></td>'
            '<td class="more">sh-1</td><td><code>2.0</code></td><td></td></tr>'
        )
        assert ' value="1234" checked id=' in self.row(chosen=True)
        assert "<td><code>–</code></td>" in self.row(version="")
        assert "<td><small>planned</small></td>" in self.row(Note(words="planned"))

    def test_one_that_is_gone_is_told_and_not_to_be_had(self):
        row = self.row(Note("gone", "Gone", "since 8:00", blocks=True))
        assert row.startswith('<tr data-hostname="web-1" class="gone"><td><input type="checkbox" disabled id="m1234"')
        assert '<td><span class="status gone">Gone</span><small>since 8:00</small></td>' in row

    def test_one_that_is_held_may_be_named_to_wait(self):
        note = Note("held", "Held", "by #7", blocks=True, other="when_free", other_words="start when free")
        box = '<label><input type="checkbox" name="when_free" value="1234" autocomplete="off"> start when free</label>'
        assert box in self.row(note)
        assert box.replace(" autocomplete", " checked autocomplete") in self.row(note, other_chosen=True)

    def test_nothing_in_it_is_markup(self):
        hostile = "<b>\"'&"
        note = Note("held", hostile, hostile, other="moved", other_words=hostile)
        row = self.row(note, hostname=hostile, address=hostile, site=hostile, version=hostile)
        assert row.count("&lt;b&gt;&quot;&#x27;&amp;") == 8
        assert "<b>" not in row


def test_names_are_listed_as_the_language_does():
    assert portal.enumerated(["chen.jie", 7]) == "chen.jie, 7"
    with translation.override("zh-hans"):
        assert portal.enumerated(name for name in ("chen.jie", "li.wei")) == "chen.jie、li.wei"
    assert portal.enumerated([]) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "10 s"),
        (10, "10 s"),
        (31, "40 s"),
        (110, "110 s"),
        (111, "2 min"),
        (120, "2 min"),
        (121, "3 min"),
        (3540, "59 min"),
        (3541, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_what_is_guessed_is_told_roughly(seconds, words):
    assert str(portal.roughly(timedelta(seconds=seconds))) == words
