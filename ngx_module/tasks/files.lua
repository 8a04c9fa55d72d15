-- Copyright (C) the ngx-llm authors
--
-- Files of teams: one script, one function per operation, named by ARGV[1].
-- A file is written in chunks, in their order, by one writer that holds it by
-- a token, and is seen by nobody until it is closed.
--
-- Each operation reads and decides before it writes, since a script that
-- fails half way is not undone; "put" begins with a write that a full Redis
-- refuses (OOM).  No operation takes more than 200 chunks or files.
--
-- KEYS[1]  the prefix of all keys, with its hash tag: "{llm}:t:"
--
--   f:ID        hash: team, state ("open", "ready": it is whole, and for a
--               step of batches.lua to show, "done"), token of its writer,
--               chunks and bytes (so far), at (the chunk whose time comes
--               next to be renewed while it is open), name, purpose, created
--               and expires (s)
--   f:ID:N      string: chunk N, from 0, packed
--   files:TEAM  sorted set: closed files by the order in which they were
--   exp:TEAM    sorted set: all files by the ms they lapse
--   quota:TEAM  hash: ID "BYTES CHUNKS" of an open file, "BYTES" of a closed
--               one; total of all; seq the last number in that order
--   gone        sorted set: files of which chunks are left, by their number
--
-- Files lapse by themselves: the hash, and a minute later its chunks, so that
-- who has begun to read can end.  What a team has in use is the sum over
-- exp:TEAM; the total is that sum kept, and each write takes off what has
-- lapsed.  An open file lapses an hour after its last chunk came, and one
-- that is ready an hour after that.  The keys of a team live as long as its
-- last file.
--
-- put    team, id, token, n, bytes, quota, parcel
--     -> ["ok"] | ["full", bytes in use] | ["lost"]: it is not this writer's.
--        Chunk 0 begins the file anew, whoever wrote it before.
-- close  team, id, token, from, chunks, bytes, name, purpose, ttl (s), show
--        ("0": it is ready only)
--     -> ["more", from]: once more, from there | ["ok", created, expires] |
--        ["lost"]: not this writer's, or a chunk is missing
-- drop   team, id, token
--     -> 1, 0: of the writer that ends, closed or not
-- delete team, id
--     -> 1, 0: there is none
-- clear  -> 1: call again, 0: nothing is left.  Drop and delete take a file
--        away at once, and 200 chunks of those that are gone; this is for the
--        rest, also for what others left.
-- find   team, id
--     -> [name, purpose, bytes, chunks, created, expires] | nil
-- list   team, after, from, n, order ("asc", "desc"), purpose ('': any)
--     -> [from, [id, name, purpose, bytes, created, expires] ...]: of the n
--        files behind "from" those that are asked for, and from where to go
--        on ('': there are no more); the first time from is '', and "after"
--        an id or ''.  nil: that one is unknown.

local MOST = 200
local OPEN = 3600000             -- ms: an open file
local GRACE = 60000              -- ms that chunks live longer
local RENEW = 4                  -- chunks of an open file, with each put

local call, min, max = redis.call, math.min, math.max

local P = KEYS[1]
local GONE = P .. 'gone'

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local ops = {}


local function file(id)
    return P .. 'f:' .. id
end


-- what has lapsed of a team, and what the rest has in use

local function usage(team)
    local quota = P .. 'quota:' .. team
    local u = { team = team, freed = 0, left = {} }

    u.total = tonumber(call('HGET', quota, 'total')) or 0
    u.ids = call('ZRANGEBYSCORE', P .. 'exp:' .. team, '-inf', now,
                 'LIMIT', 0, MOST)

    if #u.ids > 0 then
        local was = call('HMGET', quota, unpack(u.ids))

        for i = 1, #u.ids do
            local bytes, chunks = string.match(was[i] or '', '^(%d+) ?(%d*)')

            u.freed = u.freed + (tonumber(bytes) or 0)
            u.left[i] = tonumber(chunks)
        end
    end

    u.used = max(u.total - u.freed, 0)

    return u
end


