import random

import pytest

from releases.log import LogKeeper, inert


def keep(*pieces, head=100_000, tail=10_000, take_every=None):
    """The blocks of what a machine said in `pieces`: bytes of the output, or (bytes, stream)."""
    keeper, blocks = LogKeeper(1, head, tail), []
    for number, piece in enumerate(pieces, 1):
        keeper.feed(*(piece if isinstance(piece, tuple) else (piece, "out")))
        if take_every and number % take_every == 0:
            blocks += keeper.take()
    return blocks + keeper.finish()


def text_of(blocks, *streams):
    return "".join(block.text for block in blocks if block.stream in (streams or ("out", "err")))


def marks(blocks):
    return [block.text for block in blocks if block.stream == "mark"]


def split_at_random(data, seed):
    chance = random.Random(seed)
    while data:
        size = chance.choice([1, 1, 2, 3, 7, 50, 1000])
        yield data[:size]
        data = data[size:]


def test_a_machine_that_says_nothing_leaves_no_block():
    assert keep() == []
    assert keep(b"", take_every=1) == []


def test_what_was_said_is_kept_as_it_was_said():
    assert text_of(keep(b"one\ntwo\n")) == "one\ntwo\n"


def test_a_last_line_without_an_end_is_kept():
    assert text_of(keep(b"one\ntwo", take_every=1)) == "one\ntwo"


def test_blocks_end_where_lines_end():
    keeper = LogKeeper(1, 1000, 1000)
    keeper.feed(b"one\ntw", "out")
    assert [block.text for block in keeper.take()] == ["one\n"]
    keeper.feed(b"o\nth", "out")
    assert [block.text for block in keeper.take()] == ["two\n"]
    assert [block.text for block in keeper.finish()] == ["th"]


def test_blocks_are_numbered_from_one_without_a_gap():
    blocks = keep(*[b"line\n"] * 20, b"x" * 9000, take_every=3, head=100, tail=50)
    assert [block.number for block in blocks] == list(range(1, len(blocks) + 1))


def test_the_streams_are_kept_apart_and_in_order():
    blocks = keep((b"out 1\n", "out"), (b"err 1\n", "err"), (b"out 2\n", "out"))
    assert [(block.stream, block.text) for block in blocks] == [
        ("out", "out 1\n"),
        ("err", "err 1\n"),
        ("out", "out 2\n"),
    ]


def test_half_a_line_of_one_stream_does_not_end_up_in_the_other():
    blocks = keep((b"half ", "out"), (b"error\n", "err"), (b"a line\n", "out"), take_every=1)
    assert text_of(blocks, "out") == "half a line\n"
    assert text_of(blocks, "err") == "error\n"


