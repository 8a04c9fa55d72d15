"""Clients: some that ask and wait for the answer, and crowds of thousands
that share a few HTTP/2 connections."""

import json
import selectors
import socket
import struct
import time

from bed import Failure, MODEL, secret

PATH = '/v1/chat/completions'
PER_LINK = 250

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def body(stream=False, text='hello ' * 100):
    asked = {'model': MODEL, 'messages': [{'role': 'user', 'content': text}]}
    if stream:
        asked['stream'] = True
    return json.dumps(asked).encode()


class Asker:
    """A few connections that stay; each request is answered before the next
    one goes out on its connection."""

    def __init__(self, port, connections=1):
        self.sockets = []
        for _ in range(connections):
            s = socket.create_connection(('127.0.0.1', port), 60)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(s)
        self.body = body()

    def ask(self, keys, headers=()):
        """One request of each of these keys; all have to be answered with
        200."""
        n = len(self.sockets)
        for i in range(0, len(keys), n):
            some = keys[i:i + n]
            for s, key in zip(self.sockets, some):
                s.sendall(self.request(key, headers))
            for s, _ in zip(self.sockets, some):
                self.hear(s)

    def request(self, key, headers):
        head = ['POST %s HTTP/1.1' % PATH, 'Host: localhost',
                'Authorization: Bearer ' + secret(key),
                'Content-Type: application/json',
                'Content-Length: %d' % len(self.body)]
        head += ['%s: %s' % h for h in headers]
        return '\r\n'.join(head + ['', '']).encode() + self.body

    def hear(self, s):
        got = b''
        while b'\r\n\r\n' not in got:
            more = s.recv(65536)
            if not more:
                raise Failure('closed: %r' % got[:200])
            got += more
        head, rest = got.split(b'\r\n\r\n', 1)
        if not head.startswith(b'HTTP/1.1 200'):
            raise Failure('answered %r' % got[:300])
        for line in head.lower().split(b'\r\n'):
            if line.startswith(b'content-length:'):
                left = int(line[15:]) - len(rest)
                while left > 0:
                    left -= len(s.recv(65536))
                return
        raise Failure('no length: %r' % head)

    def close(self):
        for s in self.sockets:
            s.close()


def frame(kind, flags, stream, payload=b''):
    return struct.pack('>I', len(payload))[1:] \
        + struct.pack('>BBI', kind, flags, stream) + payload


def literal(name, value):
    """A header field that no table keeps."""
    out = b'\0'
    for word in (name.encode(), value.encode()):
        if len(word) < 127:
            out += bytes([len(word)]) + word
        else:
            rest = len(word) - 127
            out += b'\x7f'
            while rest >= 128:
                out += bytes([rest % 128 + 128])
                rest //= 128
            out += bytes([rest]) + word
    return out


class Link:
    """One HTTP/2 connection."""

    def __init__(self, crowd, port):
        self.crowd = crowd
        self.s = socket.create_connection(('127.0.0.1', port), 60)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next = 1
        self.used = 0
        self.got = b''
        # answers may come without end, on the connection and each stream
        self.out = [b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
                    frame(SETTINGS, 0, 0, struct.pack('>HI', 4, 0x7fffffff)),
                    frame(8, 0, 0, struct.pack('>I', 0x7fff0000))]

    def flush(self):
        if self.out:
            out, self.out = b''.join(self.out), []
            self.s.sendall(out)

    def read(self):
        more = self.s.recv(1 << 18)
        if not more:
            raise Failure('an HTTP/2 connection was closed')
        got, at = self.got + more, 0

        while len(got) - at >= 9:
            size = int.from_bytes(got[at:at + 3], 'big')
            if len(got) - at < 9 + size:
                break
            kind, flags = got[at + 3], got[at + 4]
            stream = int.from_bytes(got[at + 5:at + 9], 'big')
            payload = got[at + 9:at + 9 + size]
            at += 9 + size

            if kind == HEADERS:
                # ":status: 200" of the static table
                self.crowd.headed(self, stream, payload[:1] == b'\x88',
                                  payload)
            if kind == DATA:
                self.crowd.events += payload.count(b'data: ')
            if kind == RST:
                raise Failure('stream %d was reset' % stream)
            if kind == GOAWAY:
                raise Failure('GOAWAY: %r' % payload)
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                self.crowd.ended(self, stream)
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.out.append(frame(kind, ACK, 0,
                                      payload if kind == PING else b''))
        self.got = got[at:]
        self.flush()


class Crowd:
    """Requests by the thousand.  headed, done and events count what came."""

    def __init__(self, port):
        self.port = port
        self.links = []
        self.selector = selectors.DefaultSelector()
        self.heads = self.done = self.events = self.asked = 0

    def start(self, n, key, stream=False, headers=(), each=None):
        """key: a name, or of the i-th key(i); each(i): further headers of
        the i-th.  As many as one connection may have go over one, so that
        they come in this order.  Gives (link, stream) of each."""
        text = body(stream)
        always = b'\x83\x86' + literal(':path', PATH) \
            + literal(':authority', 'localhost') \
            + literal('content-type', 'application/json') \
            + literal('content-length', str(len(text))) \
            + b''.join(literal(*h) for h in headers)
        started = []
        link = None

        for i in range(n):
            if not link or link.used == PER_LINK:
                link = next((x for x in reversed(self.links)
                             if x.used + min(n, PER_LINK) <= PER_LINK), None)
            if not link:
                if self.links:
                    self.links[-1].flush()
                    self.pump(0)
                link = Link(self, self.port)
                self.links.append(link)
                self.selector.register(link.s, selectors.EVENT_READ, link)
            block = always + literal('authorization', 'Bearer ' + secret(
                key(i) if callable(key) else key))
            if each:
                block += b''.join(literal(*h) for h in each(i))
            link.out += [frame(HEADERS, END_HEADERS, link.next, block),
                         frame(DATA, END_STREAM, link.next, text)]
            started.append((link, link.next))
            link.next += 2
            link.used += 1
            self.asked += 1
        self.pump(0)
        return started

    def cancel(self, one):
        link, stream = one
        link.out.append(frame(RST, 0, stream, struct.pack('>I', 8)))
        link.used -= 1
        link.flush()

    def headed(self, link, stream, good, block):
        if not good:
            raise Failure('refused: %r' % block[:200])
        self.heads += 1

    def ended(self, link, stream):
        self.done += 1
        link.used -= 1

    def pump(self, seconds):
        for link in self.links:
            link.flush()
        for key, _ in self.selector.select(seconds):
            key.data.read()

    def until(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Failure('%s: not within %d s (%d asked, %d heads, '
                              '%d done)' % (what, seconds, self.asked,
                                            self.heads, self.done))
            self.pump(0.05)

    def close(self):
        for link in self.links:
            self.selector.unregister(link.s)
            link.s.close()
        self.links = []
