import random
import re
import tracemalloc

import pytest

from releases.log import BYTES_FOR_A_BLOCK, LONG_LINE, LogKeeper, storable
from releases.masking import MASK, masked


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


def left_out(blocks):
    """How many bytes the marks say are missing."""
    return sum(int(re.search(r"\d+", mark)[0]) for mark in marks(blocks))


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


def test_many_lines_become_blocks_that_a_page_can_show_at_once():
    said = b"\n" * 2500 + b"a\nb"
    blocks = keep(said)
    assert [block.text.count("\n") for block in blocks] == [1000, 1000, 501, 0]
    assert text_of(blocks) == said.decode()


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
    blocks = keep(*split_at_random(data, seed), head=1000, tail=505, take_every=10)
    text = text_of(blocks)
    whole_lines = data[:1000].rpartition(b"\n")[0] + b"\n" + data[-505:].partition(b"\n")[2]
    assert text == whole_lines.decode()
    assert marks(blocks) == [f"… {len(data) - len(whole_lines)} bytes left out here …"]


def test_the_mark_stands_between_head_and_tail():
    blocks = keep(b"a" * 10 + b"\n", b"b" * 5000, b"\nend\n", head=11, tail=5)
    assert [(block.stream, block.text) for block in blocks] == [
        ("out", "a" * 10 + "\n"),
        ("mark", "… 5001 bytes left out here …"),
        ("out", "end\n"),
    ]


def test_a_line_that_the_cut_did_not_touch_is_kept():
    blocks = keep(b"one\ntwo\n" + b"three\n" * 100 + b"four\nfive\n", head=8, tail=10)
    assert text_of(blocks) == "one\ntwo\nfour\nfive\n"
    assert left_out(blocks) == 600


def test_half_a_line_of_a_stream_that_was_not_cut_is_kept_whole():
    blocks = keep((b"half ", "err"), (b"x\n" * 500, "out"), (b"a line\n", "err"), head=205, tail=107, take_every=1)
    assert text_of(blocks, "err") == "half a line\n"
    assert text_of(blocks, "out") == "x\n" * 150
    assert left_out(blocks) == 700


def test_of_an_endless_line_only_its_ends_beside_the_cut_are_left_out():
    blocks = keep(b"x" * 1_000_000, head=100_000, tail=40_000)
    assert len(text_of(blocks)) == 140_000 - 2 * LONG_LINE
    assert left_out(blocks) == 1_000_000 - len(text_of(blocks))


@pytest.mark.parametrize("size", [1500, 1499, 1001, 1000, 999])
def test_what_just_fits_is_kept_whole_and_without_a_mark(size):
    data = bytes(ord("a") + number % 26 for number in range(size))
    blocks = keep(data, head=1000, tail=500)
    assert (text_of(blocks), marks(blocks)) == (data.decode(), [])


def test_one_byte_too_many_is_marked():
    blocks = keep(b"x" * 999 + b"\n" + b"x\n" + b"y" * 499, head=1000, tail=500)
    assert (len(text_of(blocks)), left_out(blocks)) == (1000 + 499, 2)
    blocks = keep(b"x" * 999 + b"\n\n" + b"y" * 500, head=1000, tail=500)
    assert (len(text_of(blocks)), left_out(blocks)) == (1500, 1)


def test_a_character_on_the_border_of_the_head_stays_whole_when_nothing_is_left_out():
    assert text_of(keep("中".encode() * 100, head=100, tail=500)) == "中" * 100


def test_a_character_that_is_cut_at_the_border_is_shown_as_cut():
    blocks = keep("中".encode() * 1000, head=100, tail=100)
    assert re.fullmatch("中{9}\ufffd?中{25}", text_of(blocks))
    assert left_out(blocks) == 3000 - 3 * 34 - text_of(blocks).count("\ufffd")


