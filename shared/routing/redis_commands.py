"""What replicas ask of Redis: the commands of the script, behind its rules.

Arguments: pool, command, then the command's own; the answer is JSON or nil.
"""

from shared.routing.redis_rules import REDIS_RULES

ROUTING_SCRIPT = REDIS_RULES + """
-- commands

local function pace()
  local rate = 0
  for _, upstream in ipairs(spec.upstreams) do
    local seconds = tonumber(call('HGET', base .. 'service', upstream.id) or '0')
    local text = call('HGET', base .. 'gates', upstream.id)
    if seconds > 0 and not (text and decode(text)['until'] > now) then
      rate = rate + upstream.slots / seconds
    end
  end
  return rate > 0 and 1 / rate or 0
end

local function refusal(reason, ticket)
  local letter = {kind = 'refusal', id = ticket.id, reason = reason, cause = '',
                  seconds = (call('HLEN', base .. 'waiting') + 1) * pace()}
  if reason == 'closed' then
    local first
    for _, upstream in ipairs(spec.upstreams) do
      for _, gate in ipairs(gates_of(upstream.id, ticket)) do
        if not first or gate['until'] < first['until'] then first = gate end
      end
    end
    letter.cause = first and first.code or ''
    letter.seconds = first and math.max(0, first['until'] - now) or 0
  end
  return letter
end

local function lane_for(ticket)
  local upstream = ticket.affinity ~= '' and call('GET', base .. 'chat:' .. ticket.affinity)
  if not upstream or excluded(ticket, upstream) then return '' end
  local known = false
  for _, each in ipairs(spec.upstreams) do known = known or each.id == upstream end
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    known = known and gate['until'] <= now
  end
  return known and upstream or ''
end

local function leave(id, served)
  local text = call('HGET', base .. 'waiting', id)
  if text then
    give_up(decode(text))
    return tell_moved()
  end
  text = call('HGET', base .. 'running', id)
  if not text then return end
  local ticket = decode(text)
  call('HDEL', base .. 'running', id)
  disown(ticket)
  book('upstream', ticket.upstream, -1)
  book('user', ticket.user, -1)
  book('model', ticket.model, -1)
  for _, gate in ipairs(gates_of(ticket.upstream, ticket)) do
    if gate.probe == id then
      gate.probe = ''
      save_gate(gate)
    end
  end
  if served then
    local seconds = now - ticket.since
    local known = tonumber(call('HGET', base .. 'service', ticket.upstream) or seconds)
    local mean = known + (seconds - known) * 0.1
    call('HSET', base .. 'service', ticket.upstream, tostring(mean))
  end
  dispatch()
end

local function reap()
  for _, owner in ipairs(call('ZRANGEBYSCORE', root .. 'replicas', '-inf', now)) do
    call('ZREM', root .. 'replicas', owner)
    local owned = call('SMEMBERS', root .. 'owned:' .. owner)
    -- Those who wait first: no slot that comes free may go to one of them.
    for _, place in ipairs({'waiting', 'running'}) do
      for _, entry in ipairs(owned) do
        local pool, id = string.match(entry, '^(%S+) (.+)$')
        use(pool)
        local text = call('HGET', base .. place, id)
        if text and decode(text).owner == owner then leave(id, false) end
      end
    end
    call('DEL', root .. 'owned:' .. owner, root .. 'mail:' .. owner,
         root .. 'told:' .. owner)
  end
end

local function own(ticket)
  ticket.entered = now - ticket.age
  call('SADD', root .. 'owned:' .. ticket.owner, spec.pool .. ' ' .. ticket.id)
end

-- Who was known under another name, before Redis was lost to it, keeps what it had.
local function reown(place, ticket)
  local text = call('HGET', base .. place, ticket.id)
  if not text then return false end
  local known = decode(text)
  if known.owner ~= ticket.owner then
    disown(known)
    known.owner = ticket.owner
    call('SADD', root .. 'owned:' .. known.owner, spec.pool .. ' ' .. known.id)
    call('HSET', base .. place, known.id, encode(known))
  end
  return true
end

local function granted_letter(id)
  local text = call('HGET', base .. 'running', id)
  if not text then return nil end
  local ticket = decode(text)
  return {kind = 'grant', id = id, upstream = ticket.upstream,
          affinity = ticket.kept, probe = ticket.probing}
end

local commands = {}

function commands.enter(given, text)
  if call('GET', base .. 'spec') ~= text then call('SET', base .. 'spec', text) end
  use(ARGV[1])
  local ticket = decode(given)
  local granted = reown('running', ticket) and granted_letter(ticket.id)
  if granted then return granted end
  if reown('waiting', ticket) then return {kind = 'waits'} end
  if not possible(ticket) then return refusal('closed', ticket) end
  own(ticket)
  ticket.lane = lane_for(ticket)
  insert(ticket)
  granted = dispatch(ticket.id)
  if granted then return granted end
  local limit = spec.max_waiting[ticket.priority + 1]
  if not ticket.ahead and call('ZCARD', line(ticket.priority)) > limit then
    give_up(ticket)
    return refusal('busy', ticket)
  end
  return {kind = 'waits', sticky = ticket.lane ~= ''}
end

function commands.leave(id, served)
  leave(id, served == '1')
end

function commands.loosen(id)
  local text = call('HGET', base .. 'waiting', id)
  if not text then return end
  local ticket = decode(text)
  call('ZADD', lane(ticket.priority, ''), ticket.tag, ticket.member)
  dispatch()
end

function commands.adopt(given, upstream, text)
  call('SET', base .. 'spec', text)
  use(ARGV[1])
  local ticket = decode(given)
  local known = call('HGET', base .. 'running', ticket.id)
  if known and decode(known).upstream == upstream then
    reown('running', ticket)
    return
  end
  -- Here it still waits, or was given another slot, while its replica was away.
  leave(ticket.id, false)
  own(ticket)
  ticket.probing, ticket.kept = false, 'kept'
  run(ticket, upstream)
end

function commands.shut(name, seconds, code, paused)
  local lasting = {status_401 = true, status_403 = true, status_404 = true}
  local opening = now + tonumber(seconds)
  local text = call('HGET', base .. 'gates', name)
  local known = text and decode(text)
  if known and known['until'] > now then
    if paused == '1' and not known.paused then return end
    opening = math.max(opening, known['until'])
    if lasting[known.code] and not lasting[code] then code = known.code end
  end
  save_gate({name = name, ['until'] = opening, code = code,
             paused = paused == '1', probe = ''})
  for _, text in ipairs(call('HVALS', base .. 'waiting')) do
    local ticket = decode(text)
    if not possible(ticket) then
      give_up(ticket)
      mail(ticket.owner, refusal('closed', ticket))
    end
  end
end

function commands.reopen(...)
  call('HDEL', base .. 'gates', ...)
  dispatch()
end

-- For requests that believe they wait: slots given to them, and who is not known.
function commands.check(...)
  dispatch()
  local letters = {}
  for _, id in ipairs({...}) do
    local letter = granted_letter(id)
    if not letter and call('HEXISTS', base .. 'waiting', id) == 0 then
      letter = {kind = 'unknown', id = id}
    end
    letters[#letters + 1] = letter
  end
  return letters
end

function commands.standings(owner, ...)
  call('SREM', root .. 'told:' .. owner, spec.pool)
  local each = pace()
  local lines = {}
  for _, id in ipairs({...}) do
    local text = call('HGET', base .. 'waiting', id)
    if text then
      local ticket = decode(text)
      local higher = 0
      for priority = 0, ticket.priority - 1 do
        higher = higher + call('ZCARD', line(priority))
      end
      local ahead = higher + call('ZRANK', line(ticket.priority), ticket.member)
      local total = higher + call('ZCARD', line(ticket.priority))
      lines[#lines + 1] = {id, ahead + 1, total, (ahead + 1) * each}
    end
  end
  return lines
end

function commands.view()
  local seen = {waiting = {}, running = {}, gates = {}}
  for priority = 0, 2 do seen.waiting[priority + 1] = call('ZCARD', line(priority)) end
  for i, upstream in ipairs(spec.upstreams) do
    seen.running[i] = booked('upstream', upstream.id)
  end
  local gates = call('HVALS', base .. 'gates')
  for i, text in ipairs(gates) do
    local gate = decode(text)
    gate.seconds = math.max(0, gate['until'] - now)
    seen.gates[i] = gate
  end
  return seen
end

function commands.record(name, before, after)
  if (call('HGET', base .. 'records', name) or '') ~= before then return 0 end
  call('HSET', base .. 'records', name, after)
  return 1
end

function commands.beat(owner, seconds)
  local known = call('ZADD', root .. 'replicas', now + tonumber(seconds), owner) == 0
  return known and 1 or 0
end

use(ARGV[1])
reap()
use(ARGV[1])
answer = commands[command](unpack(ARGV, 3))
return answer ~= nil and encode(answer) or false
"""
