"""The rules of dispatcher.py once more, in Lua: Redis runs them for all replicas.

With the commands of redis_commands.py they are one script, so that every step is
atomic. All keys lie in one hash slot
(`{routing}`), so a cluster runs it, too. Per pool: `spec` (JSON), `waiting` and
`running` (id -> JSON), `line:<priority>` and `lane:<priority>:<upstream>` (sorted by
tag, then by number of arrival), `tags:<priority>` (user -> last tag), `books` (counters), `gates`, `service`,
`records`, `chat:<affinity>`. For all: `replicas` (by when their lease ends),
`owned:<replica>` (what falls with it), `mail:<replica>` (what it has to know),
`told:<replica>` (pools whose lines moved, already in the mail).

Times are those of Redis, in seconds.
"""

REDIS_RULES = """
local root, base, command = KEYS[1], KEYS[1] .. ARGV[1] .. ':', ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local call, decode, encode = redis.call, cjson.decode, cjson.encode
local spec, answer

local function use(pool)
  base = root .. pool .. ':'
  local text = call('GET', base .. 'spec')
  spec = text and decode(text) or {upstreams = {}}
  spec.pool = pool
end

local function lane(priority, upstream)
  return base .. 'lane:' .. priority .. ':' .. upstream
end

local function line(priority)
  return base .. 'line:' .. priority
end

local of_users = {}  -- what runs of each, as far as it was looked up

local function book(kind, name, change)
  local field = kind .. ':' .. name
  local count = call('HINCRBY', base .. 'books', field, change)
  if count == 0 then call('HDEL', base .. 'books', field) end
  if kind == 'user' then of_users[base .. name] = count end
end

local function booked(kind, name)
  return tonumber(call('HGET', base .. 'books', kind .. ':' .. name) or '0')
end

local function mail(owner, letter)
  letter.pool = spec.pool
  call('RPUSH', root .. 'mail:' .. owner, encode(letter))
end

-- gates

local function gates_of(upstream, ticket)
  local model = upstream .. ' ' .. ticket.model
  -- A ticket of a replica that runs an older version names no login.
  local names = {upstream, model, model .. ' (' .. (ticket.login or '') .. ')'}
  local found = {}
  for i, text in ipairs(call('HMGET', base .. 'gates', unpack(names))) do
    if text then
      local gate = decode(text)
      gate.name = names[i]
      found[#found + 1] = gate
    end
  end
  return found
end

local function save_gate(gate)
  call('HSET', base .. 'gates', gate.name, encode(gate))
end

local function excluded(ticket, upstream)
  for _, name in ipairs(ticket.excluded) do
    if name == upstream then return true end
  end
  return false
end

local function possible(ticket)
  for _, upstream in ipairs(spec.upstreams) do
    local open = not excluded(ticket, upstream.id)
    for _, gate in ipairs(gates_of(upstream.id, ticket)) do
      open = open and (gate.paused or gate['until'] <= now)
    end
    if open then return true end
  end
  return false
end

-- lanes

local function tell_moved()
  if call('HLEN', base .. 'waiting') == 0 then return end
  for _, owner in ipairs(call('ZRANGE', root .. 'replicas', 0, -1)) do
    if call('SADD', root .. 'told:' .. owner, spec.pool) == 1 then
      mail(owner, {kind = 'moved'})
    end
  end
end

local function insert(ticket)
  local number = call('HINCRBY', base .. 'books', 'arrivals', 1)
  local tags = base .. 'tags:' .. ticket.priority
  local virtual = booked('time', ticket.priority)
  ticket.tag, ticket.overtaken = -1e15, 0
  if not ticket.ahead then
    local last = call('ZSCORE', tags, ticket.user)
    ticket.tag = math.max(virtual, last and tonumber(last) + 1 or virtual)
    call('ZADD', tags, ticket.tag, ticket.user)
    call('ZREMRANGEBYSCORE', tags, '-inf', virtual - 1)
  end
  ticket.member = string.format('%015d %s %s', number, ticket.id, ticket.user)
  call('ZADD', line(ticket.priority), ticket.tag, ticket.member)
  call('ZADD', lane(ticket.priority, ticket.lane), ticket.tag, ticket.member)
  call('HSET', base .. 'waiting', ticket.id, encode(ticket))
end

local function remove(ticket)
  call('ZREM', line(ticket.priority), ticket.member)
  call('ZREM', lane(ticket.priority, ticket.lane), ticket.member)
  call('ZREM', lane(ticket.priority, ''), ticket.member)
  call('HDEL', base .. 'waiting', ticket.id)
end

local function disown(ticket)
  call('SREM', root .. 'owned:' .. ticket.owner, spec.pool .. ' ' .. ticket.id)
end

local function give_up(ticket)
  remove(ticket)
  disown(ticket)
  local tags = base .. 'tags:' .. ticket.priority
  if not ticket.ahead and call('ZSCORE', tags, ticket.user) then
    call('ZINCRBY', tags, -1, ticket.user)
  end
end

-- the choice

local function has_enough(user)
  if spec.per_user <= 0 then return false end
  local key = base .. user
  of_users[key] = of_users[key] or booked('user', user)
  return of_users[key] >= spec.per_user
end

local function may_run(ticket, upstream)
  if excluded(ticket, upstream) or has_enough(ticket.user) then return false end
  if spec.per_model > 0 and booked('model', ticket.model) >= spec.per_model then
    return false
  end
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    if gate['until'] > now or not (gate.paused or gate.probe == '') then
      return false
    end
  end
  return true
end

local function head(priority, name, upstream)
  local start = 0
  while true do
    local members = call('ZRANGE', lane(priority, name), start, start + 15)
    for _, member in ipairs(members) do
      local id, user = string.match(member, '^%d+ (%S+) ?(.*)$')
      -- Reading the whole ticket is dear where many of one user wait.
      if not has_enough(user) then
        local text = call('HGET', base .. 'waiting', id)
        if not text then  -- Redis may have evicted one key and not the other
          call('ZREM', lane(priority, name), member)
          call('ZREM', line(priority), member)
          return head(priority, name, upstream)
        end
        local ticket = decode(text)
        if may_run(ticket, upstream) then return ticket end
      end
    end
    if #members < 16 then return nil end
    start = start + 16
  end
end

-- The next request of a class, and the one that it overtakes.
local function first_of_class(priority, upstream)
  local home = head(priority, upstream, upstream)
  local other = head(priority, '', upstream)
  if not (home and other) then return home or other end
  if home.tag < other.tag or home.tag == other.tag and home.member <= other.member then
    return home
  end
  if home.tag <= other.tag + 1 and other.overtaken < 2 then return home, other end
  return other
end

local function first_for(upstream)
  local best, best_time, overtaken
  for priority = 0, 2 do
    local first, behind = first_of_class(priority, upstream)
    if first then
      local entered = first.entered + priority * spec.ageing
      if not best or entered < best_time then
        best, best_time, overtaken = first, entered, behind
      end
    end
  end
  if overtaken then
    overtaken.overtaken = overtaken.overtaken + 1
    call('HSET', base .. 'waiting', overtaken.id, encode(overtaken))
  end
  return best
end

local function remember(ticket, upstream)
  if ticket.affinity == '' or spec.ttl <= 0 then return 'new' end
  local chat = base .. 'chat:' .. ticket.affinity
  local before = call('GET', chat)
  call('SET', chat, upstream, 'PX', math.floor(spec.ttl * 1000) + 1)
  if not before then return 'new' end
  return before == upstream and 'kept' or 'moved'
end

local function run(ticket, upstream)
  ticket.upstream, ticket.since = upstream, now
  call('HSET', base .. 'running', ticket.id, encode(ticket))
  book('upstream', upstream, 1)
  book('user', ticket.user, 1)
  book('model', ticket.model, 1)
end

local function grant(ticket, upstream)
  remove(ticket)
  if not ticket.ahead then
    local virtual = math.max(booked('time', ticket.priority), ticket.tag)
    call('HSET', base .. 'books', 'time:' .. ticket.priority, virtual)
  end
  local probe = false
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    if gate.paused then
      call('HDEL', base .. 'gates', gate.name)
    else
      gate.probe, probe = ticket.id, true
      save_gate(gate)
    end
  end
  ticket.probing = probe
  ticket.kept = remember(ticket, upstream)
  run(ticket, upstream)
  return {kind = 'grant', id = ticket.id, upstream = upstream,
          affinity = ticket.kept, probe = probe}
end

local function mean_service()
  local known = call('HVALS', base .. 'service')
  local sum = 0
  for _, seconds in ipairs(known) do sum = sum + tonumber(seconds) end
  return #known > 0 and sum / #known or 1
end

local function load_of(upstream, mean)
  local seconds = tonumber(call('HGET', base .. 'service', upstream.id) or mean)
  local busy = (booked('upstream', upstream.id) + 1) / upstream.slots
  return busy * seconds / upstream.weight
end

local function next_grant()
  local free, mean = {}, mean_service()
  for i, upstream in ipairs(spec.upstreams) do
    if booked('upstream', upstream.id) < upstream.slots then
      free[#free + 1] = {load_of(upstream, mean), upstream.id, i}
    end
  end
  table.sort(free, function(a, b)
    if a[1] == b[1] then return a[3] < b[3] end
    return a[1] < b[1]
  end)
  for _, upstream in ipairs(free) do
    local ticket = first_for(upstream[2])
    if ticket then return grant(ticket, upstream[2]), ticket.owner end
  end
end

local function dispatch(mine)
  local own, moved
  while call('HLEN', base .. 'waiting') > 0 do
    local letter, owner = next_grant()
    if not letter then break end
    moved = true
    if letter.id == mine then own = letter else mail(owner, letter) end
  end
  if moved then tell_moved() end
  return own
end
"""