def test_memory_stays_within_head_and_tail():
    keeper = LogKeeper(1, 1000, 500)
    for _ in range(1000):
        keeper.feed(b"x" * 10_000, "out")
        keeper.take()
    assert len(keeper.tail) == 500
    assert keeper.left_out == 1000 * 10_000 - 1500


@pytest.mark.parametrize("streams", [("out",), ("out", "err")], ids=["one stream", "both in turn"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_memory_stays_within_head_and_tail_however_small_the_packets_are(size, streams):
    keeper = LogKeeper(1, 50_000, 50_000)
    packets = 200_000 // size
    tracemalloc.start()
    for number in range(packets):
        keeper.feed(b"x" * size, streams[number % len(streams)])
    taken, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 3 * 100_000
    assert keeper.left_out == packets * size - 100_000


def test_the_last_packets_of_both_streams_are_kept_in_order():
    packets = [(b"%d\n" % number, "err" if number % 3 else "out") for number in range(1000)]
    blocks = keep(*packets, head=100, tail=100)
    tail = blocks[[block.stream for block in blocks].index("mark") + 1 :]
    assert "".join(block.text for block in tail) == "".join(f"{number}\n" for number in range(975, 1000))
    assert {(int(line), block.stream) for block in tail for line in block.text.split()} == {
        (number, "err" if number % 3 else "out") for number in range(975, 1000)
    }


def in_turn(changes, each=b"%d\n"):
    """What a machine says that changes the stream so often."""
    return [(each % number if b"%" in each else each, "err" if number % 2 else "out") for number in range(changes)]


class TestManyChangesOfStream:
    """Each would make a block, and a block costs more than what is in it."""

    def test_no_more_blocks_are_made_at_once_than_told(self):
        keeper = LogKeeper(1, 100_000, 1000)
        for packet in in_turn(5000):
            keeper.feed(*packet)
        assert 45 <= len(keeper.take(50)) <= 50

    @pytest.mark.parametrize("each", [b"x\n", b"x"], ids=["lines", "without an end"])
    def test_a_whole_log_has_no_more_than_its_size_allows(self, each):
        """However slowly the machine goes about it; what comes later than that is two blocks for each write."""
        keeper, blocks = LogKeeper(1, 16_000, 2000), []
        for number, packet in enumerate(in_turn(30_000, each)):
            keeper.feed(*packet)
            if number % 10 == 0:
                blocks += keeper.take()
        blocks += keeper.finish(100)
        assert len(blocks) <= 16_000 // BYTES_FOR_A_BLOCK + 2 * 16_000 // 10 + 100

    @pytest.mark.parametrize("most", [0, 1, 2, 7, 50, 999])
    def test_no_text_is_lost_and_each_stream_stays_in_order(self, most):
        keeper = LogKeeper(1, 100_000, 1000)
        for packet in in_turn(1000):
            keeper.feed(*packet)
        blocks = keeper.take(most)
        assert len(blocks) <= max(2, most)
        for stream, first in (("out", 0), ("err", 1)):
            assert text_of(blocks, stream).split() == [str(number) for number in range(first, 1000, 2)]

    def test_what_is_put_together_is_as_near_as_can_be(self):
        keeper = LogKeeper(1, 100_000, 1000)
        for packet in [(b"quiet\n" * 5000, "out"), *in_turn(600)]:
            keeper.feed(*packet)
        numbers = [int(line) for line in text_of(keeper.take(400)).split() if line != "quiet"]
        assert max(abs(number - place) for place, number in enumerate(numbers)) <= 2

    def test_of_both_the_one_that_came_first_stands_first(self):
        keeper = LogKeeper(1, 100_000, 1000)
        for packet in in_turn(10)[1:]:
            keeper.feed(*packet)
        assert [block.stream for block in keeper.take(2)] == ["err", "out"]

    def test_what_just_fits_is_kept_as_it_came(self):
        keeper = LogKeeper(1, 100_000, 1000)
        for packet in in_turn(60):
            keeper.feed(*packet)
        assert [block.text for block in keeper.take(60)] == [f"{number}\n" for number in range(60)]

    def test_the_tail_has_blocks_of_its_own(self):
        blocks = keep(*in_turn(3000), head=1000, tail=1000)
        tail = blocks[[block.stream for block in blocks].index("mark") + 1 :]
        assert [block.text for block in tail] == [f"{number}\n" for number in range(2800, 3000)]


def test_one_piece_larger_than_everything_is_cut():
    blocks = keep(b"x" * 1_000_000, head=1000, tail=500)
    assert len(text_of(blocks)) == 750 + 500
    assert left_out(blocks) == 1_000_000 - 1250


def test_bytes_that_are_left_out_are_counted_whatever_their_stream():
    pieces = [(b"x" * 300, "out"), (b"y" * 300, "err")] * 10
    blocks = keep(*pieces, head=500, tail=400)
    assert len(text_of(blocks)) == 900 - 4 * 100
    assert left_out(blocks) == 6000 - len(text_of(blocks))


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
        ("\x80\x9f\u061c\u200e\u200f\u202a\u202e\u2066\u2069".encode(), "\ufffd" * 9),
        ("中文 🚀".encode(), "中文 🚀"),
        (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_what_a_terminal_would_obey_becomes_text(said, shown):
    assert text_of(keep(said)) == shown


def test_surrogates_are_replaced():
    assert storable("a\ud800b") == "a\ufffdb"


def test_inert_text_stays_as_it_is():
    text = storable("\x1b[31m\0\r\n\u202e中\ud800")
    assert storable(text) == text


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
    assert len(text_of(keeper.finish())) == 3000 - 2 * 250


# A secret that the portal knows, and one of every shape; `s3cret` is in each of them.
KNOWN = "known-s3cret-of-the-portal"
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEAs3cretKeyBody\n" * 12 + "-----END RSA PRIVATE KEY-----"
SECRETS = [
    KNOWN,
    "password=s3cret-" + "x" * 60,
    'token="s3cret words, more of them"',
    "Authorization: Bearer s3cret" + "y" * 40,
    "https://bob:s3cret@h.example/",
    "ghp_s3cret" + "a1B2c3D4e5" * 3,
    "eyJhbGciOiJ9s3cret.eyJzdWIiOiIxs3cret.s3cret",
]


@pytest.fixture
def known(settings):
    settings.SECRET_KEY_FALLBACKS = [KNOWN]


def shows_none(blocks):
    return not re.search(r"s3cret|MIIEow|KeyBody|yyyyyy|xxxxxx|a1B2c3", text_of(blocks))


class TestMasking:
    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("between", ["\n", "\r\n", " ", " " + "filler " * 900, " " + "." * 9000 + " "])
    def test_however_the_bytes_are_split_no_secret_is_kept(self, known, seed, between):
        said = between.join(["begin", *SECRETS, KEY, *SECRETS, "end"])
        blocks = keep(*split_at_random(said.encode(), seed), head=10**6, take_every=1 + seed % 4)
        assert shows_none(blocks)
        assert text_of(blocks) == masked(said.replace("\r\n", "\n"))

    @pytest.mark.parametrize("said", [*SECRETS, KEY])
    def test_the_streams_do_not_tear_one_another_s_secrets(self, known, said):
        pieces = [piece for byte in said.encode() for piece in ((bytes([byte]), "out"), (b"a line of errors\n", "err"))]
        blocks = keep(*pieces, take_every=1)
        assert shows_none(blocks)
        assert text_of(blocks, "out") == masked(said)
        assert text_of(blocks, "err") == "a line of errors\n" * len(said)

    @pytest.mark.parametrize("most", [2, 10, 100])
    @pytest.mark.parametrize("said", [*SECRETS, KEY])
    def test_nor_where_streams_that_change_too_often_are_put_together(self, known, said, most):
        keeper, blocks = LogKeeper(1, 10**6, 1000), []
        for number, byte in enumerate(f"{said}\n".encode() * 3):
            keeper.feed(bytes([byte]), "out")
            keeper.feed(b"a line of errors\n", "err")
            if number % 50 == 0:
                blocks += keeper.take(most)
        blocks += keeper.finish(most)
        assert shows_none(blocks)
        assert text_of(blocks, "out") == masked(f"{said}\n" * 3)

    @pytest.mark.parametrize("secret", [*SECRETS, KEY], ids=lambda secret: secret[:12])
    def test_no_half_of_a_secret_is_kept_where_the_cut_goes_through_both_streams(self, known, secret):
        said = "some words\n" * 50 + secret + "\n" + "other words\n" * 200 + secret + "\nend of it\n" * 50
        packets = [(bytes([byte]), stream) for byte in said.encode() for stream in ("out", "err")]
        for step in range(0, len(secret) + 12, 25):
            blocks = keep(*packets, head=2 * (545 + step), tail=2 * (545 + step))
            assert shows_none(blocks), step
            for stream in ("out", "err"):
                assert "some words\n" in text_of(blocks, stream)
                assert text_of(blocks, stream).endswith("end of it\n")

    @pytest.mark.parametrize("secret", [*SECRETS, KEY], ids=lambda secret: secret[:12])
    def test_wherever_the_cut_goes_through_no_half_of_a_secret_is_kept(self, known, secret):
        said = ("some words\n" * 50 + secret + "\n" + "other words\n" * 200 + secret + "\nend of it\n" * 50).encode()
        for step in range(0, len(secret) + 12, 5):
            blocks = keep(said, head=545 + step, tail=545 + step, take_every=1)
            assert shows_none(blocks), step
            assert "some words\n" in text_of(blocks)
            assert "end of it\n" in text_of(blocks)
            assert left_out(blocks) > 0

    @pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:12])
    def test_nor_in_a_line_without_end(self, known, secret):
        said = ("." * 20_000 + f" {secret} " + "." * 90_000 + f" {secret} " + "." * 20_000).encode()
        for step in range(0, len(secret) + 2, 5):
            blocks = keep(said, head=20_000 + step, tail=20_000 + step)
            assert shows_none(blocks), step
            assert len(text_of(blocks)) >= 40_000 - 2 * LONG_LINE

    def test_a_key_whose_end_is_beyond_the_cut(self):
        said = b"begin\n" + KEY.encode().replace(b"\n", b"\nMIIEowIB\n") + b"\n" + b"words\n" * 500
        blocks = keep(said, head=200, tail=204, take_every=1)
        assert text_of(blocks) == "begin\n" + "words\n" * 34

    @pytest.mark.parametrize("value", ["x" * 300_000, "x" * 100 + "\0" + "x" * 20_000])
    def test_a_secret_longer_than_any_line(self, value):
        said = f"password={value} next\nend\n"
        blocks = keep(*split_at_random(said.encode(), 1), head=10**6, take_every=3)
        assert text_of(blocks) == f"password={MASK} next\nend\n"

    def test_what_is_dropped_in_the_middle_is_not_looked_at(self, monkeypatch):
        seen = []
        keeper = LogKeeper(1, 10_000, 5_000)
        monkeypatch.setattr(keeper, "masker", lambda text: seen.append(len(text)) or text)
        for _ in range(1000):
            keeper.feed(b"line of words\n" * 100, "out")
        keeper.take()
        keeper.finish()
        assert sum(seen) <= 15_000

    def test_the_reason_that_a_machine_gives(self, known):
        assert storable(f"exec failed: token=abc {KNOWN}\x1b[0m") == f"exec failed: token={MASK} {MASK}␛[0m"


def test_an_endless_line_is_read_about_once(monkeypatch):
    seen = []
    keeper = LogKeeper(1, 200_000, 1000)
    monkeypatch.setattr(keeper, "masker", lambda text: seen.append(len(text)) or text)
    for _ in range(10_000):
        keeper.feed(b"x" * 10, "out")
        keeper.feed(b"y" * 10, "err")
    keeper.finish()
    assert sum(seen) <= 3 * 200_000
