"""What a machine says, made into log blocks: capped, decoded and inert, however it was sent."""

import codecs
import math
import re
from collections import defaultdict
from itertools import compress, islice, pairwise

from django.conf import settings

from releases.masking import KeyMasker, Masker, masked, rest_of_key
from releases.models import LogBlock

LONG_LINE = 4096
BLOCK_LINES = 1000
# A change of stream makes a block, and a block costs the worker and the database as much as thousands of bytes:
# a machine makes no more of them than one for so many bytes of its head, and all machines together so many at once.
BYTES_FOR_A_BLOCK = 16
BLOCKS_AT_ONCE = 3000
# Kept with its number in it, so for all readers in one language.
LEFT_OUT = "… %(bytes)d bytes left out here …"
# Control characters become their pictures, so that a terminal escape is read and never obeyed.
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
# C1 controls and bidirectional overrides have no pictures.
HIDDEN = dict.fromkeys(
    [*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD
)
INERT = PICTURES | HIDDEN
# How the bytes of each stream are marked while they are kept.
MARKS = {LogBlock.Stream.OUT.value: b"o", LogBlock.Stream.ERR.value: b"e"}
# A table that makes its marks 1 and the others 0.
IS_OF = {stream: bytes(code == mark[0] for code in range(256)) for stream, mark in MARKS.items()}
NEIGHBOURS = re.compile(rb"o+|e+")
SURROGATES = re.compile(r"[\ud800-\udfff]")


def storable(text):
    """A text of a machine as it may be stored: nothing in it that is obeyed, and no secret."""
    return masked(_readable(text))


def _readable(text):
    return SURROGATES.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n").translate(INERT))


class LogKeeper:
    """The log of one machine run while it runs: its first bytes as they come, its last bytes at the end.

    `head` and `tail` are in bytes; memory stays within about twice as much. Blocks end where lines end. What is cut
    off in the middle takes the broken lines around it along, or so much of them that no half of a secret is left.
    Where the stream changes too often, what came of each is put together, over as few changes as will do.
    """

    def __init__(self, machine_run_id, head=None, tail=None, masker=None):
        self.machine_run_id = machine_run_id
        self.head_room = settings.LOG_HEAD_BYTES if head is None else head
        self.tail_limit = settings.LOG_TAIL_BYTES if tail is None else tail
        self.most_in_head = self.head_room // BYTES_FOR_A_BLOCK
        self.edge = min(LONG_LINE, self.head_room // 4, self.tail_limit // 4)
        self.head, self.tail = _Said(), _Said()
        self.left_out = self.number = 0
        self.cut = {}
        self.masker = masker or Masker()
        self.streams = defaultdict(lambda: _Stream(self.masker))

    def feed(self, data, stream):
        head, rest = data[: self.head_room], data[self.head_room :]
        if head:
            self.head_room -= len(head)
            self.head.add(stream, head)
        if rest:
            self._feed_tail(rest, stream)

    def _feed_tail(self, data, stream):
        self.tail.add(stream, data)
        if (excess := len(self.tail) - self.tail_limit) > 0:
            self.left_out += excess
            self.cut |= self.tail.drop(excess)

    def take(self, most=BLOCKS_AT_ONCE):
        """The blocks of the lines that came since the last call, for up to `most` changes of stream."""
        said, self.head = self.head, _Said()
        return self._blocks(said, min(most, self.most_in_head - self.number))

    def finish(self, most=BLOCKS_AT_ONCE):
        """The blocks that remain once the command has ended: a mark for what was left out, and the tail."""
        blocks = self.take(most)
        if self.cut:
            blocks += [block for stream in self.cut for block in self._end_head(stream)]
            for stream, last in self.cut.items():
                self._begin_tail(stream, last == b"\n")
            blocks.append(self._block(LogBlock.Stream.MARK, LEFT_OUT % {"bytes": self.left_out}))
        blocks += self._blocks(self.tail, most)
        return blocks + [block for stream in list(self.streams) for block in self._flush(stream)]

    def _end_head(self, stream):
        self.left_out += self.streams[stream].cut(self.edge)
        return self._flush(stream)

    def _begin_tail(self, stream, is_whole):
        """Leaves out what the cut broke at the beginning of a stream's tail: a private key, or a line."""
        said = self.tail.of(stream)
        broken = rest_of_key(said.decode("latin-1"))
        if not broken and not is_whole:
            broken = (said.find(b"\n", 0, self.edge) + 1) or min(self.edge, len(said))
        self.left_out += broken
        self.tail.drop_of(stream, broken)

    def _blocks(self, said, most):
        lines = ((stream, self.streams[stream].lines(data)) for stream, data in said.pieces(most))
        return [self._block(stream, part) for stream, text in lines for part in _parts(text)]

    def _flush(self, stream):
        text = self.streams.pop(stream).rest()
        return [self._block(stream, text)] if text else []

    def _block(self, stream, text):
        self.number += 1
        return LogBlock(machine_run_id=self.machine_run_id, number=self.number, stream=stream, text=text)


class _Said:
    """What came of both streams, in order, and of which each byte is: as small in packets of one byte as in large ones.

    Its pieces are (stream, bytes), neighbours of the same stream as one.
    """

    def __init__(self):
        self.data, self.marks = bytearray(), bytearray()

    def __len__(self):
        return len(self.data)

    def pieces(self, most):
        """Where there would be more than `most`, several changes of stream become two pieces, one of each stream."""
        most = max(2, most)
        changes = 1 + self.marks.count(b"oe") + self.marks.count(b"eo")
        together = 1 if changes <= most else math.ceil(changes / (most // 2))
        begins = (some.start() for some in islice(NEIGHBOURS.finditer(self.marks), 0, None, together))
        for begin, end in pairwise([*begins, len(self)]):
            for stream in MARKS if self.marks.startswith(b"o", begin) else reversed(MARKS):
                if data := self.of(stream, begin, end):
                    yield stream, data

    def of(self, stream, begin=0, end=None):
        """What is there of one stream."""
        return bytes(compress(self.data[begin:end], self.marks[begin:end].translate(IS_OF[stream])))

    def add(self, stream, data):
        self.data += data
        self.marks += MARKS[stream] * len(data)

    def drop(self, size):
        """Forgets so many of the first bytes; returns the last of them of each stream."""
        last = {stream: self.marks.rfind(mark, 0, size) for stream, mark in MARKS.items()}
        dropped = {stream: self.data[at : at + 1] for stream, at in last.items() if at >= 0}
        del self.data[:size], self.marks[:size]
        return dropped

    def drop_of(self, stream, size):
        """Forgets so many of the first bytes of one stream."""
        places = compress(range(len(self)), self.marks.translate(IS_OF[stream]))
        end = max(islice(places, size), default=-1) + 1
        for other in MARKS.keys() - {stream}:
            kept = self.of(other, 0, end)
            self.data[:end], self.marks[:end] = kept, MARKS[other] * len(kept)


class _Stream:
    """One stream of a machine as text that may be stored, line by line; what has no end yet waits for more."""

    def __init__(self, masker):
        self.masker = masker
        self.keys = KeyMasker()
        # Bytes that are no text stay countable as surrogates.
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self.unfinished = ""

    def lines(self, data):
        text = self.unfinished + self.keys.feed(self.decoder.decode(data))
        end = text.rfind("\n") + 1
        if not end and len(text) > 2 * LONG_LINE:
            # What waits is masked already, so that a secret on the border is known by its beginning.
            # A carriage return at the very end may be half of a line's end.
            text = self._storable(text.removesuffix("\r")) + "\r" * text.endswith("\r")
            end = max(0, len(text) - LONG_LINE)
            self.unfinished = text[end:]
            return text[:end]
        self.unfinished = text[end:]
        return self._storable(text[:end])

    def cut(self, length):
        """Leaves out the end of what waits, up to that length; returns how many bytes that were."""
        self._end()
        kept = max(0, len(self.unfinished) - length)
        gone, self.unfinished = self.unfinished[kept:], self.unfinished[:kept]
        return len(gone.encode(errors="surrogateescape"))

    def rest(self):
        self._end()
        return self._storable(self.unfinished)

    def _end(self):
        self.unfinished += self.keys.feed(self.decoder.decode(b"", True)) + self.keys.flush()

    def _storable(self, text):
        return self.masker(_readable(text))


def _parts(text):
    """A text in pieces of so many lines that a page can show each at once."""
    lines = text.splitlines(keepends=True)
    return ["".join(lines[first : first + BLOCK_LINES]) for first in range(0, len(lines), BLOCK_LINES)]
