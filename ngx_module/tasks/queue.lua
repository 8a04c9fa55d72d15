-- Copyright (C) the ngx-llm authors
--
-- The queue of tasks: one script, one function per operation, named by
-- ARGV[1].  At least once, exactly one terminal state: who runs a job holds
-- it by a token, and a token that is not the job's changes nothing.
--
-- Each operation reads and decides before it writes, since a script that
-- fails half way is not undone.  What makes room begins with a write that a
-- full Redis takes, and goes on from there; "submit" begins with one that it
-- refuses (OOM), and so does all or nothing.  No operation takes more than
-- 200 jobs or 1 MB: the caller splits.  It needs XAUTOCLAIM, so Redis 6.2.
--
-- KEYS[1]  the prefix of all keys, with its hash tag: "{llm}:t:"
--
--   job:ID        hash: s state (queued processing completed error cancelled)
--                 a attempts, d deaths, k token, o owner, t team, p class,
--                 y number in the order of arrival, b body, r result,
--                 e error, u usage, g progress, c st f created, started and
--                 finished (ms), n batch, i line, w webhook, m metadata, l
--                 deadline (ms, absent: none), x flags, q its entry while it
--                 runs, z ms it is kept once its entry is gone
--   q:CLASS       streams 0, 1, 2 (high, normal, low), group "run"; an entry
--                 has j the id and t the team
--   b:CLASS:TEAM  sorted set, a team's backlog: ids by y
--   delayed       sorted set "CLASS:Y:ID:TEAM" by the ms it is due
--   dead          stream of id, team, reason, attempts, deaths
--   stat          hash: queued, processing (now), submitted, completed,
--                 error, cancelled, deaths, retries (ever), seq, swept and
--                 c0 c1 c2 (where the search for lapsed leases stands);
--                 n:TEAM its jobs that are not terminal, w:CLASS:TEAM those
--                 in the stream or running, b:CLASS:TEAM those in the
--                 backlog, h:CLASS:TEAM ms until nobody of it is let in,
--                 v:CLASS:TEAM its window while that is smaller than the
--                 full one, g:CLASS:TEAM what completed since v grew, todo
--                 the last token; those of teams are removed when 0
--   held          sorted set: CLASS:TEAM by the ms in h
--   team:TEAM     sorted set: ids by created
--   batch:ID      hash of the caller; if it has "lines", the fields
--                 completed, error and cancelled are counted here, and when
--                 they come to "lines" the id goes into
--   ended         sorted set: batches by the ms of that end; who has dealt
--                 with one removes it, and "b:ID" is to be done
--   idem:NAME     string: what an earlier submit with this name left
--   todo          sorted set: things to do ("w:ID" the webhook of a job that
--                 has ended, "b:ID" a batch) by the ms they are due
--   doing         hash: the token by which a thing is being done; "+THING"
--                 the ms from which it is to be done once more
--
-- A job is queued in its team's backlog, in a stream, in "delayed", or as a
-- pending entry that was released.  A team has at most "window" jobs of a
-- class in the stream or running, so whoever comes new never waits behind
-- more than that of each other team; who leaves lets the next one in.
-- Whose jobs are not taken at the moment ("hold") is left alone until a time,
-- and what of it is still in a stream goes back to its backlog.  Its window
-- halves, or loses an eighth if the time is so short that all it says is that
-- there is one too many; once for all that come back meanwhile.  It grows by
-- one with each windowful that completes; with nobody left in it and in the
-- backlog it is the full one again.  When the time is over, a claim lets the first ones in.
-- A queued job that is cancelled in a stream leaves its entry there, which
-- keeps its place in the window until a claim drops it; its hash gets its
-- time to live only then, so a hash that is missing means a job that is lost.
--
-- A team is whoever shares and owns jobs: for a key without a team the
-- caller makes up a name.  Flags: "f" a crash fails the job instead of having
-- it run again, "c" it is to be cancelled (set here).  Ids have no colon.
-- Numbers are decimal; times are ms, of this server's clock where absolute.
--
-- submit  need, max, team max (0: any), window, idem name ('': none), idem
--         value, idem ttl, check, class, team, owner, flags, webhook, batch,
--         deadline (0: none), keep, metadata; then per job: id, line, body
--      -> ["ok", new, live] | ["again", value] | ["full", "queue" or "team",
--         limit, live].  "need" jobs must have room (0: no look); a request
--         in several calls asks for all in its first.  Ids must be new, but
--         check = 1 passes over those that exist: for a submit whose reply
--         was lost, or whose gateway died between two calls.  The idem value
--         is the caller's: what tells the same request, and its ids.  keep:
--         how long the team's index remembers.
-- claim   consumer, n, token, lease, every, classes in their order ("012"),
--         bytes, window, deaths, ttl, error of poison, of a crash, of a
--         deadline missed, age of the dead
--      -> [[id, class, team, owner, attempt, deaths, created, batch, line,
--         flags, webhook, deadline, body] ...], [[id, state, reason, team,
--         webhook, batch] ...]: what to run, and what ended here (reason:
--         poison, crash, deadline, cancelled).  The token must be new with
--         each call and random.  Leases that nobody kept for "lease" ms are
--         looked for each "every" ms, and come first; a job that died more
--         than "deaths" times is poison.  It stops when the bodies come to
--         "bytes", but gives four jobs in any case.
-- beat    consumer; then per job: id, token, progress ('': as it was)
--      -> per job 1, 2 (yours, to be cancelled), 0 (not yours any more)
-- end     window, age of the dead; then per job: id, token, state, result,
--         error, usage, ttl, reason ('': not among the dead)
--      -> per job 1, 2 (this token has ended it before), 0 (not yours),
--         -1 (unknown)
-- retry   window, ttl; then per job: id, token, delay, counts (0: as if it
--         had not been tried), error ('': as it was)
--      -> per job 1, 3 (cancelled instead), 0, -1
-- hold    window, ttl; then per job: id, token, delay (ms, at most 60000)
--      -> as retry.  Back to the backlog, by its number, as if it had not been
--         tried, and nobody of its team and class is let in before.
-- release window, ttl; then per job: id, token
--      -> as retry.  Before all others, and as if it had not been tried.
-- recall  window, ttl, consumer, token
--      -> how many.  Releases what a claim gave whose reply was lost; with an
--         empty token all that the consumer holds has lapsed (and has died
--         once more when it is claimed): its process is known to be gone.
-- cancel  team ("*": any), ttl; then ids
--      -> per id "cancelled" (just now), "flagged" (it runs: beat tells),
--         "was STATE" (terminal before), "unknown"
-- get     team ("*": any), number of fields, fields, ids
--      -> per id a list of values, nil for unknown ones
-- sweep   age of the dead, ms after which an idle consumer is forgotten
--      -> [name, value, ...]: the totals of stat, delayed, dead, oldest (ms
--         since the next job's creation), and per class length0, pending0 ...
-- purge   team, skip, n: of the team's index from "skip" on
--      -> [removed, flagged, left]; flagged ones stay in the index
-- drop    ids
--      -> how many of them were terminal; these are removed for good
-- dead    n
--      -> [[id, team, reason, attempts, deaths, ms] ...], the newest first
-- teams   n
--      -> [[team, live] ...], those with most
-- todo    n, lease
--      -> [[thing, token] ...]: what is due, and will be again after "lease"
-- todo-keep  lease; then per thing: thing, token
--      -> per thing 1, or 0 (another does it, or it is over)
-- todo-done  per thing: thing, token, again (ms from now, -1: it is over)
--      -> as todo-keep
-- todo-add   thing, delay
--      -> 1.  Enters it, or has it due earlier; while it is being done it
--         comes once more after that, whatever todo-done says.

local MOST = 200                 -- jobs of a call, or moved by one
local FAR = 1000000000           -- ms: the lease of what is released lapsed
local BATCH = 7 * 86400000       -- ms: a job of a batch is kept, at least
local SHORT = 50                 -- ms: held for no longer, a window loses little
local PAUSE = 60000              -- ms that a team is held, at most

local call, match, min, max = redis.call, string.match, math.min, math.max
local sub, find = string.sub, string.find

local P = KEYS[1]
local STAT, DELAYED, DEAD = P .. 'stat', P .. 'delayed', P .. 'dead'
local HELD, THINGS, DOING = P .. 'held', P .. 'todo', P .. 'doing'
local JOB = P .. 'job:'

local TERMINAL = { completed = true, error = true, cancelled = true }

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)


