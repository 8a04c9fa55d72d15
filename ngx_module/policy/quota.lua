-- Copyright (C) the ngx-llm authors
--
-- One batch of one gateway: core/llm_quota_wire.c writes and reads it.
-- Everything is read and decided first and written after: a script that
-- fails half way is not undone.  Numbers are integers below 2^53, written
-- by '%.0f', so that no rounding adds up.  It has no "#!lua" line, which
-- Redis 6 does not know; see "full" for what it would be good for.
--
-- KEYS   1 lives, 2 state of the fleet, 3 this gateway's last reply, 4 hints,
--        then two per name: levels and tallies, shares of slots
-- ARGV   1 head, 2 gateway, then one per name, one per ask

local UNIT = 60000               -- parts, as llm_bucket_t has them
local LIFE = 15000               -- ms without a sign of life
local STEP = 5000                -- ms that the clock of lives may jump
local DAY = 86400000
local MOST = 9007199254740991    -- 2^53 - 1
local SMALL = 2147483648         -- what any '%d' takes
local HINTS = 32

local call, fmt, floor, ceil = redis.call, string.format, math.floor, math.ceil
local min, max, abs = math.min, math.max, math.abs


local function numbers(s)
    local t, n = {}, 0

    for word in string.gmatch(s, '%S+') do
        n = n + 1
        t[n] = tonumber(word)
    end

    return t
end


local function text(t)
    local out = {}

    for i = 1, #t do
        local n = t[i]

        -- the same digits at a third of the cost

        if n == 0 then
            out[i] = '0'

        elseif n > -SMALL and n < SMALL then
            out[i] = fmt('%d', n)

        else
            out[i] = fmt('%.0f', n)
        end
    end

    return table.concat(out, ' ')
end


-- months since January 1970, which is 1, of a number of days since then

local function month_of(days)
    local z = days + 719468
    local era = floor(z / 146097)
    local doe = z - era * 146097
    local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524)
                       - floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
    local mp = floor((5 * doy + 2) / 153)

    -- its years begin in March

    return (yoe + era * 400 - 1970) * 12 + mp + 3
end


local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local today = floor(now / DAY)
local tomonth = month_of(today)
today = today + 1

local head, me = numbers(ARGV[1]), ARGV[2]
local seq, told_epoch, told_gateways = head[1], head[2], head[3]
local day, month, day_left, month_left = head[4], head[5], head[6], head[7]
local nnames, nasks = head[8], head[9]

local keys = { KEYS[2], KEYS[3] }

for i = 1, nnames do
    keys[2 + i] = KEYS[3 + 2 * i]
end

local got = call('MGET', unpack(keys))


-- The fleet: when the store began to remember, and a clock for the lives of
-- gateways.  It runs with Redis' own but stands while nobody calls and does
-- not jump with it: a clock that is put forward frees nobody's slots, nor
-- does an hour without Redis.

local epoch, clock, last, learn, created, fleet =
    time[1] * 1000000 + time[2], now, now, 0, now, 0

if got[1] then
    local f = numbers(got[1])

    epoch, clock, last, learn, created, fleet = unpack(f)
end

clock = clock + min(max(now - last, 0), STEP)
last = now

-- somebody remembers another store: this one has forgotten

local forgot = told_epoch ~= 0 and told_epoch ~= epoch

if forgot then
    learn = max(learn, created + LIFE)
    fleet = max(fleet, told_gateways)
end


-- The first write tells whether Redis is full.  A script that has written
-- something may go on to, so what only removes comes first then: debts and
-- what is given back are always taken, and slots move.  Asks are not judged on
-- a full Redis, and nothing is given ahead: it may lose what it has any time.
-- Their gateway judges them, by what it was told last.

local state = text({ epoch, clock, last, learn, created, fleet })
local probe = redis.pcall('SET', KEYS[2], state)
local full = type(probe) == 'table' and probe.err

if full and not string.find(full, 'OOM', 1, true) then
    return probe
end

call('ZREMRANGEBYSCORE', KEYS[1], '-inf', fmt('(%.0f', clock - LIFE))

if full then
    call('SET', KEYS[2], state)
end

local gateways = call('ZRANGE', KEYS[1], 0, -1)
local alive = {}