local function forget(u)
    if #u.ids == 0 then
        return
    end

    call('ZREM', P .. 'exp:' .. u.team, unpack(u.ids))
    call('ZREM', P .. 'files:' .. u.team, unpack(u.ids))
    call('HDEL', P .. 'quota:' .. u.team, unpack(u.ids))
    call('HSET', P .. 'quota:' .. u.team, 'total', u.used)

    -- what its writer had meant to keep longer

    for i = 1, #u.ids do
        if u.left[i] then
            call('ZADD', GONE, u.left[i], u.ids[i])
        end
    end
end


-- of one file, in the team's sum; gives what it had

local function had(team, id)
    local was = call('HGET', P .. 'quota:' .. team, id)

    return tonumber(string.match(was or '', '^%d+')) or 0
end


-- the keys of a team live at least until then

local function hold(team, at)
    for _, name in ipairs({ 'files:', 'exp:', 'quota:' }) do
        if call('PTTL', P .. name .. team) < at - now then
            call('PEXPIREAT', P .. name .. team, at)
        end
    end
end


-- chunks "first" to "last"

local function unlink(id, first, last)
    local keys = {}

    for n = first, last do
        keys[#keys + 1] = file(id) .. ':' .. n
    end

    if #keys > 0 then
        call('UNLINK', unpack(keys))
    end
end


local function clear()
    local it = call('ZRANGE', GONE, 0, 0, 'WITHSCORES')

    if not it[1] then
        return 0
    end

    local left = tonumber(it[2])
    local first = max(left - MOST, 0)

    unlink(it[1], first, left - 1)

    if first > 0 then
        call('ZADD', GONE, first, it[1])
        return 1
    end

    call('ZREM', GONE, it[1])

    return call('EXISTS', GONE)
end


local function remove(team, id, chunks)
    local bytes = had(team, id)
    local quota = P .. 'quota:' .. team

    call('DEL', file(id))
    call('ZREM', P .. 'files:' .. team, id)
    call('ZREM', P .. 'exp:' .. team, id)

    if call('HDEL', quota, id) == 1 then
        call('HINCRBY', quota, 'total', -bytes)
    end

    call('ZADD', GONE, chunks, id)
    clear()

    return 1
end


function ops.put()
    local team, id, token = ARGV[2], ARGV[3], ARGV[4]
    local n, bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
    local key = file(id)
    local is = call('HMGET', key, 'team', 'token', 'chunks', 'at')
    local chunks, at = tonumber(is[3]) or 0, tonumber(is[4]) or 0
    local left = 0

    if n == 0 then
        if is[1] and is[1] ~= team then
            return { 'lost' }
        end

        left = max(chunks, tonumber(call('ZSCORE', GONE, id)) or 0)
        at = 0

    elseif is[2] ~= token or chunks ~= n then
        return { 'lost' }
    end

    local u = usage(team)
    local own = had(team, id)

    for i = 1, #u.ids do
        if u.ids[i] == id then
            own = 0
        end
    end

    local other = n == 0 and u.used - own or u.used

    if other + bytes > tonumber(ARGV[7]) then
        forget(u)
        return { 'full', other }
    end

    call('SET', key .. ':' .. n, ARGV[8], 'PX', OPEN)
    forget(u)

    if left > 1 then

        -- of whoever wrote this file before

        for first = 1, left - 1, MOST do
            unlink(id, first, min(first + MOST, left) - 1)
        end
    end

    if n == 0 then
        call('ZREM', GONE, id)
        call('ZREM', P .. 'files:' .. team, id)
        call('DEL', key)
        own = 0
    end

    -- a slow writer's first chunks must not lapse before the last one comes

    for _ = 1, min(RENEW, n) do
        at = at % n
        call('PEXPIRE', key .. ':' .. at, OPEN)
        at = at + 1
    end

    call('HSET', key, 'team', team, 'state', 'open', 'token', token,
         'chunks', n + 1, 'bytes', own + bytes, 'at', at)
    call('PEXPIRE', key, OPEN)

    call('HSET', P .. 'quota:' .. team, id, own + bytes .. ' ' .. n + 1,
         'total', other + bytes)
    call('ZADD', P .. 'exp:' .. team, now + OPEN, id)
    hold(team, now + OPEN + GRACE)

    return { 'ok' }
end


function ops.close()
    local team, id, token = ARGV[2], ARGV[3], ARGV[4]
    local from, chunks = tonumber(ARGV[5]), tonumber(ARGV[6])
    local key, quota = file(id), P .. 'quota:' .. team
    local is = call('HMGET', key, 'team', 'token', 'chunks')
    local at = now + ARGV[10] * 1000

    if chunks > 0 and (is[2] ~= token or tonumber(is[3]) ~= chunks) then
        return { 'lost' }
    end

    if chunks == 0 and is[1] then
        return { 'lost' }
    end

    for n = from, min(from + MOST, chunks) - 1 do
        if call('PEXPIREAT', key .. ':' .. n, at + GRACE) == 0 then
            return { 'lost' }
        end
    end

    if from + MOST < chunks then
        return { 'more', from + MOST }
    end

    local created = tonumber(time[1])
    local expires = created + ARGV[10]

    call('HSET', key, 'team', team,
         'state', ARGV[11] == '0' and 'ready' or 'done', 'token', token,
         'chunks', chunks, 'bytes', ARGV[7], 'name', ARGV[8],
         'purpose', ARGV[9], 'created', created, 'expires', expires)

    if ARGV[11] == '0' then
        call('PEXPIRE', key, OPEN)
        call('ZADD', P .. 'exp:' .. team, now + OPEN, id)
        hold(team, now + OPEN + GRACE)

        return { 'ok', created, expires }
    end

    call('PEXPIREAT', key, at)

    call('HSET', quota, id, ARGV[7])
    call('ZADD', P .. 'files:' .. team, call('HINCRBY', quota, 'seq', 1), id)
    call('ZADD', P .. 'exp:' .. team, at, id)
    hold(team, at + GRACE)

    return { 'ok', created, expires }
end


function ops.drop()
    local is = call('HMGET', file(ARGV[3]), 'token', 'chunks')

    if is[1] ~= ARGV[4] then
        return 0
    end

    return remove(ARGV[2], ARGV[3], is[2])
end


function ops.delete()
    local is = call('HMGET', file(ARGV[3]), 'team', 'state', 'chunks')

    if is[1] ~= ARGV[2] or is[2] ~= 'done' then
        return 0
    end

    return remove(ARGV[2], ARGV[3], is[3])
end


function ops.clear()
    return clear()
end


function ops.find()
    local is = call('HMGET', file(ARGV[3]), 'team', 'state', 'name',
                    'purpose', 'bytes', 'chunks', 'created', 'expires')

    if is[1] ~= ARGV[2] or is[2] ~= 'done' then
        return false
    end

    return { is[3], is[4], is[5], is[6], is[7], is[8] }
end


function ops.list()
    local key, after, from, n = P .. 'files:' .. ARGV[2], ARGV[3], ARGV[4],
                                tonumber(ARGV[5])
    local asc, purpose = ARGV[6] == 'asc', ARGV[7]
    local got

    if from == '' and after ~= '' then
        from = call('ZSCORE', key, after)

        if not from then
            return false
        end
    end

    if asc then
        got = call('ZRANGEBYSCORE', key, from == '' and '-inf' or '(' .. from,
                   '+inf', 'WITHSCORES', 'LIMIT', 0, n)
    else
        got = call('ZREVRANGEBYSCORE', key,
                   from == '' and '+inf' or '(' .. from, '-inf',
                   'WITHSCORES', 'LIMIT', 0, n)
    end

    local out = { #got == 2 * n and got[#got] or '' }

    for i = 1, #got, 2 do
        local is = call('HMGET', file(got[i]), 'name', 'purpose', 'bytes',
                        'created', 'expires', 'state')

        if is[6] == 'done' and (purpose == '' or purpose == is[2]) then
            out[#out + 1] = { got[i], is[1], is[2], is[3], is[4], is[5] }
        end
    end

    return out
end


local op = ops[ARGV[1]]

if not op then
    return redis.error_reply('ERR no such operation')
end

return op()
