"""A key with limits, the way LiteLLM offers it without a database: its proxy
keeps the limits of the object that this function returns."""

import hashlib
import os

from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.proxy_server import ProxyException

KEYS = {os.environ['BENCH_KEY_SHA256']: {
    'key_alias': 'bench',
    'rpm_limit': 1000000000,
    'tpm_limit': 1000000000000,
    'max_parallel_requests': 5000,
}}


async def user_api_key_auth(request, api_key):
    known = KEYS.get(hashlib.sha256(api_key.encode()).hexdigest())
    if known is None:
        raise ProxyException(message='Incorrect API key provided',
                             type='invalid_request_error', param=None,
                             code=401)
    return UserAPIKeyAuth(api_key=api_key, **known)
