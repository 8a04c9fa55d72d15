-- A key, a model, requests and tokens per minute and slots, with nothing but
-- what Debian packages: the key's SHA-256 in a shared dictionary, the body
-- decoded by lua-cjson, the buckets in a second dictionary or in Redis, the
-- usage read from the answer.

local cjson = require("cjson.safe")
local ffi = require("ffi")

ffi.cdef [[
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
]]

local keys, buckets = ngx.shared.keys, ngx.shared.buckets
local decoded = {}
local digest = ffi.new("unsigned char[32]")
local redis_path

local _M = {}


-- GCRA: what is kept is the time at which the bucket would be full again
local SCRIPT = [[
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local full = {}
for i = 1, 2 do
    local each = 60000 / ARGV[i * 2 - 1]
    local at = math.max(tonumber(redis.call('GET', KEYS[i])) or 0, now)
    full[i] = at + ARGV[i * 2] * each
    if full[i] - now > 60000 then return i end
end
for i = 1, 2 do
    redis.call('SET', KEYS[i], string.format('%.3f', full[i]), 'PX', 120000)
end
return 0
]]
local sha
local settle = {}


local function refuse(status, message, kind)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.say(cjson.encode({ error = { message = message, type = kind,
                                     param = cjson.null,
                                     code = cjson.null } }))
    return ngx.exit(status)
end


-- keys: digest -> {name, rpm, tpm, slots}, as one string; decoded once

function _M.load(path, redis)
    local file = assert(io.open(path))
    local policy = assert(cjson.decode(file:read("*a")))
    file:close()

    for name, key in pairs(policy.keys) do
        local raw = key.sha256:gsub("%x%x", function(hex)
            return string.char(tonumber(hex, 16))
        end)
        keys:set(raw, cjson.encode({
            name = name, rpm = key.requests_per_minute,
            tpm = key.tokens_per_minute, slots = key.concurrency }))
    end

    redis_path = redis ~= "off" and redis or nil
end


local function find(secret)
    ffi.C.SHA256(secret, #secret, digest)
    local found = keys:get(ffi.string(digest, 32))
    if not found then
        return nil
    end

    local key = decoded[found]
    if not key then
        key = cjson.decode(found)
        decoded[found] = key
    end
    return key
end


-- Redis: one command, one answer, over a pool of connections

local function ask(...)
    local sock = ngx.socket.tcp()
    sock:settimeouts(1000, 1000, 1000)
    local ok, err = sock:connect(redis_path)
    if not ok then
        return nil, err
    end

    local n = select("#", ...)
    local out = { "*", n, "\r\n" }
    for i = 1, n do
        local word = tostring((select(i, ...)))
        out[#out + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
    end

    ok, err = sock:send(out)
    local line
    if ok then
        line, err = sock:receive("*l")
    end
    if not line then
        sock:close()
        return nil, err
    end

    if line:byte() == 36 and line ~= "$-1" then        -- $, a string
        line, err = sock:receive(tonumber(line:sub(2)) + 2)
        if not line then
            return nil, err
        end
        line = line:sub(1, -3)
    end

    sock:setkeepalive(60000, 64)
    return line
end


local function redis_take(key, tokens)
    local said, err

    if sha then
        said, err = ask("EVALSHA", sha, 2, "r:" .. key.name, "t:" .. key.name,
                        key.rpm, 1, key.tpm, tokens)
    end

    if not sha or (said and said:find("NOSCRIPT", 1, true)) then
        sha, err = ask("SCRIPT", "LOAD", SCRIPT)
        if sha then
            said, err = ask("EVALSHA", sha, 2, "r:" .. key.name,
                            "t:" .. key.name, key.rpm, 1, key.tpm, tokens)
        end
    end

    if not said or said:byte() ~= 58 then              -- :, a number
        ngx.log(ngx.ERR, "redis: ", err or said)
        return 0                                       -- fail open
    end
    return tonumber(said:sub(2))
end


local function take(key, tokens)
    local now = ngx.now() * 1000
    local requests, rest = "r:" .. key.name, "t:" .. key.name
    local r = math.max(buckets:get(requests) or 0, now) + 60000 / key.rpm
    local t = math.max(buckets:get(rest) or 0, now)
              + tokens * 60000 / key.tpm

    if r - now > 60000 then
        return 1
    end
    if t - now > 60000 then
        return 2
    end

    buckets:set(requests, r)
    buckets:set(rest, t)
    return 0
end


function _M.access()
    local header = ngx.var.http_authorization
    local secret = header and header:match("^[Bb]earer%s+(%S+)$")
    local key = secret and find(secret)
    if not key then
        return refuse(401, "Incorrect API key provided",
                      "invalid_request_error")
    end
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    local asked = body and cjson.decode(body)
    if type(asked) ~= "table" or type(asked.model) ~= "string" then
        return refuse(400, "invalid JSON or no model",
                      "invalid_request_error")
    end

    local ctx = ngx.ctx
    ctx.tokens = math.ceil(#body / 4) + (asked.max_tokens or 0)
    ctx.key = key
    ctx.stream = asked.stream == true

    local over = redis_path and redis_take(key, ctx.tokens)
                 or not redis_path and take(key, ctx.tokens)
    if over ~= 0 then
        return refuse(429, "Rate limit reached",
                      over == 1 and "requests" or "tokens")
    end

    if buckets:incr("s:" .. key.name, 1, 0) > key.slots then
        buckets:incr("s:" .. key.name, -1)
        return refuse(429, "Too many requests at once", "requests")
    end
    ctx.slot = true
end


-- the usage: of a stream in one of its events, else in the whole answer

function _M.answer()
    local ctx = ngx.ctx
    if not ctx.slot then
        return
    end

    local chunk = ngx.arg[1]
    if ctx.stream then
        if chunk:find('"usage":{', 1, true) then
            local event = cjson.decode(chunk:match('data: (%b{})') or "")
            ctx.usage = event and event.usage
        end
        return
    end

    if #chunk > 0 then
        ctx.answer = ctx.answer and ctx.answer .. chunk or chunk
    end
    if ngx.arg[2] and ctx.answer then
        local said = cjson.decode(ctx.answer)
        ctx.usage = said and said.usage
    end
end


function _M.done()
    local ctx = ngx.ctx
    if not ctx.slot then
        return
    end

    buckets:incr("s:" .. ctx.key.name, -1)

    local used = type(ctx.usage) == "table" and ctx.usage.total_tokens
    if not used then
        return
    end

    local key, ms = ctx.key, (used - ctx.tokens) * 60000 / ctx.key.tpm
    local rest = "t:" .. key.name
    if redis_path then
        settle[rest] = (settle[rest] or 0) + ms
    else
        buckets:incr(rest, ms)
    end
end


-- with Redis the tokens are settled ten times a second, not for each request

function _M.start()
    if not redis_path then
        return
    end

    assert(ngx.timer.every(0.1, function()
        local now = settle
        settle = {}
        for rest, ms in pairs(now) do
            ask("INCRBYFLOAT", rest, string.format("%.6f", ms))
        end
    end))
end


return _M
