"""What a machine says, made into log blocks: capped, decoded and inert, however it was sent."""

import codecs
import re
from collections import deque

from django.conf import settings
from django.utils.translation import gettext_noop

from releases.models import LogBlock

LONG_LINE = 4096
LEFT_OUT = gettext_noop("… %(bytes)d bytes left out here …")
# Control characters become their pictures, so that a terminal escape is read and never obeyed.
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
# C1 controls and bidirectional overrides have no pictures.
HIDDEN = dict.fromkeys(
    [*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD
)
INERT = PICTURES | HIDDEN
SURROGATES = re.compile(r"[\ud800-\udfff]")


def inert(text):
    return SURROGATES.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n").translate(INERT))


class LogKeeper:
    """The log of one machine run while it runs: its first bytes as they come, its last bytes at the end.

    `head` and `tail` are in bytes; memory stays within them. Blocks end where lines end.
    """

    def __init__(self, machine_run_id, head=None, tail=None):
        self.machine_run_id = machine_run_id
        self.head_room = settings.LOG_HEAD_BYTES if head is None else head
        self.tail_limit = settings.LOG_TAIL_BYTES if tail is None else tail
        self.head = []
        self.tail = deque()
        self.tail_size = self.left_out = self.number = 0
        self.decoders = {}
        self.unfinished = {}

    def feed(self, data, stream):
        head, rest = data[: self.head_room], data[self.head_room :]
        if head:
            self.head_room -= len(head)
            self.head.append((stream, head))
        if rest:
            self._feed_tail(rest, stream)

    def _feed_tail(self, data, stream):
        self.left_out += max(0, len(data) - self.tail_limit)
        data = data[-self.tail_limit :]
        self.tail.append((stream, data))
        self.tail_size += len(data)
        while self.tail_size > self.tail_limit:
            stream, oldest = self.tail.popleft()
            excess = min(len(oldest), self.tail_size - self.tail_limit)
            self.tail_size -= excess
            self.left_out += excess
            if excess < len(oldest):
                self.tail.appendleft((stream, oldest[excess:]))

    def take(self):
        """The blocks of the lines that came since the last call."""
        pieces, self.head = self.head, []
        return self._blocks(pieces)

    def finish(self):
        """The blocks that remain once the command has ended: a mark for what was left out, and the tail."""
        blocks = self.take()
        if self.left_out:
            blocks += self._flush()
            blocks.append(self._block(LogBlock.Stream.MARK, LEFT_OUT % {"bytes": self.left_out}))
        return blocks + self._blocks(self.tail) + self._flush()

    def _blocks(self, pieces):
        texts = [(stream, self._lines(stream, data)) for stream, data in _joined(pieces)]
        return [self._block(stream, text) for stream, text in texts if text]

    def _lines(self, stream, data):
        """The text of `data` up to the end of its last line; what comes after that waits for more."""
        decoder = self.decoders.setdefault(stream, codecs.getincrementaldecoder("utf-8")(errors="replace"))
        text = self.unfinished.get(stream, "") + decoder.decode(data)
        is_long = len(text) > LONG_LINE and "\n" not in text
        # A carriage return at the very end may be half of a line's end.
        end = len(text) - text.endswith("\r") if is_long else text.rfind("\n") + 1
        self.unfinished[stream] = text[end:]
        return inert(text[:end])

    def _flush(self):
        texts = {stream: self.unfinished[stream] + self.decoders[stream].decode(b"", True) for stream in self.decoders}
        self.decoders, self.unfinished = {}, {}
        return [self._block(stream, inert(text)) for stream, text in texts.items() if text]

    def _block(self, stream, text):
        self.number += 1
        return LogBlock(machine_run_id=self.machine_run_id, number=self.number, stream=stream, text=text)


def _joined(pieces):
    """Neighbours of the same stream as one piece."""
    joined = []
    for stream, data in pieces:
        if joined and joined[-1][0] == stream:
            joined[-1][1].append(data)
        else:
            joined.append((stream, [data]))
    return [(stream, b"".join(parts)) for stream, parts in joined]
