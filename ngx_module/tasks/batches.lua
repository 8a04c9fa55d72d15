-- Copyright (C) the ngx-llm authors
--
-- Batches: one script, one function per operation, named by ARGV[1].  A batch
-- is driven by whoever has its entry of "todo" on lease (queue.lua); what
-- that one writes is fenced by the token of the lease, and by the status that
-- it believes the batch to have, which a client may change by a cancel.
--
-- KEYS[1]  the prefix of all keys, with its hash tag: "{llm}:t:"
--
--   batch:ID       hash: id, team, owner (the key's name), endpoint, input
--                  (file), window ("24h"), status, metadata (JSON), keep (s,
--                  of the files it writes), model; created_at, expires_at,
--                  in_progress_at, finalizing_at, completed_at, failed_at,
--                  expired_at, cancelling_at, cancelled_at (ms); fed (lines
--                  submitted), line, chunk and offset (where the next one
--                  is); stop ("expired": its time was up), stop_from and
--                  stop_to (what was cancelled but still ran); out and err
--                  (files), ok and bad (their lines), tokens (four numbers),
--                  errors (JSON); of one that a provider runs: native (its
--                  name), native_model (its name for the model),
--                  native_file, native_batch, native_out and native_err (its
--                  ids), native_try, native_cancel, native_done and
--                  native_paid (1: so far it has come), native_pause (ms);
--                  and queue.lua's own counters: lines, completed, error,
--                  cancelled
--   batches:TEAM   sorted set: ids by when they were created (us, so that the
--                  order is theirs)
--   batching:TEAM  the same, of those that have not ended
--   todo, doing, ended, job:ID  as in queue.lua
--
-- Times are ms of this server's clock, numbers are decimal.
--
-- create   id, team, window (ms), most (not ended, of a team; 0: any), index
--          (ms that its list remembers); then per field: name, value
--       -> ["ok", fields] | ["full", most].  It is due in "todo" at once.
-- get      team ("*": any), id  -> [now, fields] | nil
-- list     team, n, after ('': from the newest on)
--       -> [more, fields ...] | nil: "after" is not known
-- cancel   team, id
--       -> ["ok", fields] | ["was", status] | nil.  Ok: it is being cancelled,
--          perhaps since long.
-- step     id, token, statuses (" in_progress cancelling "), stamp (a field
--          that gets the time, '': none), ttl (0: it goes on; else this is
--          its end); then per field: name, value.  The files "out" and "err"
--          are seen from then on (files.lua).
--       -> ["ok", status] | ["is", status]: none of these, nothing was
--          written | ["lost"]: the token is not the lease's any more, or a
--          file is not ready
-- results  bytes, ids
--       -> per job [state, result, error], nil if there is none, of the first
--          ones: as many as "bytes" allow, but one in any case

local call, find = redis.call, string.find

local GRACE = 60000              -- ms that a file's chunks live longer

local P = KEYS[1]
local BATCH = P .. 'batch:'

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local us = time[1] * 1000000 + time[2]


local function fields(id)
    local v = call('HGETALL', BATCH .. id)

    return #v > 0 and v or false
end


-- as todo-add of queue.lua: who is at it looks once more after that

local function due(id)
    local thing, todo, doing = 'b:' .. id, P .. 'todo', P .. 'doing'

    if call('ZSCORE', todo, thing) and call('HEXISTS', doing, thing) == 1 then
        call('HSET', doing, '+' .. thing, now)

    else
        call('ZADD', todo, 'LT', now, thing)
    end
end


-- As close of files.lua for a file that is ready: with the batch that names
-- it, so that who dies in between leaves none that nobody names.

local function show(team, id)
    local key, quota = P .. 'f:' .. id, P .. 'quota:' .. team
    local is = call('HMGET', key, 'bytes', 'expires')
    local at = is[2] * 1000

    call('HSET', key, 'state', 'done')
    call('PEXPIREAT', key, at)

    call('HSET', quota, id, is[1])
    call('ZADD', P .. 'files:' .. team, call('HINCRBY', quota, 'seq', 1), id)
    call('ZADD', P .. 'exp:' .. team, at, id)

    for _, name in ipairs({ 'files:', 'exp:', 'quota:' }) do
        if call('PTTL', P .. name .. team) < at + GRACE - now then
            call('PEXPIREAT', P .. name .. team, at + GRACE)
        end
    end
end


local ops = {}


function ops.create()
    local id, team, most = ARGV[2], ARGV[3], tonumber(ARGV[5])
    local index, live = P .. 'batches:' .. team, P .. 'batching:' .. team
    local old = us - ARGV[6] * 1000

    if (#ARGV - 6) % 2 ~= 0 then
        return redis.error_reply('ERR create: wrong arguments')
    end

    if most > 0 and call('ZCOUNT', live, old, '+inf') >= most then
        return { 'full', most }
    end

    call('HSET', BATCH .. id, 'id', id, 'team', team, 'status', 'validating',
         'created_at', now, 'expires_at', now + ARGV[4], unpack(ARGV, 7))

    for _, key in ipairs({ index, live }) do
        call('ZADD', key, us, id)
        call('ZREMRANGEBYSCORE', key, '-inf', old)
        call('PEXPIRE', key, ARGV[6])
    end

    due(id)

    return { 'ok', fields(id) }
end


function ops.get()
    local v = fields(ARGV[3])

    if not v or (ARGV[2] ~= '*'
                 and call('HGET', BATCH .. ARGV[3], 'team') ~= ARGV[2])
    then
        return false
    end

    return { now, v }
end


function ops.list()
    local key, n, at = P .. 'batches:' .. ARGV[2], tonumber(ARGV[3]), 0
    local out, gone, more = { 0 }, {}, false

    if ARGV[4] ~= '' then
        local rank = call('ZREVRANK', key, ARGV[4])

        if not rank then
            return false
        end

        at = rank + 1
    end

    -- those that are over for long have no hash any more

    for _ = 1, 16 do
        local ids = call('ZREVRANGE', key, at, at + n)

        for i = 1, #ids do
            if #out > n then
                more = more or call('EXISTS', BATCH .. ids[i]) == 1

            else
                local v = fields(ids[i])

                if v then
                    out[#out + 1] = v

                else
                    gone[#gone + 1] = ids[i]
                end
            end
        end

        at = at + #ids

        if #ids <= n or more then
            break
        end
    end

    if #gone > 0 then
        call('ZREM', key, unpack(gone))
    end

    out[1] = more and 1 or 0

    return out
end


function ops.cancel()
    local key = BATCH .. ARGV[3]
    local v = call('HMGET', key, 'team', 'status')

    if not v[1] or v[1] ~= ARGV[2] then
        return false
    end

    if v[2] == 'validating' or v[2] == 'in_progress' then
        call('HSET', key, 'status', 'cancelling', 'cancelling_at', now)
        due(ARGV[3])

    elseif v[2] ~= 'cancelling' then
        return { 'was', v[2] }
    end

    return { 'ok', fields(ARGV[3]) }
end


function ops.step()
    local id, stamp, ttl = ARGV[2], ARGV[5], tonumber(ARGV[6])
    local key = BATCH .. id
    local v = call('HMGET', key, 'status', 'team')

    if call('HGET', P .. 'doing', 'b:' .. id) ~= ARGV[3] or not v[1] then
        return { 'lost' }
    end

    if not find(ARGV[4], ' ' .. v[1] .. ' ', 1, true) then
        return { 'is', v[1] }
    end

    local set, files = { unpack(ARGV, 7) }, {}

    for i = 1, #set, 2 do
        if set[i] == 'out' or set[i] == 'err' then
            local is = call('HMGET', P .. 'f:' .. set[i + 1], 'team', 'state')

            if is[1] ~= v[2] or is[2] ~= 'ready' then
                return { 'lost' }
            end

            files[#files + 1] = set[i + 1]
        end
    end

    if stamp ~= '' then
        set[#set + 1] = stamp
        set[#set + 1] = now
    end

    if #set > 0 then
        call('HSET', key, unpack(set))
    end

    for i = 1, #files do
        show(v[2], files[i])
    end

    if ttl > 0 then
        call('PEXPIRE', key, ttl)
        call('ZREM', P .. 'batching:' .. v[2], id)
        call('ZREM', P .. 'ended', id)
    end

    return { 'ok', call('HGET', key, 'status') }
end


function ops.results()
    local left, out = tonumber(ARGV[2]), {}

    for i = 3, #ARGV do
        local key = P .. 'job:' .. ARGV[i]
        local size = call('HSTRLEN', key, 'r')

        if i > 3 and size > left then
            break
        end

        local v = call('HMGET', key, 's', 'r', 'e')

        left = left - size
        out[#out + 1] = v[1] and v or false
    end

    return out
end


local op = ops[ARGV[1]]

if not op then
    return redis.error_reply('ERR no such operation')
end

return op()
