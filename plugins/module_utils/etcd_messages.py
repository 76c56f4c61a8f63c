"""The few bytes of HTTP/2, gRPC and protobuf that it takes to ask etcd for its members. Pure.

K3s brings no etcdctl, and the JSON gateway of an embedded etcd is not always there. gRPC is, and a call with an empty
message is one fixed request; of the answer only the data matters (RFC 9113, etcd-io/etcd api/etcdserverpb/rpc.proto).
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterable, Iterator, Tuple, Union

MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
STATUS = "/etcdserverpb.Maintenance/Status"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD = 9


@dataclass(frozen=True)
class Frame:
    """A frame of HTTP/2."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def encode(self) -> bytes:
        """Return its bytes."""
        length = struct.pack("!I", len(self.payload))[1:]
        return length + struct.pack("!BBI", self.kind, self.flags, self.stream) + self.payload


def frames(buffer: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames at the beginning of C(buffer), and what is left."""
    found = []
    while len(buffer) >= _FRAME_HEAD:
        length = int.from_bytes(buffer[:3], "big")
        if len(buffer) < _FRAME_HEAD + length:
            break
        kind, flags, stream = struct.unpack("!BBI", buffer[3:_FRAME_HEAD])
        found.append(Frame(kind, flags, stream & 0x7FFFFFFF, buffer[_FRAME_HEAD : _FRAME_HEAD + length]))
        buffer = buffer[_FRAME_HEAD + length :]
    return found, buffer


def request(path: str, authority: str) -> bytes:
    """Return everything that a client sends for a call with an empty message."""
    headers = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    # HPACK: literal header field, never indexed, neither part Huffman coded (RFC 7541, 6.2.2). All are shorter than 127.
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    message = b"\0" + struct.pack("!I", 0)
    return (
        _PREFACE
        + Frame(SETTINGS, 0, 0, b"").encode()
        + Frame(HEADERS, END_HEADERS, 1, block).encode()
        + Frame(DATA, END_STREAM, 1, message).encode()
    )


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("ascii")


def message(data: bytes) -> bytes:
    """Return the message in the data of a stream.

    Raises:
        ValueError: there is none; etcd refused the call.
    """
    if len(data) < 5 or data[0]:
        raise ValueError("etcd gave no answer to the call")
    length = int.from_bytes(data[1:5], "big")
    return data[5 : 5 + length]


Field = Tuple[int, Union[int, bytes]]


def fields(data: bytes) -> Iterator[Field]:
    """Yield the fields of a protobuf message: their numbers, with integers or bytes.

    Raises:
        ValueError: these bytes are no message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a message of etcd is cut off")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            at += {1: 8, 5: 4}.get(tag & 7, len(data) + 1)
            if at > len(data):
                raise ValueError("a message of etcd cannot be read")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a message of etcd is cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        shift += 7
        if not data[at - 1] & 0x80:
            return value, at


@dataclass(frozen=True)
class EtcdMember:
    """A member as etcd lists it."""

    name: str
    """Empty for one that was added and never started."""
    client_urls: tuple[str, ...]
    peer_urls: tuple[str, ...]
    is_learner: bool


def members(response: bytes) -> list[EtcdMember]:
    """Return the members of a MemberListResponse.

    Raises:
        ValueError: these bytes are none.
    """
    found = []
    for number, value in fields(response):
        if number == 2 and isinstance(value, bytes):
            parts = list(fields(value))
            name, peers, clients = (_texts(parts, field) for field in (2, 3, 4))
            found.append(EtcdMember("".join(name), clients, peers, (5, 1) in parts))
    return found


def _texts(parts: Iterable[Field], field: int) -> tuple[str, ...]:
    return tuple(part.decode("utf-8", "replace") for number, part in parts if number == field and isinstance(part, bytes))


def leader(response: bytes) -> tuple[int, int]:
    """Return the ids of the member that answers with a StatusResponse, and of its leader, 0 where it knows none.

    Raises:
        ValueError: these bytes are none.
    """
    parts = list(fields(response))
    header = next((value for number, value in parts if number == 1 and isinstance(value, bytes)), b"")
    return _number(fields(header), 2), _number(parts, 4)


def _number(parts: Iterable[Field], field: int) -> int:
    return next((part for number, part in parts if number == field and isinstance(part, int)), 0)
