"""Whatever machines say, and however much: capped, stored and shown as text, by a worker that stays small."""

import pytest

from releases.log import BYTES_FOR_A_BLOCK
from releases.models import LogBlock, Run
from tests.faults.seen import ended, row, statuses, text
from tests.fleet import Fault
from tests.pages import page

pytestmark = pytest.mark.django_db(transaction=True)

MB = 1_000_000
HEAD, TAIL = 20_000, 4_000
SCRIPT = r"""
case $DEPLOY_MACHINE in
much) echo first; yes "line after line 中" | head -c 60000000; echo; echo last; exit 7;;
endless) printf first; head -c 20000000 /dev/zero | tr '\0' x; printf last;;
bytes) printf 'nul \000 here\nbad \377\376 and half of \344\270'; sleep 0.3; printf '\255\n\355\240\200\n';;
escapes) printf '\033[31mred\033[0m \033]0;title\007 \033[2J\n'
  printf 'a\010\010b \302\233 \342\200\256 <b>bold</b>\n' >&2;;
esac
"""
INERT = "␛[31mred␛[0m ␛]0;title␇ ␛[2J"


def blocks(run, hostname):
    found = LogBlock.objects.filter(machine_run=row(run, hostname)).order_by("number")
    return list(found.values_list("stream", "text"))


def is_capped(run, hostname, size):
    """Its head, a mark that says how much is left out, and its tail; with the three `size` is accounted for."""
    said = blocks(run, hostname)
    marks = [text for stream, text in said if stream == "mark"]
    kept = sum(len(text.encode()) for stream, text in said if stream == "out")
    assert HEAD + TAIL - 10_000 < kept <= HEAD + TAIL
    assert marks == [f"… {size - kept} bytes left out here …"]
    assert said[0][1].startswith("first") and said[-1][1].rstrip().endswith("last")


@pytest.mark.fleet("much", "endless", "bytes", "escapes")
def test_it_is_capped_stored_and_inert(worker, release, publisher, as_user):
    first = worker(LOG_HEAD_BYTES=HEAD, LOG_TAIL_BYTES=TAIL)
    assert first.row
    idle = first.peak_memory
    run = release(SCRIPT)
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"much": "failed", "endless": "succeeded", "bytes": "succeeded", "escapes": "succeeded"}
    assert row(run, "much").exit_status == 7
    grown = first.peak_memory - idle
    assert grown < 40 * MB, f"{grown / MB:.0f} MB more than idle"

    is_capped(run, "much", 60 * MB + len("first\n\nlast\n"))
    is_capped(run, "endless", 20 * MB + len("firstlast"))
    assert text(run, "bytes") == "nul ␀ here\nbad \ufffd\ufffd and half of 中\n\ufffd\ufffd\ufffd\n"
    assert blocks(run, "escapes") == [("out", f"{INERT}\n"), ("err", "a␈␈b \ufffd \ufffd <b>bold</b>\n")]

    client = as_user(publisher)
    for name in ("machine_run", "machine_run_log", "machine_run_download"):
        for hostname, words in (("much", "line after line 中"), ("escapes", INERT), ("bytes", "half of 中")):
            response = client.get(page(name, run.stage.job, machine_run_id=row(run, hostname).pk))
            sent = b"".join(response) if response.streaming else response.content
            assert words in sent.decode()
            assert not set(sent) & {0, 7, 8, 27}
            assert b"<b>bold" not in sent or name == "machine_run_download"


@pytest.mark.fleet(**{f"bad_{number}": Fault("alternates") for number in range(3)})
def test_tiny_packets_of_both_streams_in_turn_make_no_more_blocks_than_a_log_may_have(worker, release):
    """All that each of three machines says fits into its head; a row for each of its 20,000 lines would not do."""
    first = worker(LOG_HEAD_BYTES=64_000, LOG_TAIL_BYTES=TAIL)
    run = release("true")
    assert ended(run).status == Run.Status.SUCCEEDED
    assert first.is_alive
    for hostname in statuses(run):
        said = blocks(run, hostname)
        assert len(said) < 64_000 // BYTES_FOR_A_BLOCK + 1000
        assert sorted("".join(text for _, text in said).split()) == ["a"] * 10_000 + ["b"] * 10_000
