#!/usr/bin/env python3

# Many clients with a stream each, which all leave at the same moment:
#
#   vanish.py PORT COUNT fin|rst AUTHORIZATION MODEL
#
# prints "ready" when each has had two pieces of its answer; a line on its
# standard input makes all of them leave, then it prints "gone".  They come
# from nineteen addresses, 127.0.0.2 to 127.0.0.20.

import asyncio
import json
import socket
import struct
import sys

port, count, way, authorization, model = sys.argv[1:]
port, count = int(port), int(count)


class Client(asyncio.Protocol):
    def __init__(self):
        self.seen = 0
        self.ready = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.seen += data.count(b'"content":"')
        if self.seen >= 2 and not self.ready.done():
            self.ready.set_result(True)

    def connection_lost(self, error):
        if not self.ready.done():
            self.ready.set_result(False)


async def begin(i, room):
    body = json.dumps({'model': model, 'stream': True, 'messages': [
        {'role': 'user', 'content': '<vanish-%05d>' % i}]})

    async with room:
        transport, client = await asyncio.get_running_loop().create_connection(
            Client, '127.0.0.1', port,
            local_addr=('127.0.0.%d' % (2 + i % 19), 0))

        transport.write((
            'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n'
            'Authorization: %s\r\nContent-Type: application/json\r\n'
            'Content-Length: %d\r\n\r\n%s'
            % (authorization, len(body), body)).encode())
        good = await client.ready

    return transport, good


async def main():
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(1000)
    clients = await asyncio.gather(*[begin(i, room) for i in range(count)])

    print('ready %d' % sum(good for _, good in clients), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)

    for transport, _ in clients:
        if way == 'rst':
            transport.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER,
                struct.pack('ii', 1, 0))
        transport.abort()

    # their sockets are closed in the loop's next turns
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print('gone', flush=True)


asyncio.run(main())