-- stat: read in one command, changed here, written in one

local stat, changed = {}, {}


local function know(fields)
    local unknown = {}

    for i = 1, #fields do
        if not stat[fields[i]] then
            stat[fields[i]] = 0
            unknown[#unknown + 1] = fields[i]
        end
    end

    if #unknown > 0 then
        local got = call('HMGET', STAT, unpack(unknown))

        for i = 1, #unknown do
            stat[unknown[i]] = tonumber(got[i]) or 0
        end
    end
end


local function count(field, n)
    know({ field })
    stat[field] = max(stat[field] + n, 0)
    changed[field] = true
end


-- a window that nobody is in, nor waits for, is forgotten

local function forget()
    local all = {}

    for field in pairs(changed) do
        local kind, ct = sub(field, 1, 2), sub(field, 3)

        if kind == 'w:' or kind == 'b:' then
            for k, name in ipairs({ 'w:', 'b:', 'v:', 'g:' }) do
                all[#all + 1] = name .. ct
            end
        end
    end

    know(all)

    for i = 1, #all, 4 do
        if stat[all[i]] == 0 and stat[all[i + 1]] == 0
           and stat[all[i + 2]] > 0
        then
            stat[all[i + 2]], stat[all[i + 3]] = 0, 0
            changed[all[i + 2]], changed[all[i + 3]] = true, true
        end
    end
end


local function save()
    local set, del = {}, {}

    forget()

    for field in pairs(changed) do
        if stat[field] == 0 and find(field, ':', 1, true) then
            del[#del + 1] = field

        else
            set[#set + 1] = field
            set[#set + 1] = stat[field]
        end
    end

    if #set > 0 then
        call('HSET', STAT, unpack(set))
    end

    if #del > 0 then
        call('HDEL', STAT, unpack(del))
    end
end


-- the first write, for those that go on when Redis is full

local function begin()
    call('HDEL', STAT, ':')
end


local function of_team(class, team)
    return class .. ':' .. team
end


-- how many of a team may be in the stream or running; and what tells it

local WINDOW = { 'w:', 'b:', 'h:', 'v:', 'g:' }


local function room_for(ct, window)
    know({ 'w:' .. ct, 'b:' .. ct, 'h:' .. ct, 'v:' .. ct, 'g:' .. ct })

    local v = stat['v:' .. ct]

    if stat['h:' .. ct] > now then
        return 0
    end

    return v > 0 and min(v, window) or window
end


local function enter(class, team, id)
    call('XADD', P .. 'q:' .. class, '*', 'j', id, 't', team)
    count('w:' .. of_team(class, team), 1)
end


local function admit(class, team, id, y, window)
    local ct = of_team(class, team)
    local room = room_for(ct, window)

    if stat['w:' .. ct] < room then
        enter(class, team, id)

    else
        call('ZADD', P .. 'b:' .. ct, y, id)
        count('b:' .. ct, 1)
    end
end


-- entries that are done, by class; and whose windows that frees

local acks, freed = {}, {}


local function put(lists, class, entry)
    local list = lists[class] or {}

    lists[class] = list
    list[#list + 1] = entry
end


local function free(class, team)
    for i = 1, #freed do
        if freed[i][1] == class and freed[i][2] == team then
            return
        end
    end

    freed[#freed + 1] = { class, team }
end


local function leave(class, team, entry)
    put(acks, class, entry)
    count('w:' .. of_team(class, team), -1)
    free(class, team)
end


local function acknowledge()
    for class, list in pairs(acks) do
        call('XACK', P .. 'q:' .. class, 'run', unpack(list))
        call('XDEL', P .. 'q:' .. class, unpack(list))
    end

    acks = {}
end


-- back to its team's backlog

local back = {}


local function put_back(class, team, y, id)
    put(back, of_team(class, team), y)
    put(back, of_team(class, team), id)
    count('b:' .. of_team(class, team), 1)
end


local function all_back()
    for ct, list in pairs(back) do
        call('ZADD', P .. 'b:' .. ct, unpack(list))
    end

    back = {}
end


-- how many came in

local function let_in(window)
    local left = MOST

    all_back()

    for i = 1, #freed do
        local class, team = freed[i][1], freed[i][2]
        local ct = of_team(class, team)
        local room = room_for(ct, window)

        -- at least one of each, since nobody else may come to let it in

        local n = min(room - stat['w:' .. ct], stat['b:' .. ct],
                      max(left, 1))

        if n > 0 then
            local got = call('ZPOPMIN', P .. 'b:' .. ct, n)

            for k = 1, #got, 2 do
                enter(class, team, got[k])
            end

            -- what is popped is the truth, the count follows it

            stat['b:' .. ct] = #got < 2 * n and 0 or stat['b:' .. ct] - n
            changed['b:' .. ct] = true
            left = left - #got / 2
        end
    end

    freed = {}

    return MOST - left
end


-- those whose time is over, until enough have come in

local function let_go(window)
    local list = call('ZRANGEBYSCORE', HELD, '-inf', now, 'LIMIT', 0, MOST)
    local fields, gone, moved = {}, {}, 0

    for i = 1, #list do
        for k = 1, #WINDOW do
            fields[#fields + 1] = WINDOW[k] .. list[i]
        end
    end

    know(fields)

    for i = 1, #list do
        local class, team = match(list[i], '^(%d):(.*)$')

        if moved >= MOST then
            break
        end

        gone[i] = list[i]
        count('h:' .. list[i], -stat['h:' .. list[i]])
        free(class, team)
        moved = moved + let_in(window)
    end

    if #gone > 0 then
        call('ZREM', HELD, unpack(gone))
    end
end


-- what several jobs' teams need of stat

local function know_all(jobs)
    local fields = { 'queued', 'processing', 'completed', 'error',
                     'cancelled' }

    for i = 1, #jobs do
        local j = jobs[i]

        if j.t then
            fields[#fields + 1] = 'n:' .. j.t

            for k = 1, #WINDOW do
                fields[#fields + 1] = WINDOW[k] .. of_team(j.p, j.t)
            end
        end
    end

    know(fields)
end


local function read(id)
    local v = call('HMGET', JOB .. id, 's', 'k', 't', 'p', 'q', 'x', 'n', 'a',
                   'd', 'y', 'z', 'w')

    return { id = id, s = v[1], k = v[2], t = v[3], p = v[4], q = v[5],
             x = v[6] or '', n = v[7] or '', a = tonumber(v[8]) or 0,
             d = tonumber(v[9]) or 0, y = v[10], z = v[11], w = v[12] or '' }
end


-- a thing that is to be done: now, or later than that; and once more if
-- somebody is about it

local function add_todo(thing, at)
    local is = tonumber(call('ZSCORE', THINGS, thing) or '')

    if is and call('HEXISTS', DOING, thing) == 1 then
        local once = tonumber(call('HGET', DOING, '+' .. thing) or '')

        if not once or at < once then
            call('HSET', DOING, '+' .. thing, at)
        end

    elseif not is or at < is then
        call('ZADD', THINGS, at, thing)
    end
end


-- batches, counted at the end, and webhooks

local batches, hooks = {}, {}


local function tally()
    if #hooks > 0 then
        call('ZADD', THINGS, unpack(hooks))
    end

    for id, add in pairs(batches) do
        local key = P .. 'batch:' .. id
        local v = call('HMGET', key, 'lines', 'completed', 'error',
                       'cancelled')

        -- a batch that is gone is not begun again

        if v[1] then
            local done = { completed = tonumber(v[2]) or 0,
                           error = tonumber(v[3]) or 0,
                           cancelled = tonumber(v[4]) or 0 }
            local lines, set, before, after = tonumber(v[1]), {}, 0, 0

            for state, n in pairs(done) do
                before = before + n
                n = n + (add[state] or 0)
                after = after + n

                if add[state] then
                    set[#set + 1] = state
                    set[#set + 1] = n
                end
            end

            call('HSET', key, unpack(set))

            if before < lines and after >= lines then
                call('ZADD', P .. 'ended', now, id)
                add_todo('b:' .. id, now)
            end
        end
    end
end


-- A terminal state.  "more" is fields besides; what is kept for "ttl" lives
-- on without a time until its entry is dropped if "later".

local function finish(j, state, ttl, more, later)
    -- a batch reads all of its jobs at its end, and removes them then

    if j.n ~= '' then
        ttl = max(tonumber(ttl), BATCH)
    end

    local set = { 's', state, 'f', now, 'b', '' }

    for i = 1, #more do
        set[6 + i] = more[i]
    end

    if later then
        set[#set + 1] = 'z'
        set[#set + 1] = ttl
    end

    call('HSET', JOB .. j.id, unpack(set))

    if not later then
        call('PEXPIRE', JOB .. j.id, ttl)
    end

    count(j.s, -1)
    count(state, 1)
    count('n:' .. j.t, -1)

    if j.n ~= '' then
        local add = batches[j.n] or {}

        batches[j.n] = add
        add[state] = (add[state] or 0) + 1
    end

    if j.w ~= '' then
        hooks[#hooks + 1] = now
        hooks[#hooks + 1] = 'w:' .. j.id
    end

    j.s = state
end


local function bury(j, reason, age)
    call('XADD', DEAD, 'MINID', max(now - age, 0), '*', 'id', j.id, 'team',
         j.t, 'reason', reason, 'attempts', j.a, 'deaths', j.d)
end


-- the jobs of a call by (id, token, ...), and what may be done with them

local function held(first, width)
    local jobs, seen = {}, {}

    for i = first, #ARGV, width do
        local id, token = ARGV[i], ARGV[i + 1]
        local j = seen[id]

        if j then
            j = { id = id, code = j.s and 0 or -1 }

        else
            j = read(id)
            seen[id] = j

            if not j.s then
                j.code = -1

            elseif token == '' or j.k ~= token then
                j.code = 0

            elseif j.s == 'processing' then
                j.code = 1

            else
                j.code = TERMINAL[j.s] and 2 or 0
            end
        end

        j.at = i
        jobs[#jobs + 1] = j
    end

    return jobs
end


local function codes(jobs)
    local out = {}

    for i = 1, #jobs do
        out[i] = jobs[i].code
    end

    return out
end


local ops = {}


function ops.submit()
    local need, most, team_most, window = tonumber(ARGV[2]), tonumber(ARGV[3]),
                                          tonumber(ARGV[4]), tonumber(ARGV[5])
    local idem, check = ARGV[6], ARGV[9] == '1'
    local class, team, owner, flags = ARGV[10], ARGV[11], ARGV[12], ARGV[13]
    local ct = of_team(class, team)

    if not match(class, '^[012]$') or (#ARGV - 18) % 3 ~= 0
       or #ARGV > 18 + 3 * MOST
    then
        return redis.error_reply('ERR submit: wrong arguments')
    end

    if idem ~= '' then
        local value = call('GET', P .. 'idem:' .. idem)

        if value then
            return { 'again', value }
        end
    end

    know({ 'queued', 'processing', 'submitted', 'seq', 'n:' .. team,
           'w:' .. ct, 'b:' .. ct, 'h:' .. ct, 'v:' .. ct, 'g:' .. ct })

    local live, of = stat.queued + stat.processing, stat['n:' .. team]

    if need > 0 and most > 0 and live + need > most then
        return { 'full', 'queue', most, live }
    end

    if need > 0 and team_most > 0 and of + need > team_most then
        return { 'full', 'team', team_most, of }
    end

    local new = {}

    for i = 19, #ARGV, 3 do
        if not check or call('EXISTS', JOB .. ARGV[i]) == 0 then
            new[#new + 1] = i
        end
    end

    if idem ~= '' then
        call('SET', P .. 'idem:' .. idem, ARGV[7], 'PX', ARGV[8])
    end

    local fields = { 's', 'queued', 'o', owner, 't', team, 'p', class, 'c',
                     now }

    local function also(name, value, none)
        if value ~= none then
            fields[#fields + 1] = name
            fields[#fields + 1] = value
        end
    end

    also('x', flags, '')
    also('w', ARGV[14], '')
    also('n', ARGV[15], '')
    also('l', ARGV[16], '0')
    also('m', ARGV[18], '')

    local own = #fields
    local index, room = {}, room_for(ct, window)

    for k = 1, #new do
        local i = new[k]
        local id, y = ARGV[i], stat.seq + k

        fields[own + 1], fields[own + 2] = 'y', y
        fields[own + 3], fields[own + 4] = 'i', ARGV[i + 1]
        fields[own + 5], fields[own + 6] = 'b', ARGV[i + 2]
        call('HSET', JOB .. id, unpack(fields))

        index[2 * k - 1], index[2 * k] = now, id

        -- not before those who wait already

        if stat['w:' .. ct] < room and stat['b:' .. ct] == 0 then
            enter(class, team, id)

        else
            put_back(class, team, y, id)
        end
    end

    if #new > 0 then
        free(class, team)
        let_in(window)
        local key = P .. 'team:' .. team

        call('ZADD', key, unpack(index))
        call('ZREMRANGEBYSCORE', key, '-inf', now - ARGV[17])
        call('PEXPIRE', key, ARGV[17])

        count('seq', #new)
        count('queued', #new)
        count('submitted', #new)
        count('n:' .. team, #new)
        save()
    end

    return { 'ok', #new, live + #new }
end


-- Entries for a consumer, none without the group, which is made then: it is
-- missing at first, and after Redis has lost all.

local function grouped(class, ...)
    local got = redis.pcall(...)

    if type(got) == 'table' and got.err then
        if not find(got.err, 'NOGROUP', 1, true) then
            error(got.err, 0)
        end

        call('XGROUP', 'CREATE', P .. 'q:' .. class, 'run', '0', 'MKSTREAM')
        got = call(...)
    end

    return got
end


local function due(n, window)
    local list = call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, n)

    if #list == 0 then
        return
    end

    call('ZREM', DELAYED, unpack(list))

    for i = 1, #list do
        local class, y, id, team = match(list[i], '^(%d):(%d+):([^:]*):(.*)$')

        admit(class, team, id, y, window)
    end
end


-- one entry that came to a consumer: run it, end it, drop it, or put it back
-- if its team is held

local function take(c, class, entry, again)
    local id, team = entry[2][2], entry[2][4]
    local v = call('HMGET', JOB .. id, 's', 'a', 'd', 'o', 'n', 'i', 'x', 'w',
                   'l', 'c', 'z', 'b', 'y')
    local j = { id = id, t = team, p = class, s = v[1],
                a = tonumber(v[2]) or 0, d = tonumber(v[3]) or 0,
                n = v[5] or '', x = v[7] or '', w = v[8] or '' }

    if not j.s then
        leave(class, team, entry[1])
        count(again and 'processing' or 'queued', -1)
        count('n:' .. team, -1)
        return
    end

    if TERMINAL[j.s] then
        leave(class, team, entry[1])

        if v[11] then
            call('HDEL', JOB .. id, 'z')
            call('PEXPIRE', JOB .. id, v[11])
        end

        return
    end

    local state, reason, text

    if j.s == 'processing' then
        j.d = j.d + 1
        count('deaths', 1)

        if find(j.x, 'c', 1, true) then
            state, reason, text = 'cancelled', 'cancelled', ''

        elseif find(j.x, 'f', 1, true) then
            state, reason, text = 'error', 'crash', c.crash

        elseif j.d > c.deaths then
            state, reason, text = 'error', 'poison', c.poison
        end
    end

    if not state and v[9] and now >= tonumber(v[9]) then
        state, reason, text = 'error', 'deadline', c.missed
    end

    if state then
        leave(class, team, entry[1])
        finish(j, state, c.ttl, { 'k', '', 'd', j.d, 'e', text })

        if state == 'error' then
            bury(j, reason, c.age)
        end

        c.ended[#c.ended + 1] = { id, state, reason, team, v[8] or '', j.n }
        return
    end

    if j.s == 'queued' then

        if room_for(of_team(class, team), c.window) == 0 then
            leave(class, team, entry[1])
            put_back(class, team, v[13], id)
            return
        end

        count('queued', -1)
        count('processing', 1)
    end

    local body = v[12] or ''

    call('HSET', JOB .. id, 's', 'processing', 'k', c.token, 'a', j.a + 1, 'd',
         j.d, 'q', entry[1], 'st', now)

    c.bytes = c.bytes - #body
    c.size = c.size + #body
    c.jobs[#c.jobs + 1] = { id, class, team, v[4] or '', j.a + 1, j.d,
                            v[10] or '', j.n, v[6] or '', j.x, v[8] or '',
                            v[9] or '0', body }
end


-- how many more: what their bodies are is known only once they are ours, so
-- it begins with a few and goes on by their size

local function room(c)
    local left = c.n - #c.jobs

    if #c.jobs == 0 then
        return min(left, 4)
    end

    if c.bytes <= 0 then
        return 0
    end

    return max(min(left, math.floor(c.bytes * #c.jobs / max(c.size, 1))),
               min(left, 1))
end


-- what the teams of entries need of stat, in one command

local function know_entries(class, entries)
    local fields = {}

    for i = 1, #entries do
        if entries[i] and entries[i][2] then
            for k = 1, #WINDOW do
                fields[#fields + 1] = WINDOW[k]
                                      .. of_team(class, entries[i][2][4])
            end
        end
    end

    know(fields)
end


local function lapsed(c, class)
    local rounds = 0

    -- many that run are looked through in several calls

    while room(c) > 0 and rounds < 16 do
        local n = room(c)
        local got = grouped(class, 'XAUTOCLAIM', P .. 'q:' .. class, 'run',
                            c.consumer, c.lease, c.cursor[class], 'COUNT', n)

        c.cursor[class] = got[1]

        know_entries(class, got[2])

        -- older servers give nothing for an entry that was deleted

        for i = 1, #got[2] do
            if got[2][i] and got[2][i][2] then
                take(c, class, got[2][i], true)
            end
        end

        acknowledge()
        let_in(c.window)
        rounds = rounds + 1

        if got[1] == '0-0' then
            return true
        end
    end

    return false
end


local function fresh(c, class)
    local rounds = 0

    -- a stream that is full of cancelled jobs is not emptied in one call

    while room(c) > 0 and rounds < 8 do
        local n = room(c)
        local got = grouped(class, 'XREADGROUP', 'GROUP', 'run', c.consumer,
                            'COUNT', n, 'STREAMS', P .. 'q:' .. class, '>')

        if not got then
            return
        end

        know_entries(class, got[1][2])

        for i = 1, #got[1][2] do
            take(c, class, got[1][2][i], false)
        end

        acknowledge()
        rounds = rounds + 1

        if let_in(c.window) == 0 and #got[1][2] < n then
            return
        end
    end
end


function ops.claim()
    local c = { consumer = ARGV[2], n = min(tonumber(ARGV[3]), MOST),
                token = ARGV[4], lease = ARGV[5], every = tonumber(ARGV[6]),
                order = ARGV[7], bytes = tonumber(ARGV[8]),
                window = tonumber(ARGV[9]), deaths = tonumber(ARGV[10]),
                ttl = ARGV[11], poison = ARGV[12], crash = ARGV[13],
                missed = ARGV[14], age = tonumber(ARGV[15]), size = 0,
                jobs = {}, ended = {}, cursor = {} }

    if c.token == '' or not match(c.order, '^[012]+$') or not c.age then
        return redis.error_reply('ERR claim: wrong arguments')
    end

    know({ 'queued', 'processing', 'swept' })
    let_go(c.window)
    due(MOST, c.window)

    local since = now - stat.swept

    if since >= c.every or since < 0 then
        local all, at = true, call('HMGET', STAT, 'c0', 'c1', 'c2')
        local set = {}

        for i = 1, #c.order do
            local class = sub(c.order, i, i)
            local before = at[class + 1] or '0-0'

            c.cursor[class] = before
            all = lapsed(c, class) and all

            if c.cursor[class] ~= before then
                set[#set + 1] = 'c' .. class
                set[#set + 1] = c.cursor[class]
            end
        end

        if #set > 0 then
            call('HSET', STAT, unpack(set))
        end

        if all then
            stat.swept = now
            changed.swept = true
        end
    end

    for i = 1, #c.order do
        fresh(c, sub(c.order, i, i))
    end

    tally()
    save()

    return { c.jobs, c.ended }
end


function ops.beat()
    local jobs, lists = held(3, 3), {}

    for i = 1, #jobs do
        local j = jobs[i]

        if j.code == 1 then
            put(lists, j.p, j.q)

            if find(j.x, 'c', 1, true) then
                j.code = 2
            end

        else
            j.code = 0
        end
    end

    -- without counting a delivery

    for class, list in pairs(lists) do
        list[#list + 1] = 'JUSTID'
        call('XCLAIM', P .. 'q:' .. class, 'run', ARGV[2], 0, unpack(list))
    end

    for i = 1, #jobs do
        local progress = ARGV[jobs[i].at + 2]

        if jobs[i].code > 0 and progress ~= '' then
            call('HSET', JOB .. jobs[i].id, 'g', progress)
        end
    end

    return codes(jobs)
end


-- a window that was halved grows with what completes

local function grow(j, window)
    local v = 'v:' .. of_team(j.p, j.t)
    local g = 'g:' .. of_team(j.p, j.t)

    know({ v, g })

    if stat[v] == 0 then
        return
    end

    count(g, 1)

    if stat[g] >= stat[v] then
        count(g, -stat[g])
        count(v, 1)
    end

    if stat[v] >= window then
        count(g, -stat[g])
        count(v, -stat[v])
    end
end


ops['end'] = function ()
    local window, age = tonumber(ARGV[2]), tonumber(ARGV[3])
    local jobs = held(4, 8)
    local mine = {}

    for i = 1, #jobs do
        local j = jobs[i]

        if not TERMINAL[ARGV[j.at + 2]] or not tonumber(ARGV[j.at + 6]) then
            return redis.error_reply('ERR end: wrong arguments')
        end

        if j.code == 1 then
            mine[#mine + 1] = j
        end
    end

    know_all(mine)

    for i = 1, #mine do
        leave(mine[i].p, mine[i].t, mine[i].q)
    end

    acknowledge()

    for i = 1, #mine do
        local j = mine[i]
        local at, more = j.at, {}

        for k, name in ipairs({ 'r', 'e', 'u' }) do
            if ARGV[at + 2 + k] ~= '' then
                more[#more + 1] = name
                more[#more + 1] = ARGV[at + 2 + k]
            end
        end

        finish(j, ARGV[at + 2], ARGV[at + 6], more, false)

        if j.s == 'completed' then
            grow(j, window)
        end

        if ARGV[at + 7] ~= '' then
            bury(j, ARGV[at + 7], age)
        end
    end

    let_in(window)
    tally()
    save()

    return codes(jobs)
end


-- jobs that are given back: those that are to be cancelled end instead

local function given_back(jobs, ttl, back)
    local mine = {}

    for i = 1, #jobs do
        if jobs[i].code == 1 then
            mine[#mine + 1] = jobs[i]
        end
    end

    if #mine == 0 then
        return
    end

    know_all(mine)
    begin()

    for i = 1, #mine do
        local j = mine[i]

        if find(j.x, 'c', 1, true) then
            j.code = 3
            leave(j.p, j.t, j.q)
            finish(j, 'cancelled', ttl, {}, false)

        else
            count('processing', -1)
            count('queued', 1)
            back(j)
        end
    end

    acknowledge()
end


function ops.retry()
    local jobs, later = held(4, 5), {}

    given_back(jobs, ARGV[3], function (j)
        local set = { 's', 'queued', 'k', '', 'a',
                      ARGV[j.at + 3] == '0' and j.a - 1 or j.a }

        if ARGV[j.at + 4] ~= '' then
            set[7], set[8] = 'e', ARGV[j.at + 4]
        end

        call('HSET', JOB .. j.id, unpack(set))
        leave(j.p, j.t, j.q)
        count('retries', 1)
        later[#later + 1] = now + ARGV[j.at + 2]
        later[#later + 1] = of_team(j.p, j.y) .. ':' .. of_team(j.id, j.t)
    end)

    if #later > 0 then
        call('ZADD', DELAYED, unpack(later))
    end

    let_in(tonumber(ARGV[2]))
    tally()
    save()

    return codes(jobs)
end


local function hold(j, delay, window)
    local ct = of_team(j.p, j.t)
    local h, v = 'h:' .. ct, 'v:' .. ct
    local till = now + max(min(delay, PAUSE), 1)

    -- those that ran beside the first one say the same

    if stat[h] <= now then
        local part = delay <= SHORT and 7 / 8 or 1 / 2
        local less = max(math.floor(room_for(ct, window) * part), 1)

        count('g:' .. ct, -stat['g:' .. ct])
        count(v, (less < window and less or 0) - stat[v])
    end

    if till > stat[h] then
        count(h, till - stat[h])
        call('ZADD', HELD, till, ct)
    end
end


function ops.hold()
    local window, jobs = tonumber(ARGV[2]), held(4, 3)

    given_back(jobs, ARGV[3], function (j)
        call('HSET', JOB .. j.id, 's', 'queued', 'k', '', 'a', j.a - 1)
        leave(j.p, j.t, j.q)
        put_back(j.p, j.t, j.y, j.id)
        hold(j, tonumber(ARGV[j.at + 2]) or 0, window)
    end)

    let_in(window)
    tally()
    save()

    return codes(jobs)
end


-- What is released stays a pending entry whose lease has lapsed long ago, and
-- the next claim begins to look for such ones anew.

local function give_up(lists)
    for class, list in pairs(lists) do
        list[#list + 1] = 'IDLE'
        list[#list + 1] = FAR
        list[#list + 1] = 'JUSTID'
        call('XCLAIM', P .. 'q:' .. class, 'run', 'free', 0, unpack(list))
        call('HSET', STAT, 'swept', 0, 'c' .. class, '0-0')
    end
end


local function release(jobs)
    local lists = {}

    given_back(jobs, ARGV[3], function (j)
        put(lists, j.p, j.q)
        call('HSET', JOB .. j.id, 's', 'queued', 'k', '', 'a', j.a - 1)
    end)

    give_up(lists)
    let_in(tonumber(ARGV[2]))
    tally()
    save()
end


function ops.release()
    local jobs = held(4, 2)

    release(jobs)

    return codes(jobs)
end


function ops.recall()
    local consumer, token, jobs, lists = ARGV[4], ARGV[5], {}, {}

    for class = 0, 2 do
        local key = P .. 'q:' .. class
        local pending = redis.pcall('XPENDING', key, 'run', '-', '+', MOST,
                                    consumer)

        for i = 1, pending.err and 0 or #pending do
            local entry = pending[i][1]
            local found = call('XRANGE', key, entry, entry)[1]
            local j = found and read(found[2][2])

            if j and j.s == 'processing'
               and (token == '' or j.k == token)
            then
                j.code = 1
                jobs[#jobs + 1] = j
                put(lists, class, entry)
            end
        end
    end

    if token == '' then
        give_up(lists)

    else
        release(jobs)
    end

    return #jobs
end


local function cancel_queued(j, ttl)
    local ct = of_team(j.p, j.t)
    local later = false

    if call('ZREM', P .. 'b:' .. ct, j.id) == 1 then
        count('b:' .. ct, -1)

    else
        later = call('ZREM', DELAYED, of_team(j.p, j.y) .. ':'
                                      .. of_team(j.id, j.t)) == 0
    end

    finish(j, 'cancelled', ttl, { 'k', '' }, later)
end


local function flag(j)
    if not find(j.x, 'c', 1, true) then
        call('HSET', JOB .. j.id, 'x', j.x .. 'c')
    end
end


function ops.cancel()
    local team, ttl, out = ARGV[2], ARGV[3], {}

    begin()

    for i = 4, #ARGV do
        local j = read(ARGV[i])

        if not j.s or (team ~= '*' and team ~= j.t) then
            out[#out + 1] = 'unknown'

        elseif j.s == 'queued' then
            cancel_queued(j, ttl)
            out[#out + 1] = 'cancelled'

        elseif j.s == 'processing' then
            flag(j)
            out[#out + 1] = 'flagged'

        else
            out[#out + 1] = 'was ' .. j.s
        end
    end

    tally()
    save()

    return out
end


function ops.get()
    local team, n, out = ARGV[2], tonumber(ARGV[3]), {}
    local fields = { 't' }

    for i = 1, n do
        fields[1 + i] = ARGV[3 + i]
    end

    for i = 4 + n, #ARGV do
        local v = call('HMGET', JOB .. ARGV[i], unpack(fields))
        local t = table.remove(v, 1)

        out[#out + 1] = t and (team == '*' or team == t) and v or false
    end

    return out
end


-- name, value, ... as a table

local function named(list)
    local t = {}

    for i = 1, #list, 2 do
        t[list[i]] = list[i + 1]
    end

    return t
end


-- what a group has pending, and when its next job was created

local function look(class, idle)
    local key = P .. 'q:' .. class
    local groups = redis.pcall('XINFO', 'GROUPS', key)

    if groups.err or #groups == 0 then
        return 0
    end

    local g = named(groups[1])
    local consumers = call('XINFO', 'CONSUMERS', key, 'run')

    for i = 1, #consumers do
        local c = named(consumers[i])

        if c.pending == 0 and c.idle > idle then
            call('XGROUP', 'DELCONSUMER', key, 'run', c.name)
        end
    end

    local first = call('XRANGE', key, '(' .. g['last-delivered-id'], '+',
                       'COUNT', 1)[1]

    return g.pending, first and tonumber(call('HGET', JOB .. first[2][2],
                                              'c'))
end


function ops.sweep()
    local names = { 'queued', 'processing', 'submitted', 'completed', 'error',
                    'cancelled', 'deaths', 'retries' }
    local out, oldest = {}, now

    local function tell(name, value)
        out[#out + 1] = name
        out[#out + 1] = value
    end

    know(names)

    for i = 1, #names do
        tell(names[i], stat[names[i]])
    end

    call('XTRIM', DEAD, 'MINID', max(now - ARGV[2], 0))
    tell('delayed', call('ZCARD', DELAYED))
    tell('dead', call('XLEN', DEAD))

    for class = 0, 2 do
        local pending, created = look(class, tonumber(ARGV[3]))

        oldest = min(oldest, created or now)
        tell('length' .. class, call('XLEN', P .. 'q:' .. class))
        tell('pending' .. class, pending)
    end

    tell('oldest', now - oldest)

    return out
end


function ops.purge()
    local key, skip = P .. 'team:' .. ARGV[2], tonumber(ARGV[3])
    local ids = call('ZRANGE', key, skip, skip + ARGV[4] - 1)
    local gone, flagged = {}, 0

    begin()

    for i = 1, #ids do
        local j = read(ids[i])

        if j.s == 'processing' then
            flag(j)
            flagged = flagged + 1

        else
            gone[#gone + 1] = ids[i]

            if j.s == 'queued' then
                j.w = ''
                cancel_queued(j, 1)

            elseif j.z then

                -- an entry still leads here

                call('HSET', JOB .. ids[i], 'z', 1)

            else
                call('UNLINK', JOB .. ids[i])
            end
        end
    end

    if #gone > 0 then
        call('ZREM', key, unpack(gone))
    end

    tally()
    save()

    return { #gone, flagged, call('ZCARD', key) }
end


function ops.drop()
    local gone, indexes = 0, {}

    begin()

    for i = 2, #ARGV do
        local j = read(ARGV[i])

        if TERMINAL[j.s] then
            gone = gone + 1
            put(indexes, j.t, ARGV[i])

            if j.z then

                -- an entry still leads here

                call('HSET', JOB .. ARGV[i], 'z', 1)

            else
                call('UNLINK', JOB .. ARGV[i])
            end
        end
    end

    for team, ids in pairs(indexes) do
        call('ZREM', P .. 'team:' .. team, unpack(ids))
    end

    return gone
end


function ops.dead()
    local list, out = call('XREVRANGE', DEAD, '+', '-', 'COUNT', ARGV[2]), {}

    for i = 1, #list do
        local d = named(list[i][2])

        out[i] = { d.id, d.team, d.reason, d.attempts, d.deaths,
                   match(list[i][1], '^%d+') }
    end

    return out
end


function ops.teams()
    local all, list, out = call('HGETALL', STAT), {}, {}

    for i = 1, #all, 2 do
        if sub(all[i], 1, 2) == 'n:' then
            list[#list + 1] = { sub(all[i], 3), tonumber(all[i + 1]) }
        end
    end

    table.sort(list, function (x, y)
        return x[2] > y[2] or x[2] == y[2] and x[1] < y[1]
    end)

    for i = 1, min(#list, tonumber(ARGV[2])) do
        out[i] = list[i]
    end

    return out
end


-- things to do: is it this caller that does it?

local function doing(thing, token)
    return token ~= '' and call('HGET', DOING, thing) == token
end


function ops.todo()
    local list = call('ZRANGEBYSCORE', THINGS, '-inf', now, 'LIMIT', 0,
                      min(tonumber(ARGV[2]), MOST))
    local out, due_at, tokens = {}, {}, {}

    if #list == 0 then
        return out
    end

    begin()
    know({ 'todo' })

    for i = 1, #list do

        -- greater than any before, also after Redis has lost all

        stat.todo = max(stat.todo + 1, time[1] * 1000000 + time[2])
        changed.todo = true

        out[i] = { list[i], string.format('%.0f', stat.todo) }
        due_at[2 * i - 1], due_at[2 * i] = now + ARGV[3], list[i]
        tokens[2 * i - 1], tokens[2 * i] = list[i], out[i][2]

        -- what was to come once more comes now

        tokens[2 * #list + i] = '+' .. list[i]
    end

    call('ZADD', THINGS, unpack(due_at))
    call('HSET', DOING, unpack(tokens, 1, 2 * #list))
    call('HDEL', DOING, unpack(tokens, 2 * #list + 1))
    save()

    return out
end


ops['todo-keep'] = function ()
    local out = {}

    begin()

    for i = 3, #ARGV, 2 do
        out[#out + 1] = doing(ARGV[i], ARGV[i + 1]) and 1 or 0

        if out[#out] == 1 then
            call('ZADD', THINGS, now + ARGV[2], ARGV[i])
        end
    end

    return out
end


ops['todo-done'] = function ()
    local out = {}

    begin()

    for i = 2, #ARGV, 3 do
        local thing, again = ARGV[i], tonumber(ARGV[i + 2])

        if doing(thing, ARGV[i + 1]) then
            local at = again >= 0 and now + again or nil
            local once = tonumber(call('HGET', DOING, '+' .. thing) or '')

            if once and (not at or once < at) then
                at = once
            end

            if at then
                call('ZADD', THINGS, at, thing)

            else
                call('ZREM', THINGS, thing)
            end

            call('HDEL', DOING, thing, '+' .. thing)
            out[#out + 1] = 1

        else
            out[#out + 1] = 0
        end
    end

    return out
end


ops['todo-add'] = function ()
    begin()
    add_todo(ARGV[2], now + ARGV[3])

    return 1
end


local op = ops[ARGV[1]]

if not op then
    return redis.error_reply('ERR no such operation')
end

return op()
