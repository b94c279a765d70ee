"""A minimal WebSocket client (RFC 6455) on a plain socket: what ComfyUI's /ws needs, without a library."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class WebSocketClosed(ConnectionError):
    """The other side closed the connection."""


class WebSocket:
    """A client connection to ws://host:port/path. Raises ConnectionError if the handshake fails."""

    def __init__(self, host: str, port: int, path: str, timeout: float = 30.0):
        self._socket = socket.create_connection((host, port), timeout)
        # The reply to the handshake and the first frames may arrive in one packet, so both are read from this
        # buffer.
        self._received = b""
        key = base64.b64encode(os.urandom(16))
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            self._fill()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        if " 101 " not in f"{status} " or headers.get("sec-websocket-accept") != accept:
            self._socket.close()
            raise ConnectionError(f"no WebSocket at {host}:{port}{path}: {status}")

    def _fill(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise WebSocketClosed("the connection ended")
        self._received += data

    def _take(self, offset: int, count: int) -> bytes:
        while len(self._received) < offset + count:
            self._fill()
        return self._received[offset : offset + count]

    def _frame(self) -> tuple[bool, int, bytes]:
        """One whole frame. It stays in the buffer until it is complete, so a timeout loses no byte."""
        first, second = self._take(0, 2)
        offset, length = 2, second & 0x7F
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(self._take(offset, size), "big")
            offset += size
        mask = b""
        if second & 0x80:
            mask, offset = self._take(offset, 4), offset + 4
        payload = self._take(offset, length)
        self._received = self._received[offset + length :]
        if mask:
            payload = _masked(payload, mask)
        return bool(first & 0x80), first & 0x0F, payload

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message, str for text and bytes for binary. Answers pings and joins fragments.

        Raises TimeoutError when nothing arrives within `timeout` seconds, WebSocketClosed when the connection
        ends.
        """
        self._socket.settimeout(timeout)
        parts: list[bytes] = []
        kind = _TEXT
        while True:
            try:
                final, opcode, payload = self._frame()
            except ConnectionResetError as error:
                raise WebSocketClosed("the connection was reset") from error
            except TimeoutError:
                if not parts:
                    raise
                continue
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode == _CLOSE:
                raise WebSocketClosed("the server closed the connection")
            elif opcode in (_TEXT, _BINARY, _CONTINUATION):
                kind = opcode or kind
                parts.append(payload)
                if final:
                    whole = b"".join(parts)
                    return whole.decode("utf-8") if kind == _TEXT else whole

    def send(self, message: str | bytes) -> None:
        """Send one message, text for str and binary for bytes."""
        if isinstance(message, str):
            self._send(_TEXT, message.encode())
        else:
            self._send(_BINARY, message)

    def _send(self, opcode: int, payload: bytes) -> None:
        length, mask = len(payload), os.urandom(4)
        head = bytes([0x80 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += bytes([0x80 | 126]) + struct.pack(">H", length)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", length)
        self._socket.sendall(head + mask + _masked(payload, mask))

    def close(self) -> None:
        """Send a close frame and close the connection. Harmless when the other side is gone."""
        with contextlib.suppress(OSError):
            self._send(_CLOSE, struct.pack(">H", 1000))
        self._socket.close()


def _masked(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
