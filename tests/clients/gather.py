"""Scripts as people write them: aiohttp, ten calls at once, no SDK."""

import asyncio
import json
import os

import aiohttp

from report import Report

URL = os.environ["GATEWAY_URL"] + "/chat/completions"
HEADERS = {"Authorization": "Bearer " + os.environ["GATEWAY_KEY"]}
TEXT = os.environ["MOCK_TEXT"]

report = Report("aiohttp")


def body(text, **more):
    return dict({"model": "gpt-4o", "messages": [
        {"role": "user", "content": "aiohttp " + text}]}, **more)


async def ask(session, text, **more):
    async with session.post(URL, json=body(text, **more)) as answer:
        answer.raise_for_status()
        data = await answer.json()
        return data["choices"][0]["message"]["content"]


async def gather(*calls):
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        return await asyncio.gather(*(call(session) for call in calls),
                                    return_exceptions=True)


@report.test
def ten_at_once():
    calls = [lambda s, i=i: ask(s, f"call {i}") for i in range(10)]
    assert asyncio.run(gather(*calls)) == [TEXT] * 10


@report.test
def one_failure_among_ten():
    calls = [lambda s, i=i: ask(s, f"mixed {i}") for i in range(9)]
    calls.append(lambda s: ask(s, "mixed", model="bad-aiohttp"))
    results = asyncio.run(gather(*calls))
    assert results[:9] == [TEXT] * 9
    assert isinstance(results[9], aiohttp.ClientResponseError)
    assert results[9].status == 400


@report.test
def ten_in_line_for_two_slots():
    headers = {"Authorization": "Bearer " + os.environ["PAIR_KEY"]}

    async def all_of_them():
        async with aiohttp.ClientSession(headers=headers) as session:
            return await asyncio.gather(
                *(ask(session, f"line {i}") for i in range(10)))

    assert asyncio.run(all_of_them()) == [TEXT] * 10


@report.test
def stream_line_by_line():
    async def read():
        text, done = "", False
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            async with session.post(URL, json=body(
                    "stream", stream=True)) as answer:
                assert answer.content_type == "text/event-stream"
                async for line in answer.content:
                    if not line.startswith(b"data: "):
                        continue
                    data = line[6:].strip()
                    if data == b"[DONE]":
                        done = True
                        break
                    choices = json.loads(data)["choices"]
                    text += choices[0]["delta"].get("content") or ""
        return text, done

    assert asyncio.run(read()) == (TEXT, True)


@report.test
def left_by_timeout():
    async def late():
        timeout = aiohttp.ClientTimeout(total=0.3)
        async with aiohttp.ClientSession(headers=HEADERS,
                                         timeout=timeout) as session:
            return await ask(session, "late", model="hang-aiohttp")

    try:
        asyncio.run(late())
    except asyncio.TimeoutError:
        return
    raise AssertionError("no timeout")


report.run()
