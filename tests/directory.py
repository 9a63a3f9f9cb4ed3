"""An LDAP directory on loopback, which answers what the test wants: that there is one person, unless told."""

import socket
import threading
from contextlib import suppress

BIND, BIND_DONE, SEARCH, ENTRY, SEARCH_DONE, EXTENDED = 0x60, 0x61, 0x63, 0x64, 0x65, 0x77
SUCCESS, REFERRAL, INVALID_CREDENTIALS = 0, 10, 49
HANGS = 60  # seconds
DN = b"uid=wang.fang,dc=example"


class Directory:
    """Knows one `password`. `entries` are the DNs that a search finds; `says(number, operation)` replaces an answer."""

    def __init__(self, password):
        self.password, self.entries, self.says = password.encode(), [DN], lambda number, operation: None
        self.binds, self.over = [], threading.Event()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection):
        with connection, suppress(OSError):
            # Each question of these tests comes in one piece; that of TLS is none.
            while (question := connection.recv(65536)) and question[0] == 0x30:
                head = 2 + (question[1] & 0x7F if question[1] & 0x80 else 0)
                number, operation = question[head + 2], question[head + 3]
                said = self.says(number, operation)
                connection.sendall(self._answer(number, operation, question) if said is None else said)
            self.over.wait(HANGS)

    def _answer(self, number, operation, question):
        if operation == SEARCH:
            found = [message(number, tlv(ENTRY, tlv(4, dn) + tlv(0x30, b""))) for dn in self.entries]
            return b"".join(found) + message(number, result(SEARCH_DONE, SUCCESS))
        if operation != BIND:
            return b""
        self.binds.append(question)
        # The portal's own is by nobody.
        is_right = b"dc=example" not in question or question.endswith(self.password)
        return message(number, result(BIND_DONE, SUCCESS if is_right else INVALID_CREDENTIALS))


def tlv(tag, value):
    size = len(value).to_bytes(2, "big")
    return bytes([tag, 0x82]) + size + value


def message(number, operation):
    return tlv(0x30, tlv(2, bytes([number])) + operation)


def result(tag, code, *more):
    return tlv(tag, tlv(0x0A, bytes([code])) + tlv(4, b"") + tlv(4, b"") + b"".join(more))
