"""Drives the admin API of a running gateway from docs/openapi.json.

Each operation's example is sent, and what comes is compared with the
description; then what the description forbids is sent.  Prints TAP.

API_URL, ADMIN_SECRET; FILE_KEY and FILE_TEAM are names of the tenants file.
"""

import http.client
import json
import os
import sys
import urllib.parse

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


HERE = os.path.dirname(os.path.abspath(__file__))
BASE = urllib.parse.urlsplit(os.environ["API_URL"])
SECRET = os.environ["ADMIN_SECRET"]

with open(f"{HERE}/../../docs/openapi.json", encoding="utf-8") as file:
    API = json.load(file)

REGISTRY = Registry().with_resource(
    "urn:api", Resource(contents=API, specification=DRAFT202012))

tests = 0


def ok(true, name, why=""):
    global tests

    tests += 1
    print(f"{'ok' if true else 'not ok'} {tests} - {name}", flush=True)

    if not true:
        for line in str(why)[:2000].split("\n"):
            print(f"#   {line}", file=sys.stderr, flush=True)

    return true


def resolve(node):
    """What a reference within the description stands for."""

    while "$ref" in node:
        reference, node = node["$ref"], API

        for part in reference[2:].split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]

    return node


def faults(schema, value):
    """What is wrong with a value: text, empty if it is right."""

    schema = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))

    return "\n".join(
        f"{error.json_path}: {error.message[:300]}"
        for error in Draft202012Validator(schema, registry=REGISTRY)
        .iter_errors(value))