for i = 1, #gateways do
    alive[gateways[i]] = true
end

local lapsed = alive[me] and 0 or 1

if lapsed == 1 then
    gateways[#gateways + 1] = me
    alive[me] = true
end

call('ZADD', KEYS[1], fmt('%.0f', clock), me)


local function answer(number, status, names, asks, hints)
    return text({ now, number, status, #gateways, epoch, lapsed, names, asks,
                  hints })
end


-- a number is applied once

if got[2] then
    local at = string.find(got[2], '\n', 1, true)
    local stored = tonumber(string.sub(got[2], 1, at - 1))

    if stored == seq then
        return string.sub(got[2], at + 1)
    end

    if stored > seq then
        return answer(stored, 2, 0, 0, 0)
    end
end

if forgot then
    return answer(seq, 1, 0, 0, 0)
end


-- Tallies stand in two slots of period, requests, tokens, money, by the
-- parity of the period.  A gateway's day counts if it is near to ours or to
-- what the name knows, so that a wrong clock, here or there, forgets nothing.

local function near(l, base, p, ours)
    return abs(p - ours) <= 1
           or (l[base] ~= 0 and abs(p - l[base]) <= 1)
           or (l[base + 4] ~= 0 and abs(p - l[base + 4]) <= 1)
end


local function slot(l, base, p, ours)
    local i = base + p % 2 * 4

    if l[i] ~= p then
        if l[i] > p and (l[i] <= ours + 1 or abs(p - ours) > 1) then
            return nil
        end

        l[i], l[i + 1], l[i + 2], l[i + 3] = p, 0, 0, 0
    end

    return i
end


local function add(l, i, requests, tokens, money)
    if i then
        l[i + 1] = min(max(l[i + 1] + requests, 0), MOST)
        l[i + 2] = min(max(l[i + 2] + tokens, 0), MOST)
        l[i + 3] = min(max(l[i + 3] + money, 0), MOST)
    end
end


local function larger(l, base, ours, a, at)
    if a[at] == 0 or not near(l, base, a[at], ours) then
        return
    end

    local i = slot(l, base, a[at], ours)

    if i then
        l[i + 1] = max(l[i + 1], a[at + 1])
        l[i + 2] = max(l[i + 2], a[at + 2])
        l[i + 3] = max(l[i + 3], a[at + 3])
    end
end


local function leak(level, rate, elapsed)
    return max(level - rate * elapsed, 0)
end


-- a: rpm burst tpm burst_tokens rpd tpd budget month | concurrency want held
-- hash repair | day month, bucket (2), tally (3) | old day, month, tally (3)
-- | prefetch (3) | the tallies known: day (4), month (4) | wish press;
-- the last two parts only if there is something in them

local RPM, BURST, TPM, BURST_TOKENS, RPD, TPD, BUDGET, MONTH = 1, 2, 3, 4, 5,
                                                               6, 7, 8
local SLOTS, WANT, HELD, HASH, REPAIR = 9, 10, 11, 12, 13
local ADJUST, OLD, AHEAD, KNOWN, WISH, PRESS = 14, 21, 26, 29, 37, 38

-- l: time, levels of requests and tokens, their rates, tallies of days and
-- months

local DAYS, MONTHS = 6, 14


local function settle(a, l)
    local elapsed = now - l[1]

    -- a clock put back: the bucket stands still for it, and goes on from
    -- there unless it was only a little

    if elapsed > 0 or elapsed < -1000 then
        l[1] = now
    end

    elapsed = max(elapsed, 0)
    l[2], l[3] = leak(l[2], l[4], elapsed), leak(l[3], l[5], elapsed)
    l[4], l[5] = a[RPM], a[TPM]

    if a[REPAIR] == 1 then
        larger(l, DAYS, today, a, KNOWN)
        larger(l, MONTHS, tomonth, a, KNOWN + 4)
    end

    local d, m = a[ADJUST], a[ADJUST + 1]

    if not near(l, DAYS, d, today) then
        d, m = today, tomonth

    elseif not near(l, MONTHS, m, tomonth) then
        m = tomonth
    end

    a.day, a.month = slot(l, DAYS, d, today), slot(l, MONTHS, m, tomonth)

    if a[RPM] > 0 then
        l[2] = min(max(l[2] + a[ADJUST + 2] * UNIT, 0), MOST)
    end

    if a[TPM] > 0 then
        l[3] = min(max(l[3] + a[ADJUST + 3] * UNIT, 0), MOST)
    end

    add(l, a.day, a[ADJUST + 4], a[ADJUST + 5], a[ADJUST + 6])
    add(l, a.month, a[ADJUST + 4], a[ADJUST + 5], a[ADJUST + 6])

    if a[OLD] ~= 0 then
        if near(l, DAYS, a[OLD], today) then
            add(l, slot(l, DAYS, a[OLD], today), a[OLD + 2], a[OLD + 3],
                a[OLD + 4])
        end

        if near(l, MONTHS, a[OLD + 1], tomonth) then
            add(l, slot(l, MONTHS, a[OLD + 1], tomonth), a[OLD + 2],
                a[OLD + 3], a[OLD + 4])
        end
    end
end


-- what is used of a tally; of one that is forgotten nobody knows

local function used(l, i, k)
    return i and l[i + k] or 0
end


local function money(a, l)
    return used(l, a[MONTH] == 1 and a.month or a.day, 3)
end


-- The worst of a name's limits: why, ms to wait (-1: for ever), limit, used.
-- In the background a quarter of a bucket is kept, or all that is left of a
-- full one.

local function judge(a, l, requests, tokens, cost, behind)
    local why, wait, limit, taken = 0, 0, 0, 0

    local function worse(w, ms, lim, have)
        if why == 0 or (wait ~= -1 and (ms == -1 or ms > wait)) then
            why, wait, limit, taken = w, ms, lim, have
        end
    end

    local function bucket(w, level, rate, burst, n)
        local over = level + (n - burst) * UNIT

        if behind and n <= burst then
            over = over + min(burst / 4, burst - n) * UNIT
        end

        if rate > 0 and n > 0 and over > 0 then
            worse(w, n > burst and -1 or ceil(over / rate), burst,
                  ceil(level / UNIT))
        end
    end

    local function tally(w, have, lim, n, left)
        if lim > 0 and n > 0 and have + n > lim then
            worse(w, n > lim and -1 or left, lim, have)
        end
    end

    bucket(1, l[2], a[RPM], a[BURST], requests)
    bucket(2, l[3], a[TPM], a[BURST_TOKENS], tokens)
    tally(3, used(l, a.day, 1), a[RPD], requests, day_left)
    tally(4, used(l, a.day, 2), a[TPD], tokens, day_left)
    tally(5, money(a, l), a[BUDGET], cost,
          a[MONTH] == 1 and month_left or day_left)

    return why, wait, limit, taken
end


local function take(a, l, requests, tokens, cost)
    if a[RPM] > 0 then
        l[2] = min(l[2] + requests * UNIT, MOST)
    end

    if a[TPM] > 0 then
        l[3] = min(l[3] + tokens * UNIT, MOST)
    end

    add(l, a.day, requests, tokens, cost)
    add(l, a.month, requests, tokens, cost)
end


-- ahead: all of it, as long as every limit has a tenth left, and enough for
-- each gateway to get the same; the end of a limit is given out exactly

local function prefetch(a, l)
    local r, t, m = a[AHEAD], a[AHEAD + 1], a[AHEAD + 2]

    if full or r + t + m == 0 then
        return 0
    end

    local function short(lim, have, n)
        return lim > 0 and n > 0
               and lim - have < max(lim / 10, n * #gateways)
    end

    if (a[RPM] > 0 and short(a[BURST], l[2] / UNIT, r))
       or (a[TPM] > 0 and short(a[BURST_TOKENS], l[3] / UNIT, t))
       or short(a[RPD], used(l, a.day, 1), r)
       or short(a[TPD], used(l, a.day, 2), t)
       or short(a[BUDGET], money(a, l), m)
    then
        return 0
    end

    take(a, l, r, t, m)

    return 1
end


-- Max-min fair parts of "slots" for what each wants: who wants less than an
-- equal part gets it, the others share the rest; what cannot be divided goes
-- round, a second each.

local function fair(slots, wants, names)
    local order, parts = {}, {}

    for i = 1, #names do
        order[i] = names[i]
    end

    table.sort(order, function (x, y)
        if wants[x] ~= wants[y] then
            return wants[x] < wants[y]
        end

        return x < y
    end)

    local rest, i = slots, 1

    while i <= #order and wants[order[i]] <= floor(rest / (#order - i + 1)) do
        parts[order[i]] = wants[order[i]]
        rest = rest - wants[order[i]]
        i = i + 1
    end

    local greedy = {}

    for k = i, #order do
        greedy[#greedy + 1] = order[k]
    end

    table.sort(greedy)

    local n = #greedy
    local each = n > 0 and floor(rest / n) or 0
    local odd = rest - each * n
    local turn = floor(clock / 1000)

    for k = 1, n do
        parts[greedy[k]] = each + ((k + turn) % n < odd and 1 or 0)
    end

    return parts
end


-- what a full limit's gateways are to hear, by gateway

local hints = {}

local function hint(gateway, hash)
    local list = hints[gateway] or {}

    hints[gateway] = list
    list[#list + 1] = fmt('%.0f', hash)
end


-- A gateway's claim is what is kept for it: the larger of its share and what
-- it holds, which always wins.  All claims together stay within the limit.
-- The share is what it may start by: lower than what it holds if others wait.
-- A wish, for the background, is a share that nobody else wants and that
-- leaves a part of the slots nobody's.

local function share(a, key, writes)
    local held, want, slots = a[HELD], max(a[WANT], a[HELD]), a[SLOTS]
    local shares = call('HGETALL', key)
    local names, wants, claims, told = { me }, { [me] = want }, { [me] = 0 },
                                       {}
    local before, others, sum = -1, 0, want

    for i = 1, #shares, 2 do
        local gateway, f = shares[i], numbers(shares[i + 1])

        if gateway == me then
            before = f[1]
            claims[me] = lapsed == 1 and 0 or f[1]

        elseif alive[gateway] then
            names[#names + 1] = gateway
            claims[gateway], wants[gateway], told[gateway] = f[1], f[2], f[3]
            others = others + f[1]
            sum = sum + f[2]

        else
            writes[#writes + 1] = { 'HDEL', key, gateway }
        end
    end

    local parts = fair(slots, wants, names)
    local mine = min(parts[me], max(slots - others, 0))

    -- while it is not known who holds what, nobody gets more than a part

    if clock < learn then
        mine = min(mine, floor(slots / max(#gateways, fleet)))
    end

    local tight = sum > slots and 1 or 0
    local wish, press = a[WISH] or 0, a[PRESS] == 1

    if wish > mine and tight == 0 and clock >= learn then
        local kept = slots > 1 and max(floor(slots / 4), 1) or 0

        mine = max(mine, min(wish, slots - others - kept))
    end

    local claim = max(mine, held)

    -- Others are told to come when they have too much, do not know that
    -- somebody waits for what they spare, or can have more.

    for i = 2, #names do
        local other = names[i]

        if (mine < want and (claims[other] > parts[other]
                             or (claims[other] > 0 and told[other] == 0)))
           or (press and mine < wish
               and claims[other] > (mine == 0 and 0 or mine + 1))
           or (claim < claims[me] and claims[other] < wants[other])
        then
            hint(other, a[HASH])
        end
    end

    if claim == 0 and want == 0 then
        if before >= 0 then
            writes[#writes + 1] = { 'HDEL', key, me }
        end

    else
        writes[#writes + 1] = { 'HSET', key, me,
                                fmt('%.0f %.0f %d', claim, want, tight) }

        -- for long, since what is put forward expires

        writes[#writes + 1] = { 'PEXPIRE', key, 7 * DAY }
    end

    return mine, claim, tight, max(slots - others - claim, 0)
end


-- a name is forgotten when its buckets are empty and its tallies are of the
-- past: they are kept to the end of the next period

local function lifetime(a, l)
    local ms = 0

    if a[RPM] > 0 then
        ms = max(ms, ceil(l[2] / a[RPM]))
    end

    if a[TPM] > 0 then
        ms = max(ms, ceil(l[3] / a[TPM]))
    end

    ms = min(ms, 62 * DAY) + 60000

    if a[RPD] + a[TPD] > 0 or (a[BUDGET] > 0 and a[MONTH] == 0) then
        ms = max(ms, 2 * DAY)
    end

    if a[BUDGET] > 0 and a[MONTH] == 1 then
        ms = max(ms, 62 * DAY)
    end

    return ms
end


local names, levels, writes, reply = {}, {}, {}, {}

for i = 1, nnames do
    local a = numbers(ARGV[2 + i])
    local s = got[2 + i]

    names[i] = a
    a.counted = a[RPM] + a[TPM] + a[RPD] + a[TPD] + a[BUDGET] > 0

    levels[i] = s and numbers(s) or { now, 0, 0, a[RPM], a[TPM], 0, 0, 0, 0,
                                      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

    if a.counted then
        settle(a, levels[i])
    end
end


local verdicts = {}

for i = 1, nasks do
    local f = numbers(ARGV[2 + nnames + i])
    local index, why, wait, limit, taken = 0, 0, 0, 0, 0

    for k = 1, 2 do
        local n = f[k]

        if n > 0 then
            local w, ms, lim, have = judge(names[n], levels[n], f[3], f[4],
                                           f[5], f[6] == 1)

            if w ~= 0 and (why == 0 or (wait ~= -1
                                        and (ms == -1 or ms > wait)))
            then
                index, why, wait, limit, taken = k - 1, w, ms, lim, have
            end
        end
    end

    if full then
        verdicts[i] = '2'

    elseif why ~= 0 then
        verdicts[i] = fmt('1 %.0f %.0f %.0f %.0f %.0f', index, why, wait,
                          limit, taken)

    else
        for k = 1, 2 do
            if f[k] > 0 then
                take(names[f[k]], levels[f[k]], f[3], f[4], f[5])
            end
        end

        verdicts[i] = '0'
    end
end


for i = 1, nnames do
    local a, l = names[i], levels[i]
    local mine, claim, tight, spare, ahead = 0, 0, 0, 0, 0
    local out = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

    if a[SLOTS] > 0 then
        mine, claim, tight, spare = share(a, KEYS[4 + 2 * i], writes)
    end

    if a.counted then
        ahead = prefetch(a, l)

        writes[#writes + 1] = { 'SET', KEYS[3 + 2 * i], text(l), 'PX',
                                fmt('%.0f', lifetime(a, l)) }

        out[4], out[5] = l[2], l[3]

        for k = 0, 3 do
            out[6 + k] = a.day and l[a.day + k] or 0
            out[10 + k] = a.month and l[a.month + k] or 0
        end
    end

    out[1], out[2], out[3], out[14] = mine, claim, tight, ahead

    if (a[WISH] or 0) > 0 then
        out[15] = spare
    end

    reply[#reply + 1] = text(out)
end

for i = 1, nasks do
    reply[#reply + 1] = verdicts[i]
end


-- hints for this gateway, and its own for others

local heard = call('HGET', KEYS[4], me)
local nheard = 0

if heard then
    for word in string.gmatch(heard, '%S+') do
        nheard = nheard + 1
        reply[#reply + 1] = word
    end

    call('HDEL', KEYS[4], me)
end

local hinted

for gateway, list in pairs(hints) do
    local old = call('HGET', KEYS[4], gateway) or ''
    local _, n = string.gsub(old, '%S+', '')
    local before = n

    for i = 1, #list do
        if n < HINTS and not string.find(' ' .. old .. ' ',
                                         ' ' .. list[i] .. ' ', 1, true)
        then
            old = old .. ' ' .. list[i]
            n = n + 1
        end
    end

    if n > before then
        call('HSET', KEYS[4], gateway, old)
        hinted = true
    end
end

if hinted then
    call('PEXPIRE', KEYS[4], LIFE)
end

for i = 1, #writes do
    call(unpack(writes[i]))
end

table.insert(reply, 1, answer(seq, 0, nnames, nasks, nheard))
reply = table.concat(reply, ' ')

-- a mere sign of life may come twice; a reply lost is asked for again, at
-- the latest when a store that was away for long is back

if nnames + nasks > 0 then
    call('SET', KEYS[3], fmt('%.0f\n', seq) .. reply, 'PX', DAY)
end

return reply
