"""What is kept of the answers of a config service."""

import pytest
from django.urls import reverse
from django.utils import translation

from jobs.config_service import SourceError
from jobs.config_service.rows import Refused
from jobs.models import Sync
from jobs.models.sync import NAMES_KEPT
from tests.conftest import rows

CHANGELIST = reverse("admin:jobs_sync_changelist")


@pytest.fixture
def answer(payment, monkeypatch):
    """Makes the config service answer with these rows, or this error, and takes it."""

    def answer(given, refused=(), **options):
        def read(business, progress=None):
            if isinstance(given, Exception):
                raise given
            return list(given), list(refused)

        monkeypatch.setattr("jobs.config_service.read", read)
        return payment.sync_machines(**options)

    return answer


def counts(sync):
    return sync.listed, sync.added_count, sync.gone_count, sync.moved_count, sync.refused_count


def test_a_first_answer_is_kept_with_its_names(answer):
    answer(rows("pay-1", "pay-2"), [Refused(3, "a;b", "no host name")])
    sync = Sync.objects.get()
    assert counts(sync) == (2, 2, 0, 0, 1)
    assert (sync.added, sync.refused_in_words) == (["pay-1", "pay-2"], [(3, "a;b", "no host name")])


def test_only_an_answer_that_tells_something_new_is_kept(answer):
    for _ in range(3):
        answer(rows("pay-1", "pay-2"))
    assert Sync.objects.count() == 1
    answer(rows("pay-1", "pay-2"), [Refused(3, "a;b", "no host name")])
    assert Sync.objects.count() == 2


def test_what_moved_is_told_with_both_places(answer):
    answer(rows("pay-1"))
    answer(rows("pay-1", site="bj-1", port=2222))
    sync = Sync.objects.first()
    assert counts(sync) == (1, 0, 0, 1, 0)
    assert sync.moved == [{"hostname": "pay-1", "was": "10.0.0.1:22 sh-1", "now": "10.0.0.1:2222 bj-1"}]


def test_the_same_error_is_kept_once_until_an_answer_is_taken(answer):
    answer(rows("pay-1"))
    for _ in range(3):
        with pytest.raises(SourceError):
            answer(SourceError("It is down."))
    answer(rows("pay-1"))
    with pytest.raises(SourceError):
        answer(SourceError("It is down."))
    assert [sync.error for sync in Sync.objects.all()] == ["It is down.", "", "It is down.", ""]


def test_the_same_error_is_kept_once_in_whatever_language_it_is_read(payment):
    for language in ("en", "zh-hans", "en"):
        with translation.override(language), pytest.raises(SourceError):
            payment.sync_machines()  # there is no payment.json
    sync = Sync.objects.get()
    assert sync.error == "There is no file payment.json in CONFIG_FILES_DIR."
    assert sync.error_texts["zh-hans"] == "CONFIG_FILES_DIR 中没有文件 payment.json。"


@pytest.mark.parametrize("asked_in", ["en", "zh-hans"])
def test_everybody_reads_the_reason_in_their_own_language(payment, asked_in):
    with translation.override(asked_in):
        payment.refresh_machines()
    sync = Sync.objects.get()
    for language, reason in (("en", "There is no file payment.json"), ("zh-hans", "中没有文件 payment.json")):
        with translation.override(language):
            assert reason in payment.why_not_taken
            assert reason in str(sync)


def test_several_reasons_stand_apart_as_each_language_has_it(payment):
    payment.source_options |= {"colour": 1, "shape": 2}
    payment.save()
    payment.refresh_machines()
    assert payment.why_not_taken == "There is no option “colour”. There is no option “shape”."
    with translation.override("zh-hans"):
        assert payment.why_not_taken == "没有选项“colour”。没有选项“shape”。"


def test_a_good_answer_clears_the_reason_in_every_language(payment, answer):
    payment.refresh_machines()
    answer(rows("pay-1"))
    payment.refresh_from_db()
    with translation.override("zh-hans"):
        assert payment.why_not_taken == ""


def test_a_sudden_loss_is_told_in_the_language_of_whoever_reads(answer):
    with translation.override("zh-hans"):
        answer(rows(*(f"pay-{number}" for number in range(10))))
        with pytest.raises(SourceError) as error:
            answer(rows("pay-1"))
        said = str(error.value)
    assert "10" in said
    assert "suddenly missing" not in said
    assert "9 of 10 machines are suddenly missing" in str(error.value)


@pytest.mark.parametrize("asked_in", ["en", "zh-hans"])
def test_why_rows_were_refused_is_read_in_ones_own_language(payment, config_files, as_user, ops, asked_in):
    (config_files / "payment.json").write_text('[{"hostname": ""}]')
    with translation.override(asked_in):
        payment.sync_machines()
    sync = Sync.objects.get()
    assert sync.refused[0]["reason"].startswith("It has no host name")
    page = reverse("admin:jobs_sync_change", args=[sync.pk])
    for language, reason in (("en", "It has no host name"), ("zh-hans", "没有主机名")):
        assert reason in as_user(ops).get(page, headers={"accept-language": language}).text


def test_a_reason_that_was_kept_in_one_language_is_still_read(payment):
    sync = Sync(business=payment, refused=[{"row": 3, "name": "a;b", "reason": "no host name"}])
    assert sync.refused_in_words == [(3, "a;b", "no host name")]


def test_a_refused_loss_is_kept_as_an_error_without_changes(answer):
    answer(rows(*(f"pay-{number}" for number in range(10))))
    with pytest.raises(SourceError):
        answer(rows("pay-1"))
    sync = Sync.objects.first()
    assert "9 of 10 machines" in sync.error
    assert counts(sync) == (0, 0, 0, 0, 0)


def test_of_long_lists_only_the_beginning_is_kept_but_all_is_counted(answer):
    names = [f"pay-{number:04}" for number in range(NAMES_KEPT + 50)]
    sync = answer(rows(*names))
    assert len(sync.added) == len(names)
    kept = Sync.objects.get()
    assert (kept.added_count, kept.added) == (len(names), names[:NAMES_KEPT])


def test_a_dry_run_is_not_kept(answer):
    assert counts(answer(rows("pay-1"), dry_run=True)) == (1, 1, 0, 0, 0)
    assert not Sync.objects.exists()


def test_ops_read_it_in_the_admin(answer, as_user, ops):
    answer(rows("pay-1", "pay-2"))
    answer(rows("pay-1", site="bj-1"), [Refused(2, "<b>x</b>", "no host name")], accept_loss=True)
    with pytest.raises(SourceError):
        answer(SourceError("It is down."))
    client = as_user(ops)
    text = client.get(CHANGELIST).text
    assert text.count("Not taken") == 1
    assert text.count("Taken") == 2
    text = client.get(reverse("admin:jobs_sync_change", args=[Sync.objects.all()[1].pk])).text
    for words in ("pay-2", "10.0.0.1:22 sh-1 → 10.0.0.1:22 bj-1", "&lt;b&gt;x&lt;/b&gt;", "no host name"):
        assert words in text


def test_nobody_changes_or_deletes_it(answer, as_user, ops):
    answer(rows("pay-1"))
    sync = Sync.objects.get()
    client = as_user(ops)
    for name in ("change", "delete"):
        client.post(reverse(f"admin:jobs_sync_{name}", args=[sync.pk]), {"error": "x", "post": "yes"})
    assert client.get(reverse("admin:jobs_sync_add")).status_code == 403
    sync.refresh_from_db()
    assert sync.error == ""