def test_neighbours_of_one_stream_become_one_block():
    assert len(keep(*[b"line\n"] * 100)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_however_the_bytes_are_split_the_text_is_the_same(seed):
    data = (
        "中文 naïve 🚀 line\r\nnext\n".encode() * 20 + b"\xff\xfe bad \xe4\xb8\n" + b"\x1b[31mred\x1b[0m\0end\r\nx" * 9
    )
    assert text_of(keep(*split_at_random(data, seed), take_every=1 + seed % 4)) == text_of(keep(data))


@pytest.mark.parametrize("seed", range(10))
def test_however_an_endless_line_is_split_no_text_is_lost(seed):
    data = "长".encode() * 20_000
    assert text_of(keep(*split_at_random(data, seed), take_every=50)) == "长" * 20_000


def test_a_line_end_that_comes_in_two_parts_after_a_long_line_is_one():
    assert text_of(keep(b"x" * 5000 + b"\r", b"\nnext", take_every=1)) == "x" * 5000 + "\nnext"


@pytest.mark.parametrize("seed", range(10))
def test_however_much_is_said_no_more_than_head_and_tail_is_kept(seed):
    data = b"".join(b"line %d\n" % number for number in range(3000))
    blocks = keep(*split_at_random(data, seed), head=1000, tail=500, take_every=10)
    text = text_of(blocks)
    assert text == data[:1000].decode() + data[-500:].decode()
    assert marks(blocks) == [f"… {len(data) - 1500} bytes left out here …"]


def test_the_mark_stands_between_head_and_tail():
    blocks = keep(b"a" * 10 + b"\n", b"b" * 5000, b"\nend\n", head=11, tail=5)
    assert [(block.stream, block.text) for block in blocks] == [
        ("out", "a" * 10 + "\n"),
        ("mark", "… 5000 bytes left out here …"),
        ("out", "\nend\n"),
    ]


@pytest.mark.parametrize("size", [1500, 1499, 1001, 1000, 999])
def test_what_just_fits_is_kept_whole_and_without_a_mark(size):
    data = bytes(ord("a") + number % 26 for number in range(size))
    blocks = keep(data, head=1000, tail=500)
    assert (text_of(blocks), marks(blocks)) == (data.decode(), [])


def test_one_byte_too_many_is_marked():
    assert marks(keep(b"x" * 1501, head=1000, tail=500)) == ["… 1 bytes left out here …"]


def test_a_character_on_the_border_of_the_head_stays_whole_when_nothing_is_left_out():
    assert text_of(keep("中".encode() * 100, head=100, tail=500)) == "中" * 100


def test_a_character_that_is_cut_at_the_border_is_shown_as_cut():
    text = text_of(keep("中".encode() * 1000, head=100, tail=100))
    assert text.startswith("中" * 33 + "\ufffd")
    assert text.endswith("\ufffd" + "中" * 33)


def test_memory_stays_within_head_and_tail():
    keeper = LogKeeper(1, 1000, 500)
    for _ in range(1000):
        keeper.feed(b"x" * 10_000, "out")
        keeper.take()
    assert sum(len(data) for _, data in keeper.tail) == 500
    assert keeper.left_out == 1000 * 10_000 - 1500


def test_one_piece_larger_than_everything_is_cut():
    blocks = keep(b"x" * 1_000_000, head=1000, tail=500)
    assert len(text_of(blocks)) == 1500
    assert marks(blocks) == ["… 998500 bytes left out here …"]


def test_bytes_that_are_left_out_are_counted_whatever_their_stream():
    pieces = [(b"x" * 300, "out"), (b"y" * 300, "err")] * 10
    blocks = keep(*pieces, head=500, tail=400)
    assert marks(blocks) == ["… 5100 bytes left out here …"]
    assert len(text_of(blocks)) == 900


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"nul\0", "nul␀"),
        (b"\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        (b"\x7f\x08", "␡␈"),
        (b"a\tb\n", "a\tb\n"),
        (b"one\r\ntwo", "one\ntwo"),
        (b"10%\r20%\r\n", "10%\n20%\n"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        ("\x9b31m".encode(), "\ufffd31m"),
        ("a\u202eb\u2066c".encode(), "a\ufffdb\ufffdc"),
        ("中文 🚀".encode(), "中文 🚀"),
        (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_what_a_terminal_would_obey_becomes_text(said, shown):
    assert text_of(keep(said)) == shown


def test_surrogates_are_replaced():
    assert inert("a\ud800b") == "a\ufffdb"


def test_inert_text_stays_as_it_is():
    text = inert("\x1b[31m\0\r\n\u202e中\ud800")
    assert inert(text) == text


@pytest.mark.django_db
def test_every_kind_of_text_can_be_stored(start, job, machines):
    from releases.models import LogBlock

    machine_run = start(job, machines[:1]).machine_runs.get()
    keeper = LogKeeper(machine_run.pk, 1000, 100)
    keeper.feed(bytes(range(256)) * 3 + "\ud800🚀".encode("utf-8", "surrogatepass"), "out")
    blocks = keeper.finish()
    LogBlock.objects.bulk_create(blocks)
    stored = LogBlock.objects.filter(machine_run=machine_run)
    assert [block.text for block in stored] == [block.text for block in blocks]


def test_the_caps_come_from_the_settings(settings):
    settings.LOG_HEAD_BYTES, settings.LOG_TAIL_BYTES = 2000, 1000
    keeper = LogKeeper(1)
    keeper.feed(b"x" * 10_000, "out")
    assert len(text_of(keeper.finish())) == 3000