def send(method, path, body=None, secret=SECRET, raw=None):
    """(status, headers, the JSON of the answer)"""

    headers = {}

    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"

    if body is not None:
        raw = json.dumps(body).encode()

    if raw is not None:
        headers["Content-Type"] = "application/json"

    connection = http.client.HTTPConnection(BASE.hostname, BASE.port,
                                            timeout=20)
    try:
        connection.request(method, BASE.path + path, raw, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()

    try:
        return answer.status, answer.headers, json.loads(text)
    except ValueError:
        return answer.status, answer.headers, text


def operations():
    """(method, path, operation), in an order in which they can succeed."""

    def rank(item):
        method, path, _ = item
        last = path.endswith("{name}")

        return (method == "DELETE" and last, method == "DELETE",
                method == "POST" and path != "/keys", method == "PATCH",
                method == "GET", method != "PUT", path)

    return sorted(((method.upper(), path, operation)
                   for path, item in API["paths"].items()
                   for method, operation in item.items()), key=rank)


def parameters(operation, where):
    return [p for p in operation.get("parameters", []) if p["in"] == where]


def example_path(path, operation, query=True, name=None):
    for parameter in parameters(operation, "path"):
        value = name if name is not None else parameter["example"]
        path = path.replace("{%s}" % parameter["name"],
                            urllib.parse.quote(value, safe=""))

    pairs = [(p["name"], json.dumps(p["example"]).strip('"'))
             for p in parameters(operation, "query") if "example" in p]

    return path + ("?" + urllib.parse.urlencode(pairs)
                   if query and pairs else "")


def body_of(operation):
    """(schema, example) of the body, (None, None) without one."""

    if "requestBody" not in operation:
        return None, None

    media = operation["requestBody"]["content"]["application/json"]

    return media["schema"], media["example"]


def check(operation, status, body, name):
    """The answer is one of those that the description knows."""

    answer = operation["responses"].get(str(status))

    if not ok(answer is not None, f"{name}: a known status ({status})", body):
        return

    schema = resolve(answer)["content"]["application/json"]["schema"]
    wrong = faults(schema, body)
    ok(not wrong, f"{name}: the answer is as described",
       f"{wrong}\n{json.dumps(body)[:600]}")


def refused(operation, answer, name, status, codes=(), param=None):
    got, _, body = answer

    if not ok(got == status, f"{name}: {status}", f"{got} {body}"):
        return

    wrong = faults({"$ref": "#/components/schemas/Error"}, body)

    if not ok(not wrong, f"{name}: an error as described", f"{wrong} {body}"):
        return

    if codes:
        ok(body["error"]["code"] in codes,
           f"{name}: {' or '.join(codes)}", body)

    if param is not None:
        ok((body["error"]["param"] or "").split(".")[0] == param,
           f"{name}: names {param}", body)


def description():
    try:
        validate(API)
        wrong = ""
    except Exception as error:  # whatever it finds
        wrong = error

    ok(not wrong, "the description is OpenAPI 3.1", wrong)

    for method, path, operation in operations():
        name = f"{method} {path}"
        schema, example = body_of(operation)

        if schema:
            wrong = faults(schema, example)
            ok(not wrong, f"{name}: the example is a request", wrong)

        for status, answer in operation["responses"].items():
            media = resolve(answer)["content"]["application/json"]

            if status < "300":
                wrong = faults(media["schema"], media["example"])
                ok(not wrong, f"{name}: the example is a {status}", wrong)


def examples():
    seen = {}

    for method, path, operation in operations():
        name = f"{method} {path}"
        target = example_path(path, operation)
        status, _, body = send(method, target, body_of(operation)[1])

        ok(200 <= status < 300, f"{name}: done", f"{status} {body}")
        check(operation, status, body, name)
        seen[operation["operationId"]] = (status, body)

        if method == "PUT":
            status, _, body = send(method, target, body_of(operation)[1])
            ok(status == 200, f"{name}: again, it is replaced", status)
            check(operation, status, body, f"{name} again")

    return seen


def wrong_value(schema):
    """A value that the schema does not allow, and that is no null."""

    for value in ("nonsense", -1, [], {}, 0.5, True, [1]):
        if faults(schema, value):
            return value

    raise ValueError(schema)


def bodies(method, path, operation):
    name = f"{method} {path}"
    schema, example = body_of(operation)
    target = example_path(path, operation)
    inner = resolve(schema)

    # that it is there already is not to be what is wrong
    if path == "/keys":
        example = {**example, "name": "nobody"}

    for raw, what in ((b"{", "half a body"), (b"[]", "a list"),
                      (b'"x"', "a string"), (b"\xff", "no UTF-8"),
                      (b'{"a": 1, "a": 2}', "a name twice")):
        refused(operation, send(method, target, raw=raw), f"{name}: {what}",
                400, ("invalid_json", "duplicate_key"))

    # where there may be one member alone, two would be wrong as well
    alone = "maxProperties" in inner or "oneOf" in inner
    refused(operation, send(method, target, {**({} if alone else example),
                                             "x_unknown": 1}),
            f"{name}: an unknown member", 400, ("unknown_parameter",))
    refused(operation, send(method, target,
                            raw=b'{"x": "' + b"x" * 66000 + b'"}'),
            f"{name}: too much", 413, ("request_too_large",))

    # alternatives have members of their own, one of them suffices
    alternatives = [resolve(s) for s in inner.get("oneOf", [inner])]

    for alternative in alternatives:
        for member, of in alternative["properties"].items():
            value = {**({} if alone else example), member: wrong_value(of)}
            refused(operation, send(method, target, value),
                    f"{name}: {member}: {json.dumps(value[member])}", 400,
                    ("invalid_value",), member)

        for member in alternative.get("required", []):
            value = {k: v for k, v in example.items() if k != member}

            if faults(schema, value):
                refused(operation, send(method, target, value),
                        f"{name}: without {member}", 400,
                        ("missing_required_parameter", "invalid_value"))


def negatives():
    for method, path, operation in operations():
        name = f"{method} {path}"
        body = body_of(operation)[1]
        target = example_path(path, operation)
        plain = example_path(path, operation, query=False)

        for secret, what in ((None, "no secret"), ("wrong", "a wrong one"),
                             (SECRET[:-1], "a part of it"), ("", "none")):
            refused(operation, send(method, target, body, secret=secret),
                    f"{name}: {what}", 401, ("invalid_api_key",))

        refused(operation, send(method, f"{plain}?x_unknown=1", body),
                f"{name}: an unknown parameter", 400, ("unknown_parameter",))

        for parameter in parameters(operation, "query"):
            schema = parameter["schema"]

            if faults(schema, "nonsense"):
                refused(operation, send(
                    method, f"{plain}?{parameter['name']}=nonsense", body),
                    f"{name}: ?{parameter['name']}=nonsense", 400,
                    ("invalid_value",), parameter["name"])

        if parameters(operation, "path") and method != "PUT":
            for strange in ("nobody", "a/b", "..", "\u20ac", "x" * 300):
                unknown = example_path(path, operation, False, strange)
                codes = (path.split("/")[1][:-1] + "_not_found",
                         *(("unknown_url",) if strange == ".." else ()))
                refused(operation, send(method, unknown, body),
                        f"{name}: {strange[:20]}", 404, codes)

        if body is not None:
            bodies(method, path, operation)


def methods():
    for path, item in API["paths"].items():
        operation = next(iter(item.values()))
        target = example_path(path, operation, False)
        allowed = sorted(method.upper() for method in item)

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            if method in allowed:
                continue

            answer = send(method, target)
            refused({}, answer, f"{method} {path}", 405,
                    ("method_not_supported",))
            allow = sorted(set(answer[1].get("Allow", "").split(", "))
                           - {"HEAD"})
            ok(allow == allowed, f"{method} {path}: Allow", allow)


def conflicts():
    key, team = os.environ["FILE_KEY"], os.environ["FILE_TEAM"]

    for method, path, body, status, code in (
            ("POST", "/keys", {"name": "twice"}, 201, None),
            ("POST", "/keys", {"name": "twice"}, 409, "key_exists"),
            ("POST", "/keys", {"name": "x", "team": "none"}, 400,
             "unknown_team"),
            ("POST", "/keys", {"name": "a/b"}, 400, "invalid_value"),
            ("PUT", "/teams/a%2Fb", {}, 400, "invalid_value"),
            ("PATCH", f"/keys/{key}", {"priority": 1}, 409, "key_in_file"),
            ("DELETE", f"/keys/{key}", None, 409, "key_in_file"),
            ("POST", f"/keys/{key}/rotate", {}, 409, "key_in_file"),
            ("PUT", f"/teams/{team}", {}, 409, "team_in_file"),
            ("DELETE", f"/teams/{team}", None, 409, "team_in_file"),
            ("PUT", "/teams/full", {}, 201, None),
            ("PATCH", "/keys/twice", {"team": "full"}, 200, None),
            ("DELETE", "/teams/full", None, 409, "team_in_use"),
            ("DELETE", "/keys/twice", None, 200, None),
            ("DELETE", "/teams/full", None, 200, None),
            ("GET", "/nothing", None, 404, "unknown_url"),
    ):
        got, _, answer = send(method, path, body)
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        ok(got == status and (code is None or error.get("code") == code),
           f"{method} {path}: {status} {code or ''}", f"{got} {answer}")


def pages():
    """A list in pages of two has what it has in one."""

    for n in range(5):
        send("POST", "/keys", {"name": f"page-{n}"})

    _, _, whole = send("GET", "/keys?limit=1000")
    names, after = [], None

    for _ in range(20):
        _, _, page = send("GET", "/keys?limit=2" + (
            "&after=" + urllib.parse.quote(after, safe="") if after else ""))
        part = [key["name"] for key in page.get("data", [])]
        ok(part == sorted(part), "a page is sorted by name", part)
        names += part
        after = page.get("next")

        if not page.get("has_more"):
            break

    expected = [key["name"] for key in whole.get("data", [])]
    ok(sorted(names) == sorted(expected) and len(names) > 5,
       "a list in pages", f"{names}\n{expected}")

    for n in range(5):
        send("DELETE", f"/keys/page-{n}")


description()

if "--description" not in sys.argv:
    seen = examples()

    for name in ("createKey", "rotateKey"):
        body = seen[name][1]
        ok(isinstance(body, dict) and "secret" in body,
           f"{name}: a secret", body)

    # what there must be for a request to be wrong in one way alone
    send("PUT", "/teams/search", {})
    send("POST", "/keys", {"name": "notebooks"})
    before = send("GET", "/keys/notebooks")[2]

    negatives()
    methods()

    after = send("GET", "/keys/notebooks")[2]
    ok(before == after, "what was refused has changed nothing",
       f"{before}\n{after}")

    conflicts()
    pages()

print(f"1..{tests}")
